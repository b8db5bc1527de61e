// How an event sells: bookings per minute, revenue, the latest bookings.

import { h, replace, svg } from "./dom.js";
import { placeLabel } from "./labels.js";
import { kindsOf, sign } from "./shapes.js";
import { formats, language, t } from "./texts.js";

const MINUTES = 30;
const MINUTE_MS = 60_000;
const PAGES_MAX = 5; // of bookings, for one look
const PAUSE_MS = 1500; // between two looks
const LATEST = 8;
const DAY_MS = 24 * 60 * MINUTE_MS;

export class Sales {
  constructor(event, types, { api }) {
    this.event = event;
    this.api = api;
    this.kinds = kindsOf(types);
    this.minutes = new Map(); // booking id → when it was made
    this.chart = h("div", { class: "pace" });
    this.tables = h("div", { class: "stack scroll" });
    this.latest = h("div", { class: "scroll latest" });
    this.element = h("section", { class: "card stack", "aria-labelledby": "sales" },
      h("h2", { id: "sales" }, t("organize.sales")), this.chart, this.tables);
    this.clock = setInterval(() => this.#drawPace(), MINUTE_MS / 4);
  }

  /** Was never anything booked? */
  get untouched() {
    return this.bookings.length === 0;
  }

  /** Look again, but not all the time. */
  soon() {
    this.timer ??= setTimeout(() => {
      this.timer = null;
      // What failed is looked at with the next change.
      this.refresh().catch(() => {});
    }, PAUSE_MS);
  }

  /** Look now. */
  async refresh() {
    const [report] = await Promise.all([this.api.get(`/events/${this.event.id}/report`), this.#read()]);
    this.#drawPace();
    replace(this.tables, this.#byType(report), this.#bySection(report));
    replace(this.latest, this.#latest());
  }

  end() {
    clearInterval(this.clock);
    clearTimeout(this.timer);
  }

  // Newest first, as far back as something is new.
  async #read() {
    const since = Date.now() - MINUTES * MINUTE_MS;
    let cursor = "";
    for (let n = 0; n < PAGES_MAX && cursor !== null; n++) {
      const page = await this.api.get(`/events/${this.event.id}/bookings?limit=100${cursor && `&cursor=${cursor}`}`);
      if (n === 0) this.bookings = page.items;
      const fresh = page.items.filter(({ id, created_at: made }) => Date.parse(made) > since && !this.minutes.has(id));
      for (const { id, created_at: made } of fresh) this.minutes.set(id, Date.parse(made));
      cursor = fresh.length < page.items.length ? null : page.next_cursor;
    }
  }

  #drawPace() {
    const now = Math.floor(Date.now() / MINUTE_MS);
    const counts = new Array(MINUTES).fill(0);
    for (const made of this.minutes.values()) {
      const ago = Math.max(0, now - Math.floor(made / MINUTE_MS));
      if (ago < MINUTES) counts[MINUTES - 1 - ago]++;
    }
    const most = Math.max(...counts);
    const total = counts.reduce((sum, count) => sum + count, 0);
    const said = t.n("organize.per_minute_text", total, { most: formats.number(most) });
    const time = (n) => clock((now - MINUTES + 1 + n) * MINUTE_MS);
    replace(this.chart,
      h("h3", {}, t("organize.per_minute")),
      bars(counts, most, said, time),
      h("p", { class: "spread small muted" }, h("span", {}, time(0)), h("span", {}, time(MINUTES - 1))),
      h("p", { class: "small" }, said));
  }

  #byType({ ticket_types: types, revenue, currency }) {
    if (!types.length) return h("p", { class: "muted" }, t("organize.no_types"));
    const rows = types.map((type) => [
      h("span", { class: "kind" }, sign(this.kinds.get(type.id) ?? 0), type.name),
      formats.number(type.booked), formats.number(type.held), money(type.revenue, currency),
    ]);
    const heads = ["type", "sold", "held", "revenue"];
    const shown = table("organize.by_type", heads, rows, [t("organize.total"), "", "", money(revenue, currency)]);
    shown.classList.add("types");
    return shown;
  }

  #bySection({ sections, currency }) {
    const rows = sections.map((part) => [
      part.name,
      `${formats.number(part.booked)} / ${formats.number(part.capacity)}`,
      money(part.revenue, currency),
    ]);
    return table("organize.by_section", ["section", "sold", "revenue"], rows);
  }

  #latest() {
    if (this.untouched) return h("p", { class: "muted" }, t("organize.no_bookings"));
    const rows = this.bookings.slice(0, LATEST).map((booking) => [
      h("time", { datetime: booking.created_at }, moment(booking.created_at)),
      h("span", {}, placesOf(booking)),
      booking.currency ? formats.money(booking.total, booking.currency) : "–",
      h("span", {}, t(`organize.${booking.status}`)),
    ]);
    return table("organize.latest", ["when", "places", "total", "state"], rows);
  }
}

function bars(counts, most, said, time) {
  const rects = counts.map((count, n) => {
    const height = most ? (count / most) * 100 : 0;
    return svg("rect", { x: n + 0.1, y: 100 - height, width: 0.8, height },
      svg("title", {}, t("organize.minute", { time: time(n), n: formats.number(count) })));
  });
  return svg("svg", {
    class: "bars", role: "img", "aria-label": said, viewBox: `0 0 ${MINUTES} 100`, preserveAspectRatio: "none",
  }, rects);
}

// The time of day; without its zone, for it is the reader's own.
function clock(time) {
  return new Intl.DateTimeFormat(language(), { hour: "numeric", minute: "2-digit" }).format(new Date(time));
}

function moment(iso) {
  return Date.now() - Date.parse(iso) < DAY_MS ? clock(iso) : formats.date(iso);
}

// Seats by their names; places without numbers counted.
function placesOf({ seats }) {
  const counts = new Map();
  for (const seat of seats) counts.set(placeLabel(seat), (counts.get(placeLabel(seat)) ?? 0) + 1);
  return [...counts].map(([label, count]) => (count > 1 ? `${formats.number(count)} × ${label}` : label)).join("; ");
}

function money(amount, currency) {
  return currency ? formats.money(amount, currency) : "–";
}

// The first column says what a row is about; numbers are plain text, and words elements.
function table(caption, heads, rows, foot) {
  const line = ([first, ...cells]) =>
    h("tr", {}, h("th", { scope: "row" }, first),
      cells.map((cell) => h("td", { class: typeof cell === "string" ? "number" : null }, cell)));
  return h("table", { class: "sums" },
    h("caption", {}, t(caption)),
    h("thead", {}, h("tr", {}, heads.map((head) => h("th", { scope: "col" }, t(`organize.${head}`))))),
    h("tbody", {}, rows.map(line)),
    foot ? h("tfoot", {}, line(foot)) : null);
}
