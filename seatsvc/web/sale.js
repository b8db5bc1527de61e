// From a choice of seats to a hold, and from the hold to a booking.

import { h, replace } from "./dom.js";
import { placeLabel } from "./labels.js";
import { Countdown } from "./countdown.js";
import * as panel from "./panel.js";
import { explain, formats, t } from "./texts.js";

const SEATS_MAX = 50;
const TRIES = 3; // while others are at the same seat
const AGAIN_MS = 1000;
const ALTERNATIVES = 3;

const kept = new Map(); // event id → what was chosen or held, for who comes back from signing in

export class Sale {
  /** `changed` is called when the choice has changed. */
  constructor(event, map, context, changed) {
    this.event = event;
    this.map = map;
    this.context = context;
    this.changed = changed;
    this.state = kept.get(event.id) ?? { seats: [], best: { quantity: 2, section: "" }, type: null };
    kept.set(event.id, this.state);
    this.running = false;
    this.body = h("div", { class: "stack" });
    this.notice = h("div", { role: "alert" });
    this.element = h("section", { class: "card sale", "aria-label": t("book.heading") }, this.notice, this.body);
    this.countdown = new Countdown(context.say, () => this.#expired());
  }

  /** Show what was chosen or held before. */
  begin() {
    const { hold, owner } = this.state;
    this.state.booking = null;
    if (hold && owner !== this.context.session.user?.id) this.state.hold = null;
    if (this.state.hold) this.countdown.start(this.state.hold);
    this.#mark();
    this.render();
  }

  /** Stop the clock. */
  end() {
    this.countdown.stop();
  }

  /** Choose a seat, or choose it no longer. */
  toggle(seat) {
    if (this.running || this.state.hold) return this.context.say(t("book.hold_first"));
    const chosen = this.state.seats.includes(seat.id);
    if (!chosen && seat.state !== "f") return this.#tell([this.#lost(seat, reasonOf(seat))]);
    if (!chosen && this.state.seats.length === SEATS_MAX) {
      return this.context.say(t("book.too_many", { count: SEATS_MAX }));
    }
    this.#choose(chosen ? this.state.seats.filter((id) => id !== seat.id) : [...this.state.seats, seat.id]);
    return this.context.say(t(chosen ? "book.removed" : "book.added", { place: placeLabel(seat) }));
  }

  /** Ask how many places in an area without numbers. */
  area(section) {
    if (this.state.hold) return this.context.say(t("book.hold_first"));
    this.state.booking = null;
    this.state.best.section = section.name;
    this.render();
    return this.body.querySelector("[name=quantity]").select();
  }

  /** The hall has changed: is what was chosen still there? */
  look() {
    if (this.running || this.state.hold) return;
    const gone = this.state.seats.map((id) => this.map.seat(id)).filter((seat) => !this.#stillMine(seat));
    if (!gone.length) return;
    this.#choose(this.state.seats.filter((id) => !gone.some((seat) => seat.id === id)));
    this.#tell(gone.map((seat) => this.#lost(seat, reasonOf(seat))));
  }

  render() {
    const { hold, booking } = this.state;
    const focused = this.body.contains(document.activeElement);
    if (booking) replace(this.body, panel.booked(booking, () => this.#more()));
    else if (hold) replace(this.body, panel.held(hold, this.#currency(), this.countdown.element, this.#holdActions()));
    else replace(this.body, panel.choice(this));
    if (focused) this.body.querySelector("h2").focus();
  }

  /** Hold the seats that were chosen. */
  hold() {
    const { seats, type } = this.state;
    const chosenType = type && this.typeIsOpen() ? { ticket_type_id: type } : {};
    return this.#order({ seat_ids: seats, ...chosenType });
  }

  /** Hold the best places of so many. */
  holdBest({ quantity, section }) {
    const where = section ? { section } : {};
    return this.#order({ event_id: this.event.id, quantity, ...where });
  }

  /** May the buyer choose among ticket types for the seats that were chosen? */
  typeIsOpen() {
    const { seats } = this.state;
    return seats.length > 0 && seats.every((id) => !this.map.hall.typeOf(this.map.seat(id)));
  }

  /** What the chosen seats cost together. */
  total() {
    const types = this.state.seats.map((id) => this.map.hall.typeOf(this.map.seat(id)) ?? this.#openType());
    const sum = types.reduce((all, type) => all + (type?.price ?? 0), 0);
    return types[0] ? formats.money(sum, types[0].currency) : null;
  }

  /** Forget the choice of this seat. */
  remove(id) {
    this.toggle(this.map.seat(id));
    (this.body.querySelector(".chosen button") ?? this.body.querySelector("h2"))?.focus();
  }

  #openType() {
    return this.map.hall.types.get(this.state.type) ?? this.map.hall.types.values().next().value;
  }

  #currency() {
    return this.map.hall.types.values().next().value?.currency;
  }

  // The seats of a hold that has just expired are held for some moments more.
  #stillMine(seat) {
    return seat.state === "f" || (seat.state === "h" && this.state.expired?.includes(seat.id));
  }

  #choose(ids) {
    this.state.seats = ids;
    this.state.booking = null;
    this.#tell([]);
    this.#mark();
    this.render();
  }

  #mark() {
    this.map.select(this.state.hold ? this.state.hold.seats.map((seat) => seat.id) : this.state.seats);
    this.changed();
  }

  #tell(parts) {
    replace(this.notice, parts.length ? h("div", { class: "notice bad stack" }, parts) : null);
    if (!parts.length) return;
    // On a narrow screen it may be far below the map.
    const { top, bottom } = this.notice.getBoundingClientRect();
    const seen = bottom > 0 && top < innerHeight;
    this.context.say(seen ? "" : this.notice.querySelector("p").textContent);
  }

  async #order(body) {
    const { api, session, go } = this.context;
    if (!session.user) return go(`#/sign-in?next=${encodeURIComponent(location.hash)}`);
    const hold = await this.#doing(() => api.post("/holds", body, { key: this.#keyFor(body) }));
    if (!hold) return null;
    Object.assign(this.state, { hold, owner: session.user.id, booking: null, expired: null });
    this.countdown.start(hold);
    this.#settle(t("book.held_now", { time: formats.duration(hold.expires_in) }));
    return null;
  }

