// The hall as a picture: one SVG, one group that is zoomed and panned, a path for each seat.

import { h, replace, svg } from "./dom.js";
import { arrange, towards } from "./geometry.js";
import { Hall } from "./hall.js";
import { seatLabel } from "./labels.js";
import { colour, kindsOf, outline } from "./shapes.js";
import { t } from "./texts.js";
import { Zoom } from "./zoom.js";

const SEATS_AT_ONCE = 10_000;
const LARGE = 2000; // seats: their painting is spared
const NUMBERS_FROM = 19; // pixels for a seat
const NUMBERS_MAX = 1200;
const WAYS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const ANYTHING = () => true;
const SEAT = svg("path", { role: "checkbox", tabindex: -1, "aria-checked": "false" });

export class HallMap {
  /**
   * From GET /events/{id}/layout. `types`: ticket types by id; `onPick(seat)`; `onArea(section)`
   * for places without numbers; `selectable(seat)`.
   */
  constructor(layout, { types, onPick, onArea = () => {}, selectable = ANYTHING }) {
    this.hall = new Hall(layout, types);
    this.kinds = kindsOf(types);
    this.onPick = onPick;
    this.onArea = onArea;
    this.selectable = selectable;
    this.selected = new Set();
    this.items = new Map(); // element → what it stands for: a seat or a section
    this.paths = new Map(); // seat id → element
    this.bounds = arrange(this.hall, matchMedia("(max-width: 48rem)").matches ? 0.75 : 1.9);
    this.bySection = this.hall.seats.size > SEATS_AT_ONCE;
    this.#build();
    for (const section of this.hall.sections) this.#drawSection(section);
    this.#entry();
  }

  /** Take over GET /events/{id}/availability. */
  update(availability) {
    this.#changed(this.hall.update(availability));
  }

  /** Take over `[{id, state}]` and the new counts. False: the whole availability is needed. */
  apply(changes, counts) {
    const changed = this.hall.apply(changes, counts);
    this.#changed(changed ?? []);
    return changed !== null;
  }

  /** Mark these seats as chosen, and no others. */
  select(ids) {
    const before = this.selected;
    this.selected = new Set(ids);
    for (const id of new Set([...before, ...this.selected])) {
      const seat = this.hall.seats.get(id);
      if (seat) this.#redraw(seat);
    }
    this.#ticks();
    this.#numbers();
  }

  /** The seat with this id. */
  seat(id) {
    return this.hall.seats.get(id);
  }

  /** Step into a section. */
  enter(section) {
    if (this.bySection && this.entered !== section) {
      if (this.entered) this.#drawBlock(this.entered);
      this.entered = section;
      this.#drawSeats(section);
      this.#ticks();
      this.#entry();
    }
    this.back.hidden = !this.bySection;
    this.zoom.fit(section.box);
  }

  /** Show the whole hall. */
  leave() {
    if (this.entered) {
      const { block } = this.#drawBlock(this.entered);
      this.entered = null;
      this.#entry();
      this.#focus(block);
    }
    this.back.hidden = true;
    this.zoom.fit();
  }

