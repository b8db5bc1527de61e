// A new event: a plain form, and the hall as it will be.

import { h, replace } from "./dom.js";
import { layoutOf, placesOf, sectionOf, typesOf, worthOf } from "./draft.js";
import { field, tell, valid } from "./forms.js";
import { HallMap } from "./map.js";
import { organizes, refuse } from "./own_events.js";
import { Parts, sectionPart, typePart, whole } from "./parts.js";
import { formats, language, t } from "./texts.js";

const PAUSE_MS = 200;
const DRAWN_MAX = 40_000;
const CURRENCIES = [
  "EUR", "USD", "GBP", "CHF", "CAD", "AUD", "MXN", "ARS", "BRL", "CLP", "COP", "PEN", "CZK", "DKK", "HUF",
  "NOK", "PLN", "RON", "SEK", "TRY", "INR", "JPY", "KRW", "SGD", "ZAR", "MAD", "TND", "XAF", "XOF",
];

export async function show(main, _, context) {
  if (!organizes(context.session.user)) return refuse(main);
  const draft = new Draft(context);
  main.classList.add("wide");
  main.append(h("h1", {}, t("organize.new")), draft.element);
  draft.changed();
  return () => clearTimeout(draft.timer);
}

class Draft {
  constructor(context) {
    this.context = context;
    this.facts = facts();
    this.limits = limits();
    this.currency = field("currency", t("organize.currency"), { tag: "select", options: currencies(), value: "EUR" });
    const changed = () => this.changed();
    this.types = new Parts({ make: (n) => typePart(n, () => this.currency.value), add: t("organize.add_type"), least: 0, changed });
    this.hall = new Parts({ make: (n) => sectionPart(n, () => this.#typeNames()), add: t("organize.add_section"), least: 1, changed });
    this.line = h("p", { class: "notice bad", role: "alert", hidden: true });
    this.preview = h("div", { class: "stack" });
    this.element = this.#build();
    this.types.add();
    this.hall.add();
  }

  /** Bring all that follows from the fields up to date; draw when the typing rests. */
  changed() {
    if (!this.hall?.items.length) return;
    for (const section of this.hall.items) section.look();
    this.types.rename();
    this.hall.rename();
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.#draw(), PAUSE_MS);
  }

  #build() {
    const button = h("button", { class: "button" }, t("organize.create"));
    const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
    const { name, venue, description, ...times } = this.facts;
    return h("form", {
      class: "design", novalidate: true, oninput: () => this.changed(), onchange: () => this.changed(),
      onsubmit: (event) => this.#submit(event),
    },
      group("event", h("div", { class: "fields" }, name.element, venue.element), description.element,
        h("div", { class: "fields pairs" }, elements(times)), h("p", { class: "muted small" }, t("organize.times_rule", { zone }))),
      group("types", this.currency.element, this.types.element),
      group("hall", this.hall.element),
      h("section", { class: "card stack sketch", "aria-labelledby": "preview" },
        h("h2", { id: "preview" }, t("organize.preview")), this.preview),
      group("limits", h("div", { class: "fields" }, elements(this.limits))),
      h("div", { class: "stack" }, this.line, h("div", { class: "actions" }, button)));
  }

  #typeNames() {
    return this.types.items.map((part) => part.fields[0].value).filter(Boolean);
  }

  #read() {
    const types = this.types.items.map((part) => part.read()).filter((type) => type.name);
    return { types, sections: this.hall.items.map((part) => sectionOf(part.read())) };
  }

  #draw() {
    const { types, sections } = this.#read();
    const count = sections.reduce((sum, section) => sum + placesOf(section), 0);
    const worth = formats.money(worthOf(sections, types), this.currency.value);
    const said = [t.n("organize.preview_count", count), types.length && t("organize.preview_worth", { money: worth })];
    replace(this.preview,
      h("p", { role: "status" }, said.filter(Boolean).join(" · ")),
      this.#picture(sections.filter((section) => placesOf(section) > 0), types));
  }

