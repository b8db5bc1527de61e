// The repeated parts of a new event: ticket types and sections.

import { h } from "./dom.js";
import { checkbox, field } from "./forms.js";
import { formats, t } from "./texts.js";

const PLACES_MAX = 1_000_000;
const ROWS_MAX = 500;
const SEATS_MAX = 500;
const GROWTH_MAX = 20;

/** A field for a whole number. */
export function whole(name, label, min, max, more = {}) {
  const range = { min: formats.number(min), max: formats.number(max) };
  const fits = (text) => /^\d{1,9}$/.test(text) && min <= Number(text) && Number(text) <= max;
  const check = (text) => (fits(text) ? null : t("organize.bad_number", range));
  return field(name, label, { inputmode: "numeric", check, autocomplete: "off", ...more });
}

/** A list of parts that can be added and removed; `make(n)` returns {element, fields, name}. */
export class Parts {
  constructor({ make, add, least, changed }) {
    Object.assign(this, { make, least, changed });
    this.items = [];
    this.list = h("div", { class: "stack" });
    this.element = h("div", { class: "stack" }, this.list,
      h("button", { class: "button quiet small", type: "button", onclick: () => this.add(true) }, add));
  }

  /** Add one. */
  add(focus = false) {
    const part = this.make(this.items.length);
    const remove = h("button", { class: "button quiet small icon", type: "button", onclick: () => this.#remove(part) }, "✕");
    part.box = h("fieldset", { class: "part" }, h("legend", { class: "hidden" }), remove, part.element);
    part.remove = remove;
    this.items.push(part);
    this.list.append(part.box);
    if (focus) part.fields[0].input.focus();
    this.changed();
  }

  /** Name the parts and their buttons as they are called now. */
  rename() {
    for (const { box, remove, fields } of this.items) {
      const name = fields[0].value || "…";
      box.firstChild.textContent = name;
      remove.setAttribute("aria-label", t("organize.remove", { name }));
      remove.hidden = this.items.length <= this.least;
    }
  }

  /** The fields that are to be filled in. */
  get fields() {
    return this.items.flatMap((part) => part.fields).filter((each) => !each.element.hidden);
  }

  /** Names that are there twice are marked. */
  doubles() {
    const names = this.items.map((part) => part.fields[0].value);
    const double = this.items.find((part, n) => names.indexOf(names[n]) < n);
    double?.fields[0].error(t("organize.twice"));
    double?.fields[0].input.focus();
    return Boolean(double);
  }

  #remove(part) {
    const at = this.items.indexOf(part);
    this.items.splice(at, 1);
    part.box.remove();
    this.items[Math.max(0, at - 1)]?.fields[0].input.focus();
    this.changed();
  }
}

/** A ticket type. `currency()`: in which its price is. */
export function typePart(n, currency) {
  const digits = () => formats.digits(currency());
  const fits = (text) => new RegExp(`^\\d{1,7}${digits() ? `([.,]\\d{1,${digits()}})?` : ""}$`).test(text);
  const check = (text) => (fits(text) ? null : t("organize.bad_price", { example: (12.5).toFixed(digits()) }));
  const fields = [
    field("type_name", t("organize.name"), { required: true, maxlength: 200, value: n ? "" : "Standard", autocomplete: "off" }),
    field("price", t("organize.price"), { required: true, inputmode: "decimal", check, value: n ? "" : "20", autocomplete: "off" }),
    whole("quantity", t("organize.quantity"), 0, PLACES_MAX, { hint: t("organize.quantity_rule") }),
  ];
  const [name, price, quantity] = fields;
  return {
    fields,
    element: h("div", { class: "fields" }, fields.map((each) => each.element)),
    read: () => ({
      name: name.value, price: minor(price.value, digits()), currency: currency(),
      ...(quantity.value && { quantity: Number(quantity.value) }),
    }),
  };
}

// "12,5" is 1250; what is no amount yet is nothing.
function minor(text, digits) {
  return Math.round(Number(text.replace(",", ".")) * 10 ** digits) || 0;
}

/** A section. `types()`: the names of the ticket types. */
export function sectionPart(n, types) {
  const select = (name, label, options) => field(name, label, { tag: "select", options });
  const name = field("section_name", t("organize.section_name"),
    { required: true, maxlength: 200, value: String.fromCharCode(65 + (n % 26)), autocomplete: "off" });
  const kind = select("kind", t("organize.kind"),
    [["numbered", t("organize.numbered")], ["general", t("organize.general")]]);
  const type = select("type", t("organize.type"), []);
  const rows = whole("rows", t("organize.rows"), 1, ROWS_MAX, { value: 6, required: true });
  const seats = whole("seats", t("organize.seats_in_row"), 1, SEATS_MAX, { value: 12, required: true });
  const growth = whole("growth", t("organize.growth"), 0, GROWTH_MAX, { value: 0, required: true });
  const style = select("style", t("organize.row_names"),
    [["letters", t("organize.letters")], ["numbers", t("organize.numbers")]]);
  const accessible = checkbox("accessible", t("organize.accessible"));
  const places = whole("places", t("organize.place_count"), 1, PLACES_MAX, { value: 100, required: true });
  const fields = [name, kind, type, rows, seats, growth, style, accessible, places];
  const number = (each) => Number(each.value) || 0;
  return {
    fields,
    element: h("div", { class: "fields" }, fields.map((each) => each.element)),
    read: () => ({
      name: name.value, kind: kind.value, type: type.value, style: style.value, accessible: accessible.value,
      rows: number(rows), seats: number(seats), growth: number(growth), places: number(places),
    }),
    /** Show the fields that go with the kind, and the ticket types there are. */
    look() {
      const general = kind.value === "general";
      for (const each of [rows, seats, growth, style, accessible]) each.element.hidden = general;
      places.element.hidden = !general;
      offer(type.input, types());
    },
  };
}

// The names as choices; the one that was chosen stays so by its place, though it be renamed.
function offer(select, names) {
  const at = select.selectedIndex;
  const options = ["", ...names].map((name) => h("option", { value: name }, name || t("organize.any_type")));
  select.replaceChildren(...options);
  select.selectedIndex = at < 0 ? Math.min(1, names.length) : at < options.length ? at : 0;
}
