// A hall in memory: its sections, rows and places, and who has which.

const NAMES = { f: "free", h: "held", b: "booked", x: "blocked" };

export class Hall {
  /** From GET /events/{id}/layout, and the event's ticket types by id. */
  constructor(layout, types) {
    this.types = types;
    this.phrases = new Map(); // what labels.js has made
    this.seats = new Map();
    this.counts = { free: 0, held: 0, booked: 0, blocked: 0 };
    this.capacity = 0;
    this.sections = layout.sections.map((part) => this.#section(part));
    const [first] = this.seats.values();
    this.firstId = first ? first.id - first.place : null;
    for (const section of this.sections) this.counts.free += section.free;
  }

  /** The ticket type of a seat or a section; null where the buyer chooses. */
  typeOf({ type }) {
    const only = this.types.size === 1 ? [...this.types.values()][0] : null;
    return this.types.get(type) ?? only;
  }

  /** Take over GET /events/{id}/availability. Returns the seats that changed. */
  update(availability) {
    const changed = [];
    availability.sections.forEach((part, n) => {
      const section = this.sections[n];
      section.free = part.free;
      section.states = part.states;
      section.seats.forEach((seat, place) => {
        if (seat.state !== part.states[place]) changed.push(seat);
        seat.state = part.states[place];
      });
    });
    this.counts = availability.counts;
    return changed;
  }

  /** Take over `[{id, state}]`. Returns the numbered seats that changed; null: ask for it all. */
  apply(changes, counts) {
    const changed = [];
    let whole = true;
    for (const { id, state } of changes) {
      const seat = this.seats.get(id);
      if (!seat) whole = this.#applyUnnumbered(id, state) && whole;
      else if (seat.state !== state) {
        seat.section.free += (state === "f") - (seat.state === "f");
        seat.state = state;
        changed.push(seat);
      }
    }
    if (counts) this.counts = counts;
    return whole ? changed : null;
  }

  /** The free seats nearest to this one, nearest first. */
  nearest(seat, count, suits = () => true) {
    const far = (other) =>
      Math.hypot(other.x - seat.x, 1.5 * (other.y - seat.y)) + (other.section === seat.section ? 0 : 8);
    return [...this.seats.values()]
      .filter((other) => other.state === "f" && other !== seat && suits(other))
      .sort((one, other) => far(one) - far(other))
      .slice(0, count);
  }

  #section(part) {
    const section = {
      name: part.name,
      general: part.general_admission,
      type: part.ticket_type_id,
      start: this.capacity,
      rows: [],
      seats: [],
    };
    for (const row of part.rows ?? []) section.rows.push(this.#row(section, row));
    section.places = part.places ?? section.seats.length;
    section.free = section.places;
    this.capacity = section.start + section.places;
    return section;
  }

  #row(section, plan) {
    const row = { name: plan.name, x: plan.x, y: plan.y };
    row.seats = plan.seats.map(({ id, number, ticket_type_id: type, accessible }) => {
      const place = section.start + section.seats.length;
      const seat = { id, number, type, accessible, section, row, place, state: "f", x: 0, y: 0 };
      section.seats.push(seat);
      this.seats.set(id, seat);
      return seat;
    });
    return row;
  }

  // Ids follow each other through the hall, so an unnumbered place's section can be told by its id.
  #applyUnnumbered(id, state) {
    const place = id - this.firstId;
    const section = this.sections.find(
      (part) => part.general && part.start <= place && place < part.start + part.places);
    if (this.firstId === null || !section?.states) return false;
    const at = place - section.start;
    section.free += (state === "f") - (section.states[at] === "f");
    section.states = section.states.slice(0, at) + state + section.states.slice(at + 1);
    return true;
  }
}

/** The name of a state's letter: free, held, booked, blocked. */
export function stateName(letter) {
  return NAMES[letter];
}
