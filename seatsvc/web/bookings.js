// My bookings, and cancelling them.

import { h, replace } from "./dom.js";
import { places } from "./panel.js";
import { explain, formats, t } from "./texts.js";

export async function show(main, _, context) {
  const { api } = context;
  const list = h("ul", { class: "stack" });
  const more = h("button", { class: "button quiet", type: "button", hidden: true }, t("mine.more"));
  const status = h("select", { id: "status", onchange: () => load() },
    ["", "active", "cancelled"].map((value) => h("option", { value }, t(`mine.${value || "all"}`))));
  const events = new Map();
  let cursor = null;

  function eventOf(id) {
    if (!events.has(id)) events.set(id, api.get(`/events/${id}`).catch(() => null));
    return events.get(id);
  }

  async function load(after = null) {
    const params = new URLSearchParams({ ...(status.value && { status: status.value }), ...(after && { cursor: after }) });
    const page = await api.get(`/bookings?${params}`);
    const items = await Promise.all(page.items.map(async (booking) => card(booking, await eventOf(booking.event_id), cancel)));
    if (!after) replace(list);
    list.append(...items);
    if (!list.childElementCount) replace(list, h("li", { class: "card" }, nothing()));
    cursor = page.next_cursor;
    more.hidden = !cursor;
  }

  async function cancel(booking, event, place) {
    if (!(await sure(booking, event))) return;
    try {
      const cancelled = await api.del(`/bookings/${booking.id}`);
      const changed = card(cancelled, event, cancel);
      place.replaceWith(changed);
      context.say(t("mine.cancelled_now"));
      changed.querySelector("h2").focus();
    } catch (problem) {
      place.append(h("p", { class: "notice bad", role: "alert" }, explain(problem)));
    }
  }

  more.addEventListener("click", () => load(cursor).catch((problem) => context.say(explain(problem))));
  main.classList.add("middle", "stack");
  main.append(
    h("div", { class: "spread" }, h("h1", {}, t("mine.heading")),
      h("div", { class: "field" }, h("label", { class: "hidden", for: "status" }, t("mine.show")), status)),
    list, h("p", { class: "actions" }, more));
  await load();
}

function nothing() {
  return h("div", { class: "stack" },
    h("p", {}, t("mine.none")),
    h("a", { class: "button", href: "#/" }, t("events.all")));
}

function card(booking, event, cancel) {
  const active = booking.status === "active";
  const place = h("li", { class: "card stack" },
    h("div", { class: "spread" },
      h("h2", { tabindex: -1 }, h("a", { href: `#/events/${booking.event_id}` }, event?.name ?? t("mine.event_gone"))),
      h("span", { class: `badge ${active ? "good" : ""}` }, t(active ? "mine.is_active" : "mine.is_cancelled"))),
    h("p", { class: "muted" }, when(event)),
    places(booking.seats, booking.currency),
    booking.currency
      ? h("p", { class: "sum" }, h("span", {}, t("book.total")), h("strong", {}, formats.money(booking.total, booking.currency)))
      : null,
    h("div", { class: "spread" },
      h("p", { class: "muted small" }, t("book.number", { id: booking.id })),
      active
        ? h("button", { class: "button danger small", type: "button", onclick: () => cancel(booking, event, place) }, t("mine.cancel"))
        : null));
  return place;
}

function when(event) {
  if (!event) return null;
  const time = event.starts_at
    ? `${formats.date(event.starts_at)}, ${formats.time(event.starts_at)}`
    : t("events.open_ended");
  return [time, event.venue].filter(Boolean).join(" · ");
}

// The question before what cannot be undone. Escape is a no.
function sure(booking, event) {
  const dialog = h("dialog", { class: "stack", "aria-labelledby": "sure" },
    h("h2", { id: "sure" }, t("mine.sure")),
    h("p", {}, event?.name),
    places(booking.seats, booking.currency),
    h("div", { class: "actions" },
      h("button", { class: "button danger", type: "button", onclick: () => dialog.close("yes") }, t("mine.cancel")),
      h("button", { class: "button quiet", type: "button", onclick: () => dialog.close("no") }, t("mine.keep"))));
  document.body.append(dialog);
  dialog.showModal();
  return new Promise((answer) => {
    dialog.addEventListener("close", () => {
      dialog.remove();
      answer(dialog.returnValue === "yes");
    });
  });
}
