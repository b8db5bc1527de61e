// All events: a search, and a card for each.

import { h, replace } from "./dom.js";
import { formats, t } from "./texts.js";

const PAUSE_MS = 250;
const PAGE = 24;

let wish = {}; // what was looked for last, for who comes back

export async function show(main, _, { api, explain, say }) {
  const cards = h("ul", { class: "cards" });
  const status = h("p", { class: "muted", role: "status" });
  const more = h("button", { class: "button quiet", type: "button", hidden: true, onclick: () => load(cursor) }, t("events.more"));
  let cursor = null;
  let timer = 0;
  let running = null;

  async function load(after = null) {
    running?.abort();
    running = new AbortController();
    const { signal } = running;
    try {
      const page = await api.get(`/events?${query(wish, after)}`, { signal });
      const found = page.items.map(card);
      if (after) cards.append(...found);
      else replace(cards, found);
      cursor = page.next_cursor;
      more.hidden = !cursor;
      status.textContent = cards.childElementCount ? "" : t("events.none");
    } catch (problem) {
      if (problem.name !== "AbortError") say(explain(problem));
    }
  }

  function search(form) {
    wish = Object.fromEntries(new FormData(form));
    clearTimeout(timer);
    timer = setTimeout(load, PAUSE_MS);
  }

  main.classList.add("events");
  main.append(h("h1", {}, t("events.heading")), searchForm(search), status, cards, h("p", { class: "actions" }, more));
  await load();
  return () => {
    clearTimeout(timer);
    running?.abort();
  };
}

function query({ q, from, to }, cursor) {
  const params = new URLSearchParams({ limit: PAGE });
  if (q?.trim()) params.set("q", q.trim());
  if (from) params.set("starts_after", new Date(`${from}T00:00`).toISOString());
  if (to) params.set("starts_before", new Date(`${to}T23:59:59.999`).toISOString());
  if (cursor) params.set("cursor", cursor);
  return params;
}

function searchForm(search) {
  const field = (name, type, value) =>
    h("div", { class: "field" },
      h("label", { for: `search-${name}` }, t(`events.${name}`)),
      h("input", { id: `search-${name}`, name, type, value }));
  const changed = (event) => {
    event.preventDefault();
    search(event.currentTarget);
  };
  return h("form", { class: "fields search", role: "search", oninput: changed, onsubmit: changed },
    field("q", "search", wish.q ?? ""), field("from", "date", wish.from ?? ""), field("to", "date", wish.to ?? ""));
}

function card(event) {
  const when = event.starts_at
    ? h("time", { datetime: event.starts_at }, `${formats.date(event.starts_at)}, ${formats.time(event.starts_at)}`)
    : t("events.open_ended");
  const part = event.available / event.capacity;
  return h("li", { class: "card event-card" },
    h("p", { class: "when" }, when),
    h("h2", {}, h("a", { href: `#/events/${event.id}` }, event.name)),
    event.venue ? h("p", { class: "muted" }, event.venue) : null,
    event.description ? h("p", { class: "teaser" }, event.description) : null,
    h("div", { class: "left" },
      h("meter", { min: 0, max: 1, low: 0.15, value: part, "aria-hidden": "true" }),
      h("p", { class: "small" }, event.available ? t.n("events.free", event.available) : t("events.sold_out"))));
}