  #build() {
    this.parts = svg("g");
    this.overlay = svg("g", { class: "overlay", "aria-hidden": "true" });
    const place = `translate(${this.bounds.width / 2} 0) scale(${this.bounds.stage})`;
    const stage = svg("g", { class: "stage", "aria-hidden": "true", transform: place },
      svg("rect", { x: -4, y: 0.2, width: 8, height: 1.3, rx: 0.4 }),
      svg("text", { y: 1.1 }, t("map.stage")));
    const group = svg("g", {}, stage, this.parts, this.overlay);
    this.canvas = svg("svg", {
      class: "hall", role: "group", "aria-label": t("map.label"),
      onclick: (event) => this.#click(event),
      onkeydown: (event) => this.#key(event),
      onfocusin: (event) => this.#focused(event),
    }, group);
    this.back = h("button", { class: "button small back", type: "button", hidden: true, onclick: () => this.leave() },
      t("map.all_sections"));
    const large = this.hall.seats.size > LARGE;
    const frame = h("div", { class: large ? "frame large" : "frame" }, this.canvas);
    this.element = h("div", { class: "map" }, frame, this.back,
      h("div", { class: "zoom", role: "group", "aria-label": t("map.zoom") },
        this.#tool("+", "map.zoom_in", () => this.zoom.in()),
        this.#tool("−", "map.zoom_out", () => this.zoom.out()),
        this.#tool("⤢", "map.zoom_all", () => this.leave())));
    this.zoom = new Zoom(frame, this.canvas, group, this.bounds, large, () => this.#numbers());
  }

  #tool(sign, key, onclick) {
    return h("button", { class: "button quiet small icon", type: "button", "aria-label": t(key), title: t(key), onclick },
      h("span", { "aria-hidden": "true" }, sign));
  }

  #drawSection(section) {
    section.part = svg("g", { role: "group", "aria-label": section.name });
    this.parts.append(section.part);
    if (section.general || this.bySection) this.#drawBlock(section);
    else this.#drawSeats(section);
  }

