// Signing in and up, forgotten passwords, and the links of our mails.

import { emailField, languageField, newPassword, optional } from "./credentials.js";
import { h, replace } from "./dom.js";
import { field, form, password } from "./forms.js";
import { profile } from "./profile.js";
import { LANGUAGES, language, load, t } from "./texts.js";

const USERNAME = /^[\p{L}\p{N}_.\-]{3,64}$/u;
const SCREENS = { "sign-in": signIn, "sign-up": signUp, reset, verify, account: profile };

export async function show(main, params, context) {
  main.classList.add("narrow");
  return SCREENS[params.page](main, params, context);
}

function signIn(main, { next }, context) {
  const fields = [
    field("username", t("account.username_or_email"), {
      autocomplete: "username", autocapitalize: "none", spellcheck: "false", required: true, maxlength: 254,
    }),
    password("password", t("account.password"), { autocomplete: "current-password" }),
  ];
  const send = async ({ username, password: secret }) => {
    await context.session.signIn(username, secret);
    await enter(context, next);
  };
  replace(main,
    h("h1", {}, t("account.sign_in")),
    next && next !== "#/" ? h("p", { class: "muted" }, t("account.need_sign_in")) : null,
    h("div", { class: "card stack" },
      form(fields, { label: t("account.sign_in"), send }),
      h("p", {}, h("a", { href: "#/reset" }, t("account.forgot")))),
    other(t("account.new_here"), "sign-up", t("account.sign_up"), next));
}

function signUp(main, { next }, context) {
  const fields = [
    field("username", t("account.username"), {
      autocomplete: "username", autocapitalize: "none", spellcheck: "false", required: true,
      hint: t("account.username_rule"), wrong: { invalid_request: () => t("account.bad_username") },
      check: (text) => (USERNAME.test(text) ? null : t("account.bad_username")),
    }),
    emailField(optional("account.email"), { hint: t("account.email_rule") }),
    newPassword("password", t("account.password")),
    languageField(language()),
  ];
  const at = { username_taken: "username", email_taken: "email", invalid_request: "password" };
  const send = (values) => register(values, context, next);
  main.append(
    h("h1", {}, t("account.sign_up")),
    h("div", { class: "card" }, form(fields, { label: t("account.sign_up"), send, at })),
    other(t("account.have_account"), "sign-in", t("account.sign_in"), next));
}

// The language goes first: the mail that confirms the address is written in it.
async function register({ username, email, password: secret, locale }, context, next) {
  if (locale !== language()) await load(locale);
  await context.api.post("/auth/register", { username, password: secret, ...(email && { email }) });
  await context.session.signIn(username, secret);
  await enter(context, next);
  context.say(`${t("account.welcome", { name: username })} ${t(email ? "account.created_mail" : "account.created", { email })}`);
}

// People are spoken to in the language of their account.
async function enter({ session, go }, next) {
  const { locale } = session.user;
  if (locale in LANGUAGES && locale !== language()) await load(locale);
  go(next?.startsWith("#/") ? next : "#/");
}

function reset(main, params, context) {
  const token = params.token ?? history.state?.token;
  if (token) chooseAnew(main, token, context);
  else askForLink(main, context);
}

function askForLink(main, { api }) {
  const send = async ({ email }) => {
    await api.post("/auth/password-reset-request", { email });
    finish(card, t("account.link_sent"), "#/sign-in", t("account.sign_in"));
  };
  const fields = [emailField(t("account.email"), { required: true })];
  const card = h("div", { class: "card stack" },
    h("p", {}, t("account.forgotten_text")),
    form(fields, { label: t("account.send_link"), send }));
  main.append(h("h1", {}, t("account.forgotten")), card);
}

function chooseAnew(main, token, context) {
  const { api, session } = context;
  hideToken("#/reset", token);
  const send = async (values) => {
    try {
      await api.post("/auth/password-reset-confirm", { token, ...values });
    } catch (problem) {
      if (problem.code !== "invalid_token") throw problem;
      return deadLink(main, card, context);
    }
    hideToken("#/reset");
    if (session.user) session.forget();
    finish(card, t("account.reset_done"), "#/sign-in", t("account.sign_in"));
  };
  const fields = [newPassword("new_password", t("account.new_password"))];
  const at = { invalid_request: "new_password" };
  const card = h("div", { class: "card stack" }, form(fields, { label: t("account.save_password"), send, at }));
  main.append(h("h1", {}, t("account.reset")), card);
}

async function verify(main, { token }, { api, session }) {
  const card = h("div", { class: "card stack" });
  main.append(h("h1", {}, t("account.verify")), card);
  if (!token) return finish(card, t("account.verify_how"), "#/account", t("account.account"), "");
  hideToken("#/verify");
  try {
    await api.post("/auth/verify-email", { token });
  } catch (problem) {
    if (problem.code !== "invalid_token") throw problem;
    return finish(card, `${t("account.dead_link")} ${t("account.verify_how")}`, "#/account", t("account.account"), "bad");
  }
  if (session.user) await session.reload();
  finish(card, t("account.verify_done"), "#/", t("account.go_on"));
}

function deadLink(main, card, context) {
  hideToken("#/reset");
  const again = () => {
    replace(main);
    askForLink(main, context);
    main.querySelector("input").focus();
  };
  replace(card,
    h("p", { class: "notice bad", role: "alert" }, t("account.dead_link")),
    h("p", { class: "actions" }, h("button", { class: "button", type: "button", onclick: again }, t("account.ask_again"))));
  card.querySelector("button").focus();
}

// Out of the address bar, where others could read it. With the token, another language keeps it.
function hideToken(hash, token = null) {
  history.replaceState(token && { token }, "", `/${hash}`);
}

// What was asked for is done: say so where the form was.
function finish(card, text, href, label, looks = "good") {
  const line = h("p", { class: `notice ${looks}`, role: "status", tabindex: "-1" }, text);
  replace(card, line, h("p", { class: "actions" }, h("a", { class: "button", href }, label)));
  line.focus();
}

function other(question, page, label, next) {
  const query = next ? `?next=${encodeURIComponent(next)}` : "";
  return h("p", { class: "beneath" }, `${question} `, h("a", { href: `#/${page}${query}` }, label));
}
