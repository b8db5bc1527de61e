// Fields with a label, a hint and an error; and forms that say where something is wrong.

import { h } from "./dom.js";
import { explain, t } from "./texts.js";

let made = 0;

/**
 * A labelled control. `tag`: "input", "textarea" or "select" with `options` [[value, text]];
 * `hint`; `check(value)` returns what is wrong; `wrong`: by a refusal's code,
 * what to say of it here; the rest are attributes.
 */
export function field(name, label, more = {}) {
  const { tag = "input", options = [], hint, check, wrong, wrap, ...props } = more;
  const id = `${name}-${++made}`;
  const choices = options.map(([value, text]) => h("option", { value, selected: value === props.value }, text));
  const described = `${hint ? `${id}-hint ` : ""}${id}-error`;
  const input = h(tag, { id, name, "aria-describedby": described, ...props }, choices);
  const error = h("p", { class: "error", id: `${id}-error`, hidden: true });
  const result = {
    name, input, check, wrong,
    element: h("div", { class: "field" },
      h("label", { for: id }, label),
      hint && h("p", { class: "hint", id: `${id}-hint` }, hint),
      wrap ? wrap(input) : input,
      error),
    get value() {
      return input.value.trim();
    },
    /** Say what is wrong; without a text, that nothing is. */
    error(text) {
      error.hidden = !text;
      error.textContent = text ?? "";
      if (text) input.setAttribute("aria-invalid", "true");
      else input.removeAttribute("aria-invalid");
    },
  };
  input.addEventListener("input", () => result.error());
  return result;
}

/** A password's field, with a button that shows what was typed. */
export function password(name, label, more = {}) {
  const wrap = (input) => h("div", { class: "reveal" }, input, reveal(input));
  const result = field(name, label, {
    type: "password", required: true, autocapitalize: "none", spellcheck: "false", wrap, ...more,
  });
  Object.defineProperty(result, "value", { get: () => result.input.value });
  return result;
}

function reveal(input) {
  const toggle = ({ currentTarget }) => {
    const shown = input.type === "password";
    input.type = shown ? "text" : "password";
    currentTarget.setAttribute("aria-pressed", String(shown));
  };
  return h("button", {
    class: "button quiet", type: "button", "aria-pressed": "false",
    "aria-label": t("account.show_password_label"), onclick: toggle,
  }, t("account.show_password"));
}

/** A box to tick. */
export function checkbox(name, label, checked = false) {
  const input = h("input", { type: "checkbox", name, checked });
  return { name, input, element: h("label", { class: "check" }, input, label), get value() { return input.checked; } };
}

/** Show what is wrong with these fields and go to the first. Is nothing? */
export function valid(fields) {
  const wrong = fields.filter((each) => {
    const text = each.input.required && !each.value ? t("account.missing") : each.value && each.check?.(each.value);
    each.error?.(text || null);
    return text;
  });
  wrong[0]?.input.focus();
  return wrong.length === 0;
}

/**
 * A form of these fields. `send(values)` may throw a Problem; `at`: the field that a code of it
 * belongs to.
 */
export function form(fields, { label, send, at = {}, danger = false, before = [], after = [] }) {
  const line = h("p", { class: "notice bad", role: "alert", hidden: true });
  const button = h("button", { class: danger ? "button danger" : "button" }, label);
  async function submit(event) {
    event.preventDefault();
    line.hidden = true;
    if (element.ariaBusy === "true" || !valid(fields)) return;
    element.ariaBusy = "true";
    try {
      await send(Object.fromEntries(fields.map((each) => [each.name, each.value])));
    } catch (problem) {
      tell(problem, fields, at, line);
    } finally {
      element.ariaBusy = "false";
    }
  }
  const element = h("form", { class: "form", novalidate: true, onsubmit: submit },
    before, fields.map((each) => each.element), line, h("div", { class: "actions" }, button, after));
  return element;
}

/** Say a refusal at its field, or in one line. */
export function tell(problem, fields, at, line) {
  if (!problem.code) throw problem;
  const [, name, deeper] = problem.data.errors?.[0].at.split(".") ?? [null, at[problem.code]];
  const place = !deeper && fields.find((each) => each.name === name);
  if (place?.error) {
    place.error(place.wrong?.[problem.code]?.(problem) ?? explain(problem));
    place.input.focus();
  } else {
    line.textContent = problem.code === "invalid_request" ? `${explain(problem)} (${problem.detail})` : explain(problem);
    line.hidden = false;
  }
}

/** A button that asks once more, in place, before it does what cannot be undone. */
export function asks({ label, text, confirm, keep, act }) {
  const line = h("p", { class: "notice bad", role: "alert", hidden: true });
  const open = h("button", { class: "button danger", type: "button", "aria-expanded": "false", onclick: () => ask(true) }, label);
  const yes = h("button", { class: "button danger", type: "button", onclick: go }, confirm);
  const no = h("button", { class: "button quiet", type: "button", onclick: () => ask(false) }, keep);
  const question = h("div", { class: "question", role: "group", "aria-label": label, hidden: true },
    h("p", {}, text), line, h("div", { class: "actions" }, yes, no));
  function ask(asked) {
    open.setAttribute("aria-expanded", String(asked));
    open.hidden = asked;
    question.hidden = !asked;
    (asked ? no : open).focus();
  }
  async function go() {
    yes.disabled = true;
    try {
      await act();
    } catch (problem) {
      line.textContent = explain(problem);
      line.hidden = false;
    }
    yes.disabled = false;
  }
  question.addEventListener("keydown", (event) => event.key === "Escape" && ask(false));
  return h("div", {}, open, question);
}
