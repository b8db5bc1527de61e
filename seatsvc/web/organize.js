// For organizers: all my events, and one of them as it sells.

import { control } from "./control.js";
import { h } from "./dom.js";
import { organizes, refuse, status, when } from "./own_events.js";
import { formats, t } from "./texts.js";

const PAGES_MAX = 50;

export async function show(main, params, context) {
  if (!organizes(context.session.user)) return refuse(main);
  return params.id ? control(main, params.id, context) : list(main, context);
}

async function list(main, { api, session }) {
  const { user } = session;
  const events = (await allEvents(api)).filter((each) => user.role === "admin" || each.organizer_id === user.id);
  const create = h("a", { class: "button", href: "#/organize/new" }, t(events.length ? "organize.new" : "organize.first"));
  main.classList.add("middle");
  main.append(
    h("div", { class: "spread" }, h("h1", {}, t(user.role === "admin" ? "events.all" : "organize.title")), create),
    events.length ? h("ul", { class: "stack own" }, events.map(entry)) : h("p", { class: "card" }, t("organize.none")));
}

// The list knows no owners. With a date it shows what is over, without one what is not.
async function allEvents(api) {
  const past = `starts_before=${new Date().toISOString()}`;
  const queries = ["on_sale", "cancelled"].flatMap((status) => [`status=${status}`, `status=${status}&${past}`]);
  const found = await Promise.all(queries.map((query) => pages(api, query)));
  const byId = new Map(found.flat().map((event) => [event.id, event]));
  return [...byId.values()].sort((one, other) => other.id - one.id);
}

async function pages(api, query) {
  const items = [];
  let cursor = "";
  for (let n = 0; n < PAGES_MAX && cursor !== null; n++) {
    const page = await api.get(`/events?limit=100&${query}${cursor && `&cursor=${cursor}`}`);
    items.push(...page.items);
    cursor = page.next_cursor;
  }
  return items;
}

function entry(event) {
  const sold = { sold: formats.number(event.booked), capacity: formats.number(event.capacity) };
  return h("li", { class: "card own-event" },
    h("div", { class: "spread" },
      h("h2", {}, h("a", { href: `#/organize/${event.id}` }, event.name)), status(event)),
    h("p", { class: "muted" }, [when(event), event.venue].filter(Boolean).join(" · ")),
    h("progress", { max: event.capacity, value: event.booked, "aria-hidden": "true" }),
    h("p", { class: "small" }, t("organize.sold_of", sold)));
}
