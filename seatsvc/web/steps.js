// The hall as lists: from the section to the row to the seat. All that the map can do, without it.

import { h, replace } from "./dom.js";
import { priceLabel, seatLabel } from "./labels.js";
import { sign } from "./shapes.js";
import { t } from "./texts.js";

export class StepList {
  /** For a HallMap, whose hall and whose choice it shows. */
  constructor(map) {
    this.map = map;
    this.places = { section: null, row: null };
    this.steps = ["section", "row", "seat"].map((name, n) => this.#step(name, n + 1));
    this.element = h("div", { class: "steps" }, this.steps);
    this.shown = []; // what is refreshed: functions
    this.#render();
  }

  /** Show the places as they are now. */
  refresh() {
    for (const each of this.shown) each();
  }

  #step(name, number) {
    return h("section", { class: "step", "aria-label": t(`map.step_${name}`) },
      h("h3", {}, h("span", { class: "badge", "aria-hidden": "true" }, String(number)), " ", t(`map.step_${name}`)),
      h("ul"));
  }

  #render() {
    this.shown = [];
    const { section, row } = this.places;
    const sections = this.map.hall.sections.map((each) => this.#section(each));
    const rows = section && !section.general ? section.rows.map((each) => this.#row(each)) : [];
    const seats = row ? row.seats.map((seat) => this.#seat(seat)) : [];
    [sections, rows, seats].forEach((buttons, n) => {
      this.steps[n].hidden = buttons.length === 0;
      replace(this.steps[n].lastChild, buttons.map((button) => h("li", {}, button)));
    });
    this.refresh();
  }

  #section(section) {
    const count = h("span", { class: "muted" });
    const button = this.#choice(section === this.places.section, () => this.#into({ section }),
      this.#sign(section), h("span", {}, section.name), h("span", {}, priceLabel(this.map.hall, section)), count);
    this.shown.push(() => (count.textContent = t.n("map.free_places", section.free)));
    return button;
  }

  #row(row) {
    const count = h("span", { class: "muted" });
    const button = this.#choice(row === this.places.row, () => this.#into({ row }),
      h("span", {}, t("map.row", { row: row.name })), count);
    this.shown.push(() => {
      const free = row.seats.filter((seat) => seat.state === "f").length;
      count.textContent = t.n("map.free_places", free);
    });
    return button;
  }

  #seat(seat) {
    const button = h("button", { class: "choice", type: "button", role: "checkbox", onclick: () => this.map.onPick(seat) });
    this.shown.push(() => this.#showSeat(seat, button));
    return button;
  }

  #showSeat(seat, button) {
    const chosen = this.map.selected.has(seat.id);
    const looks = `${seat.state} ${chosen}`;
    if (button.dataset.looks === looks) return;
    button.dataset.looks = looks;
    button.setAttribute("aria-checked", chosen);
    button.setAttribute("aria-label", seatLabel(this.map.hall, seat, chosen));
    if (chosen || this.map.selectable(seat)) button.removeAttribute("aria-disabled");
    else button.setAttribute("aria-disabled", "true");
    replace(button, this.#sign(seat, chosen ? "f" : seat.state), h("span", {}, seat.number),
      seat.accessible && h("span", { class: "muted" }, t("map.accessible")),
      chosen && h("span", { class: "tick" }, "✓"));
  }

  #sign(place, state = "f") {
    const type = this.map.hall.typeOf(place);
    return sign(type ? this.map.kinds.get(type.id) : 0, state);
  }

  #choice(chosen, onclick, ...children) {
    return h("button", { class: "choice", type: "button", "aria-pressed": String(chosen), onclick }, children);
  }

  #into(place) {
    if (place.section?.general) return this.map.onArea(place.section);
    const step = place.section ? 1 : 2;
    this.places = place.section ? { section: place.section, row: null } : { ...this.places, ...place };
    this.#render();
    return this.steps[step].querySelector("button")?.focus();
  }
}
