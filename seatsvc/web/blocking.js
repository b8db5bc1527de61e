// The hall as its organizer sees it, and the seats that are kept off sale.

import { h } from "./dom.js";
import { sign } from "./shapes.js";
import { HallMap } from "./map.js";
import { explain, formats, t } from "./texts.js";

const ONCE_MAX = 1000; // seats in a call

export class Blocking {
  constructor(event, layout, types, context) {
    this.event = event;
    this.context = context;
    this.map = new HallMap(layout, {
      types,
      onPick: (seat) => this.#toggle(seat),
      onArea: () => context.say(t("organize.only_numbered")),
      selectable: open,
    });
    this.chosen = h("p", { role: "status" });
    this.tools = h("div", { class: "actions" },
      this.#button("block", () => this.#send("post", "f")),
      this.#button("unblock", () => this.#send("del", "x")),
      this.#button("whole_row", () => this.#row()),
      this.#button("clear", () => this.#choose([])));
    this.element = h("section", { class: "card stack", "aria-labelledby": "seats" },
      h("h2", { id: "seats" }, t("organize.seats")),
      event.status === "cancelled" ? null : [h("p", { class: "muted" }, t("organize.map_help")), this.chosen, this.tools],
      this.#legend(types), this.map.element);
    this.look();
  }

  /** After the hall changed. */
  look() {
    const seats = this.#seats().filter(open);
    if (seats.length < this.map.selected.size) this.map.select(seats.map((seat) => seat.id));
    const have = (state) => seats.some((seat) => seat.state === state);
    const enabled = { block: have("f"), unblock: have("x"), whole_row: seats.length > 0, clear: seats.length > 0 };
    for (const button of this.tools.children) button.setAttribute("aria-disabled", String(!enabled[button.dataset.does]));
    this.chosen.textContent = t.n("organize.chosen", seats.length);
  }

  #legend(types) {
    const kinds = [...this.map.kinds].map(([id, kind]) =>
      h("li", {}, sign(kind), h("span", {}, types.get(id).name), h("strong", {}, price(types.get(id)))));
    const states = Object.entries({ held: "h", sold: "b", blocked: "x" }).map(([name, state]) =>
      h("li", {}, sign(0, state), h("span", {}, t(`organize.${name}`))));
    return h("div", { class: "legend" }, h("ul", {}, kinds, states));
  }

  // Not disabled, which would take the focus away from who has just used it.
  #button(does, act) {
    const onclick = ({ currentTarget }) => currentTarget.ariaDisabled !== "true" && act();
    const looks = does === "block" || does === "unblock" ? "button small" : "button quiet small";
    return h("button", { class: looks, type: "button", dataset: { does }, onclick }, t(`organize.${does}`));
  }

  #seats() {
    return [...this.map.selected].map((id) => this.map.seat(id));
  }

  #toggle(seat) {
    if (this.event.status === "cancelled" || !open(seat)) return;
    this.last = seat;
    const ids = new Set(this.map.selected);
    if (!ids.delete(seat.id)) ids.add(seat.id);
    this.#choose([...ids]);
  }

  #row() {
    const { seats } = this.last.row;
    this.#choose([...this.map.selected, ...seats.filter(open).map((seat) => seat.id)]);
  }

  #choose(ids) {
    this.map.select(ids);
    this.look();
  }

  async #send(method, state) {
    const { api, say } = this.context;
    const ids = this.#seats().filter((seat) => seat.state === state).map((seat) => seat.id);
    try {
      for (let n = 0; n < ids.length; n += ONCE_MAX) {
        await api[method](`/events/${this.event.id}/blocks`, { seat_ids: ids.slice(n, n + ONCE_MAX) });
      }
      this.map.update(await api.get(`/events/${this.event.id}/availability`));
      this.#choose([]);
      say(t.n(state === "f" ? "organize.blocked_done" : "organize.unblocked_done", ids.length));
    } catch (problem) {
      say(explain(problem));
    }
  }
}

// Neither booked nor held.
function open({ state }) {
  return state === "f" || state === "x";
}

function price({ price: amount, currency }) {
  return formats.money(amount, currency);
}
