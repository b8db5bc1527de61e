// What the page says, and how it writes numbers, money and times, in the chosen language.

export const LANGUAGES = { en: "English", de: "Deutsch", es: "Español", fr: "Français" };

const STORED = "seatsvc.language";
let chosen = "en";
let texts = {};
const moneyFormats = new Map();
let plural = new Intl.PluralRules("en");

/** The language to begin with: the one chosen before, else the browser's, else English. */
export function preferred() {
  const wanted = [localStorage.getItem(STORED), ...navigator.languages];
  return wanted.map((each) => each?.slice(0, 2)).find((each) => each in LANGUAGES) ?? "en";
}

/** Load a language. It is kept for the next visit. */
export async function load(language) {
  const answer = await fetch(`/assets/texts/${language}.json`);
  if (!answer.ok) throw new Error(`no texts for ${language}`);
  texts = await answer.json();
  chosen = language;
  plural = new Intl.PluralRules(language);
  localStorage.setItem(STORED, language);
  document.documentElement.lang = language;
}

/** The chosen language. */
export function language() {
  return chosen;
}

/** The text of a dotted key, with its `{placeholders}` filled. */
export function t(key, values = {}) {
  const text = found(key) ?? key;
  return text.replace(/\{(\w+)\}/g, (whole, name) => (name in values ? values[name] : whole));
}

/** The form of a text that goes with a count: `key_one`, `key_other`. */
t.n = (key, count, values = {}) => {
  const form = `${key}_${plural.select(count)}`;
  const filled = { count: formats.number(count), ...values };
  return t(found(form) === undefined ? `${key}_other` : form, filled);
};

/** What a refusal means, in the reader's language where there is a text for its code. */
export function explain(problem) {
  return found(`problems.${problem.code}`) ?? problem.detail ?? String(problem.message);
}

function found(key) {
  const text = key.split(".").reduce((tree, name) => tree?.[name], texts);
  return typeof text === "string" ? text : undefined;
}

// Making one takes longer than all that it will format.
function moneyFormat(currency, digits) {
  const name = `${chosen} ${currency}`;
  if (!moneyFormats.has(name)) {
    const fraction = { minimumFractionDigits: digits, maximumFractionDigits: digits };
    const style = { style: "currency", currency, ...fraction };
    moneyFormats.set(name, new Intl.NumberFormat(chosen, style));
  }
  return moneyFormats.get(name);
}

function written(iso, options) {
  return new Intl.DateTimeFormat(chosen, options).format(new Date(iso));
}

export const formats = {
  /** An amount in minor units. */
  money(minor, currency) {
    const digits = formats.digits(currency);
    return moneyFormat(currency, digits).format(minor / 10 ** digits);
  },
  /** The digits of an amount after the point. */
  digits: (currency) => texts.minor_digits?.[currency] ?? 2,
  /** A day. */
  date: (iso) =>
    written(iso, { weekday: "short", day: "numeric", month: "short", year: "numeric" }),
  /** A time of day, and in which zone. */
  time: (iso) => written(iso, { hour: "numeric", minute: "2-digit", timeZoneName: "short" }),
  number: (value) => new Intl.NumberFormat(chosen).format(value),
  /** Minutes and seconds, as a clock shows them. */
  duration(seconds) {
    const whole = Math.max(0, Math.ceil(seconds));
    const parts = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
    const shown = parts[0] ? parts : parts.slice(1);
    return shown.map((part, n) => (n ? String(part).padStart(2, "0") : String(part))).join(":");
  },
};