  #picture(sections, types) {
    const numbered = sections.filter((section) => section.rows).reduce((sum, section) => sum + placesOf(section), 0);
    if (numbered > DRAWN_MAX) return h("p", { class: "notice warn" }, t("organize.too_large"));
    return new HallMap(layoutOf(sections, types), { types: typesOf(types), onPick: () => {} }).element;
  }

  async #submit(event) {
    event.preventDefault();
    this.line.hidden = true;
    if (this.element.ariaBusy === "true" || !this.#valid()) return;
    this.element.ariaBusy = "true";
    const { api, say, go } = this.context;
    try {
      const created = await api.post("/events", this.#body());
      say(t("organize.created"));
      go(`#/organize/${created.id}`);
    } catch (problem) {
      tell(problem, Object.values({ ...this.facts, ...this.limits }), {}, this.line);
    } finally {
      this.element.ariaBusy = "false";
    }
  }

  #valid() {
    const fields = [
      ...Object.values(this.facts), ...this.types.fields, ...this.hall.fields, ...Object.values(this.limits),
    ];
    return valid(fields) && !this.types.doubles() && !this.hall.doubles() && ordered(this.facts);
  }

  #body() {
    const { types, sections } = this.#read();
    const { hold_minutes: minutes, ...rest } = this.limits;
    const numbers = filled(rest, (each) => Number(each.value));
    const texts = filled(this.facts, (each) =>
      each.input.type === "datetime-local" ? new Date(each.value).toISOString() : each.value);
    const hold = minutes.value ? { hold_seconds: Number(minutes.value) * 60 } : {};
    return { ...texts, ...numbers, ...hold, ticket_types: types, sections };
  }
}

function facts() {
  const time = (name, more) => field(name, t(`organize.${name}`), { type: "datetime-local", ...more });
  const hint = t("organize.sales_rule");
  return {
    name: field("name", t("organize.name"), { required: true, maxlength: 200, autocomplete: "off" }),
    venue: field("venue", t("organize.venue"), { maxlength: 200, autocomplete: "off" }),
    description: field("description", t("organize.description"), { tag: "textarea", rows: 4, maxlength: 10_000 }),
    starts_at: time("starts_at"),
    ends_at: time("ends_at"),
    sales_start: time("sales_start", { hint }),
    sales_end: time("sales_end", { hint }),
  };
}

function limits() {
  const hint = t("organize.limit_rule");
  return {
    max_seats_per_user: whole("max_seats_per_user", t("organize.max_seats"), 1, 1_000_000, { hint }),
    max_bookings_per_user_per_day: whole("max_bookings_per_user_per_day", t("organize.max_daily"), 1, 1_000_000, { hint }),
    hold_minutes: whole("hold_minutes", t("organize.hold_minutes"), 1, 1440, { value: 10 }),
  };
}

function currencies() {
  const names = new Intl.DisplayNames(language(), { type: "currency" });
  return CURRENCIES.map((code) => [code, `${code} – ${names.of(code)}`]);
}

// An end must follow its beginning.
function ordered({ starts_at: starts, ends_at: ends, sales_start: opens, sales_end: closes }) {
  for (const [from, to] of [[starts, ends], [opens, closes]]) {
    if (from.value && to.value && to.value <= from.value) {
      to.error(t("organize.bad_order"));
      to.input.focus();
      return false;
    }
  }
  return true;
}

function filled(fields, read) {
  const given = Object.entries(fields).filter(([, each]) => each.value);
  return Object.fromEntries(given.map(([name, each]) => [name, read(each)]));
}

function elements(fields) {
  return Object.values(fields).map((each) => each.element);
}

function group(key, ...children) {
  return h("fieldset", { class: "card stack" }, h("legend", {}, h("h2", {}, t(`organize.${key}`))), children);
}
