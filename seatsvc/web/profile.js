// My account: profile, password, end.

import { emailField, languageField, newPassword, optional, presentPassword } from "./credentials.js";
import { h, replace } from "./dom.js";
import { field, form } from "./forms.js";
import { explain, formats, language, load, t } from "./texts.js";

/** The page of one's own account. */
export function profile(main, _, context) {
  const { user } = context.session;
  const since = { username: user.username, date: formats.date(user.created_at) };
  main.append(
    h("h1", {}, t("account.account")),
    h("p", { class: "spread" },
      h("span", { class: "muted" }, t("account.about", since)),
      h("span", { class: "badge" }, t(`account.role_${user.role}`))),
    h("div", { class: "stack" },
      section("account.profile", profileForm(user, context)),
      section("account.change_password", passwordForm(user, context)),
      section("account.delete", deletion(user, context))));
}

function section(key, ...children) {
  return h("section", { class: "card", "aria-labelledby": key }, h("h2", { id: key }, t(key)), children);
}

function profileForm(user, context) {
  const address = h("div", { class: "address" });
  const fields = [
    field("name", optional("account.name"), {
      autocomplete: "name", maxlength: 200, value: user.name ?? "", hint: t("account.name_rule"),
    }),
    emailField(optional("account.email"), { value: user.email ?? "" }),
    languageField(user.locale),
  ];
  fields[1].element.append(address);
  showAddress(address, context);
  const send = async (values) => save(values, context, address);
  return form(fields, { label: t("account.save"), send, at: { email_taken: "email" } });
}

async function save(values, context, address) {
  const { api, session, say } = context;
  const before = session.user;
  const wanted = { name: values.name || null, email: values.email || null, locale: values.locale };
  const changes = Object.entries(wanted).filter(([name, value]) => value !== before[name]);
  if (changes.length) await api.patch("/me", Object.fromEntries(changes));
  await session.reload();
  showAddress(address, context);
  const mailed = session.user.email && session.user.email !== before.email;
  if (values.locale !== language()) {
    await load(values.locale);
    context.go("#/account");
  }
  say(t(mailed ? "account.saved_mail" : "account.saved", { email: session.user.email }));
}

function showAddress(place, context) {
  const { email, email_verified: verified } = context.session.user;
  if (!email) return replace(place, h("p", { class: "hint" }, t("account.no_email")));
  if (verified) return replace(place, h("p", { class: "small good" }, `✓ ${t("account.verified")}`));
  const again = h("button", { class: "button quiet small", type: "button", onclick: () => sendAgain(context) },
    t("account.send_again"));
  return replace(place, h("div", { class: "spread" }, h("p", { class: "small warn" }, t("account.unverified")), again));
}

async function sendAgain({ api, session, say }) {
  try {
    await api.post("/auth/verify-email-request");
    say(t("account.sent_again", { email: session.user.email }));
  } catch (problem) {
    say(explain(problem));
  }
}

function passwordForm(user, { api, say }) {
  const fields = [
    presentPassword("current_password", t("account.current_password")),
    newPassword("new_password", t("account.new_password")),
  ];
  const at = { invalid_credentials: "current_password", invalid_request: "new_password" };
  const send = async (values) => {
    await api.post("/auth/change-password", values);
    for (const each of fields) each.input.value = "";
    say(t("account.changed"));
  };
  return form(fields, { label: t("account.change_password"), send, at, before: owner(user) });
}

// For password managers: whose password it is.
function owner(user) {
  return h("input", {
    class: "hidden", type: "text", autocomplete: "username", value: user.username, readonly: true,
    tabindex: "-1", "aria-hidden": "true",
  });
}

function deletion(user, context) {
  const fields = [presentPassword("password", t("account.password"))];
  const send = async (values) => {
    await context.api.del("/me", values);
    context.go("#/");
    context.session.forget();
    context.say(t("account.deleted"));
  };
  const open = h("button", { class: "button danger", type: "button", onclick: () => ask(true) }, t("account.delete"));
  const keep = h("button", { class: "button quiet", type: "button", onclick: () => ask(false) }, t("account.keep"));
  const question = form(fields, {
    label: t("account.delete_confirm"), send, danger: true, after: keep, before: owner(user),
    at: { invalid_credentials: "password" },
  });
  function ask(asked) {
    question.hidden = !asked;
    open.hidden = asked;
    (asked ? fields[0].input : open).focus();
  }
  question.hidden = true;
  return [h("p", {}, t("account.delete_text")), open, question];
}
