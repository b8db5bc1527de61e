// What stands beside the hall: the choice, the hold, the booking, and what went wrong.

import { h } from "./dom.js";
import { placeLabel, priceLabel } from "./labels.js";
import { formats, t } from "./texts.js";

const QUANTITY_MAX = 50;

/** The seats that were chosen, or the wish for a number of the best. */
export function choice(sale) {
  const { seats } = sale.state;
  return [
    heading("book.heading"),
    seats.length ? chosen(sale) : h("p", { class: "muted" }, t("book.none")),
    h("hr"),
    best(sale),
    sale.context.session.user ? null : h("p", { class: "muted small" }, t("book.will_sign_in")),
  ];
}

/** A hold, its clock, and what can be done with it. */
export function held(hold, currency, clock, { book, extend, release }) {
  const total = hold.seats.reduce((sum, seat) => sum + seat.price, 0);
  return [
    heading("book.held"),
    clock,
    hold.adjacent === false && hold.seats.length > 1 ? h("p", { class: "notice warn" }, t("book.apart")) : null,
    places(hold.seats, currency),
    sum(currency && formats.money(total, currency)),
    h("button", { class: "button wide", type: "button", onclick: book }, t("book.book")),
    h("div", { class: "actions" },
      h("button", { class: "button quiet", type: "button", onclick: extend }, t("book.extend")),
      h("button", { class: "button quiet", type: "button", onclick: release }, t("book.release"))),
  ];
}

/** The confirmation. */
export function booked(booking, more) {
  return [
    h("h2", { tabindex: -1, class: "done" }, h("span", { "aria-hidden": "true" }, "✓ "), t("book.booked")),
    places(booking.seats, booking.currency),
    sum(booking.currency && formats.money(booking.total, booking.currency)),
    h("p", { class: "muted small" }, t("book.number", { id: booking.id })),
    h("div", { class: "actions" },
      h("a", { class: "button", href: "#/bookings" }, t("shell.bookings")),
      h("button", { class: "button quiet", type: "button", onclick: more }, t("book.more"))),
  ];
}

/** A seat that went to somebody else, and those that are nearest to it. */
export function lost(seat, reason, others, take) {
  const buttons = others.map((other) =>
    h("button", { class: "button quiet small", type: "button", onclick: () => take(other) }, placeLabel(other)));
  return h("div", {},
    h("p", {}, h("strong", {}, placeLabel(seat)), ": ", t(`book.${reason}`)),
    others.length ? h("p", {}, t("book.nearest")) : null,
    h("div", { class: "actions" }, buttons));
}

/** Seats with their prices; of places without numbers, how many. */
export function places(seats, currency) {
  const lines = new Map();
  for (const seat of seats) {
    const key = seat.row === null ? `${seat.section} ${seat.price}` : String(seat.id);
    lines.set(key, { seat, count: (lines.get(key)?.count ?? 0) + 1 });
  }
  return h("ul", { class: "places" }, [...lines.values()].map(({ seat, count }) =>
    h("li", {},
      h("span", {}, count > 1 ? `${formats.number(count)} × ${placeLabel(seat)}` : placeLabel(seat)),
      currency ? h("span", { class: "number" }, formats.money(seat.price * count, currency)) : null)));
}

function heading(key) {
  return h("h2", { tabindex: -1 }, t(key));
}

function sum(text) {
  return text ? h("p", { class: "sum" }, h("span", {}, t("book.total")), h("strong", {}, text)) : null;
}

function chosen(sale) {
  const { hall } = sale.map;
  const lines = sale.state.seats.map((id) => sale.map.seat(id)).map((seat) =>
    h("li", {},
      h("span", {}, placeLabel(seat)),
      h("span", { class: "number" }, priceLabel(hall, seat)),
      h("button", {
        class: "button quiet small icon", type: "button", onclick: () => sale.remove(seat.id),
        "aria-label": t("book.remove", { place: placeLabel(seat) }),
      }, h("span", { "aria-hidden": "true" }, "✕"))));
  return h("div", { class: "stack chosen" },
    h("ul", { class: "places" }, lines),
    sale.typeIsOpen() && hall.types.size > 1 ? typeChoice(sale) : null,
    sum(sale.total()),
    h("button", { class: "button wide", type: "button", onclick: () => sale.hold() },
      t.n("book.hold", sale.state.seats.length)));
}

function typeChoice(sale) {
  const options = [...sale.map.hall.types.values()].map((type) =>
    h("option", { value: type.id, selected: type.id === sale.state.type },
      `${type.name} · ${formats.money(type.price, type.currency)}`));
  const change = (event) => {
    sale.state.type = Number(event.target.value);
    sale.render();
    sale.element.querySelector("#ticket-type").focus();
  };
  return h("div", { class: "field" },
    h("label", { for: "ticket-type" }, t("book.ticket_type")),
    h("select", { id: "ticket-type", onchange: change }, options));
}

function best(sale) {
  const { best: wish } = sale.state;
  const places = sale.map.hall.sections.map(({ name }) =>
    h("option", { value: name, selected: name === wish.section }, name));
  const submit = (event) => {
    event.preventDefault();
    sale.holdBest(wish);
  };
  const change = (event) => {
    const { quantity, section } = event.currentTarget.elements;
    Object.assign(wish, { quantity: quantity.valueAsNumber, section: section.value });
  };
  return h("form", { class: "stack", onsubmit: submit, oninput: change },
    h("h3", {}, t("book.best")),
    h("div", { class: "fields" },
      h("div", { class: "field" },
        h("label", { for: "quantity" }, t("book.quantity")),
        h("input", { id: "quantity", name: "quantity", type: "number", min: 1, max: QUANTITY_MAX, required: true, value: wish.quantity })),
      h("div", { class: "field" },
        h("label", { for: "where" }, t("book.where")),
        h("select", { id: "where", name: "section" }, h("option", { value: "" }, t("book.anywhere")), places))),
    h("button", { class: "button quiet wide", type: "submit" }, t("book.hold_best")));
}