  // A section as one thing to press: an area without numbers, or one to step into.
  #drawBlock(section) {
    this.#forget(section);
    const { x, y, width, height } = section.box;
    const kind = this.#kind(section) ?? 0;
    const size = Math.min(height / 4, (1.5 * width) / Math.max(8, section.name.length));
    const block = svg("g", { class: `block ${section.general ? "area" : ""}`, role: "button", tabindex: -1 },
      svg("rect", { x, y, width, height, rx: 0.7 }),
      svg("g", { transform: `translate(${x + width / 2} ${y + height / 2}) scale(${size})` },
        svg("path", { class: `seat ${colour(kind)}`, d: outline(0, -1.1, kind, "f") }),
        svg("text", { y: 0.1, class: "name" }, section.name),
        svg("text", { y: 1.2, class: "free" })));
    replace(section.part, block);
    this.items.set(block, { section, x: x + width / 2, y: y + height / 2 });
    section.block = block;
    this.#labelBlock(section);
    return section;
  }

  #labelBlock({ block, name, free, general }) {
    const count = t.n("map.free_places", free);
    block.querySelector(".free").textContent = count;
    block.setAttribute("aria-label", t(general ? "map.area" : "map.section", { name, free: count }));
  }

  #drawSeats(section) {
    this.#forget(section);
    const { x, y, width, height } = section.box;
    const rows = section.rows.map((row) => this.#drawRow(row));
    replace(section.part,
      svg("rect", { class: "floor", x, y, width, height, rx: 0.7 }),
      svg("text", { class: "title", x: x + width / 2, y: y + 1.05, "aria-hidden": "true" }, section.name),
      rows);
  }

  #drawRow(row) {
    const [first, last] = [row.seats[0], row.seats.at(-1)];
    const name = (x) => svg("text", { class: "row", x, y: first.y + 0.2, "aria-hidden": "true" }, row.name);
    return svg("g", { role: "group", "aria-label": t("map.row", { row: row.name }) },
      name(first.x - 0.95), row.seats.map((seat) => this.#drawSeat(seat)), name(last.x + 0.95));
  }

  #drawSeat(seat) {
    const path = SEAT.cloneNode();
    this.items.set(path, seat);
    this.paths.set(seat.id, path);
    this.#redraw(seat);
    return path;
  }

  #redraw(seat) {
    const path = this.paths.get(seat.id);
    if (!path) return;
    const chosen = this.selected.has(seat.id);
    const kind = this.#kind(seat) ?? 0;
    const state = chosen ? "f" : seat.state;
    const looks = chosen ? "chosen" : state === "f" ? colour(kind) : `taken ${state}`;
    path.setAttribute("d", outline(seat.x, seat.y, kind, state));
    path.setAttribute("class", `seat ${looks}${seat.accessible ? " accessible" : ""}`);
    path.setAttribute("aria-label", seatLabel(this.hall, seat, chosen));
    path.ariaChecked = String(chosen);
    path.ariaDisabled = chosen || this.selectable(seat) ? null : "true";
  }

  #kind(place) {
    const type = this.hall.typeOf(place);
    return type ? this.kinds.get(type.id) : null;
  }

  #forget(section) {
    for (const seat of section.seats) {
      this.items.delete(this.paths.get(seat.id));
      this.paths.delete(seat.id);
    }
    if (section.block) this.items.delete(section.block);
    section.block = null;
  }

  #changed(seats) {
    for (const seat of seats) this.#redraw(seat);
    for (const section of this.hall.sections) if (section.block) this.#labelBlock(section);
    if (seats.length) this.#numbers();
  }

  // Numbers where they can be read: of the free seats in view.
  #numbers() {
    this.numbers ??= this.overlay.appendChild(svg("g", { class: "numbers" }));
    if (!(this.zoom.scale >= NUMBERS_FROM)) return replace(this.numbers);
    const { x, y, width, height } = this.zoom.view;
    const shown = (seat) =>
      seat.state === "f" && !this.selected.has(seat.id) &&
      x < seat.x && seat.x < x + width && y < seat.y && seat.y < y + height;
    const seats = [...this.paths.keys()].map((id) => this.seat(id)).filter(shown).slice(0, NUMBERS_MAX);
    return replace(this.numbers, seats.map((seat) =>
      svg("text", { x: seat.x, y: seat.y + 0.13, class: `on-${colour(this.#kind(seat) ?? 0)}` }, seat.number)));
  }

  #ticks() {
    const seats = [...this.selected].filter((id) => this.paths.has(id)).map((id) => this.seat(id));
    this.ticks ??= this.overlay.appendChild(svg("g", { class: "ticks" }));
    replace(this.ticks, seats.map(({ x, y }) => svg("path", { d: `M${x - 0.2} ${y}l.15 .16l.27-.32` })));
  }

  #click(event) {
    const element = event.target.closest("[role=checkbox], [role=button]");
    if (!element) return;
    this.#focus(element);
    this.#press(this.items.get(element));
  }

  #press(item) {
    if (item.id) return this.onPick(item);
    if (item.section.general) return this.onArea(item.section);
    this.enter(item.section);
    return this.#focus(this.paths.get(item.section.seats[0].id));
  }

  // One stop for the Tab key; from there on, the arrows.
  #entry() {
    if (this.current?.isConnected) return;
    this.current = this.items.keys().next().value;
    this.current?.setAttribute("tabindex", 0);
  }

  #focus(element) {
    element.focus({ preventScroll: true });
  }

  #focused({ target }) {
    const item = this.items.get(target);
    if (!item) return;
    this.current?.setAttribute("tabindex", -1);
    this.current = target;
    target.setAttribute("tabindex", 0);
    if (target.matches(":focus-visible")) this.zoom.show(item.x, item.y);
  }

  #key(event) {
    const item = this.items.get(event.target);
    if (!item || event.ctrlKey || event.metaKey || event.altKey) return;
    const done = this.#moved(event.key, item) || this.#acted(event.key, item);
    if (done) event.preventDefault();
  }

  #moved(key, item) {
    const row = item.row?.seats;
    const ends = row ? { Home: row[0], End: row.at(-1) } : {};
    const next = ends[key] ? this.paths.get(ends[key].id) : WAYS[key] && towards(this.items, item, WAYS[key]);
    if (next) this.#focus(next);
    return Boolean(next || WAYS[key]);
  }

  #acted(key, item) {
    const acts = {
      Enter: () => this.#press(item), " ": () => this.#press(item),
      "+": () => this.zoom.in(), "-": () => this.zoom.out(), 0: () => this.leave(),
      Escape: this.entered && (() => this.leave()),
    };
    acts[key]?.();
    return Boolean(acts[key]);
  }
}