  #holdActions() {
    return { book: () => this.#book(), extend: () => this.#extend(), release: () => this.#release() };
  }

  async #book() {
    const body = { hold_id: this.state.hold.id };
    const booking = await this.#doing(() => this.context.api.post("/bookings", body, { key: this.#keyFor(body) }));
    if (!booking) return;
    this.countdown.stop();
    Object.assign(this.state, { hold: null, seats: [], booking });
    this.#settle(t("book.booked_now"));
  }

  async #extend() {
    const hold = await this.#doing(() => this.context.api.post(`/holds/${this.state.hold.id}/extend`));
    if (!hold) return;
    this.state.hold = hold;
    this.countdown.start(hold);
    this.context.say(t("book.extended", { time: formats.duration(hold.expires_in) }));
  }

  async #release() {
    const { hold } = this.state;
    if ((await this.#doing(() => this.context.api.del(`/holds/${hold.id}`))) === undefined) return;
    this.#endHold();
    this.state.seats = [];
    this.#settle(t("book.released"));
  }

  #expired() {
    this.#endHold();
    this.#settle("");
    this.#tell([h("p", {}, t("book.expired"))]);
  }

  // What was held stays chosen, to be held anew.
  #endHold() {
    const ids = this.state.hold.seats.filter((seat) => seat.row !== null).map((seat) => seat.id);
    this.countdown.stop();
    Object.assign(this.state, { hold: null, seats: ids, expired: ids });
  }

  #more() {
    this.state.booking = null;
    this.#settle("");
  }

  #settle(text) {
    this.#tell([]);
    this.#mark();
    this.render();
    this.body.querySelector("h2").focus();
    if (text) this.context.say(text);
  }

  // One thing at a time. Undefined when it was refused, and the reason is shown.
  async #doing(work) {
    if (this.running) return undefined;
    this.running = true;
    this.element.setAttribute("aria-busy", "true");
    try {
      const done = await patiently(work);
      this.key = null;
      return done;
    } catch (problem) {
      this.#refused(problem);
      return undefined;
    } finally {
      this.running = false;
      this.element.removeAttribute("aria-busy");
    }
  }

  // The same key for the same wish until it is answered, so that nothing is done twice.
  #keyFor(body) {
    const wish = JSON.stringify(body);
    if (this.key?.wish !== wish) this.key = { wish, text: randomKey() };
    return this.key.text;
  }

  #refused(problem) {
    if (!["network", "unavailable"].includes(problem.code)) this.key = null;
    if (["hold_expired", "not_found"].includes(problem.code) && this.state.hold) return this.#expired();
    const blamed = (problem.data?.seats ?? []).filter(({ id }) => this.map.seat(id));
    if (blamed.length && !this.state.hold) {
      this.#choose(this.state.seats.filter((id) => !blamed.some((seat) => seat.id === id)));
    }
    const lost = blamed.map(({ id, reason }) => this.#lost(this.map.seat(id), reason));
    return this.#tell(lost.length ? lost : [h("p", {}, explain(problem)), allowance(problem)]);
  }

  #lost(seat, reason) {
    const type = this.map.hall.typeOf(seat);
    const suits = (other) => this.map.hall.typeOf(other) === type && !this.state.seats.includes(other.id);
    const others = this.map.hall.nearest(seat, ALTERNATIVES, suits);
    return panel.lost(seat, reason, others, (other) => {
      this.toggle(other);
      this.body.querySelector("h2").focus();
    });
  }
}

async function patiently(work) {
  for (let tried = 1; ; tried += 1) {
    try {
      return await work();
    } catch (problem) {
      const passing = ["busy", "idempotency_in_flight", "unavailable"].includes(problem.code);
      if (!passing || tried === TRIES) throw problem;
    }
    await new Promise((done) => setTimeout(done, AGAIN_MS));
  }
}

function reasonOf(seat) {
  return { h: "seat_held", b: "seat_taken", x: "seat_blocked" }[seat.state];
}

function allowance(problem) {
  const left = problem.data?.allowance?.remaining_seats;
  return typeof left === "number" ? h("p", {}, t.n("book.allowance", left)) : null;
}

function randomKey() {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}
