// The fields of an account: addresses, new passwords, languages.

import { field, password } from "./forms.js";
import { LANGUAGES, t } from "./texts.js";

const PASSWORD_MIN = 8;
const PASSWORD_MAX_BYTES = 72;
const ADDRESS = /^\S+@\S+\.\S+$/;

function passwordFault(text) {
  if ([...text].length < PASSWORD_MIN) return t("account.too_short");
  return new TextEncoder().encode(text).length > PASSWORD_MAX_BYTES ? t("account.too_long") : null;
}

/** A new password's field, with its rules told beforehand. */
export function newPassword(name, label) {
  return password(name, label, {
    autocomplete: "new-password", hint: t("account.password_rule"), check: passwordFault,
    wrong: { invalid_request: ({ data }) => t(data.errors ? "account.too_common" : "account.too_like") },
  });
}

/** The field of the password that one has. */
export function presentPassword(name, label) {
  return password(name, label, {
    autocomplete: "current-password", wrong: { invalid_credentials: () => t("account.wrong_password") },
  });
}

/** An address's field. */
export function emailField(label, more = {}) {
  const check = (text) => (ADDRESS.test(text) ? null : t("account.bad_email"));
  const wrong = { invalid_request: () => t("account.bad_email") };
  return field("email", label, {
    type: "email", autocomplete: "email", maxlength: 254, check, wrong, ...more,
  });
}

/** The choice of a language. */
export function languageField(value) {
  const options = Object.entries(LANGUAGES);
  return field("locale", t("account.language"), { tag: "select", options, value, hint: t("account.language_rule") });
}

/** A label that says that its field may stay empty. */
export function optional(key) {
  return t("account.optional", { label: t(key) });
}
