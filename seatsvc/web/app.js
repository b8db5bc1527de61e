// The shell around the views, and which view an address shows.
//
// A view module exports `show(main, params, context)`. It renders into `main`, beginning with an
// h1, and may return what ends it. `params`: {page, id?} and the address's query; after signing in
// one goes on to `params.next`, if it is there.

import { api, session } from "./api.js";
import { h, replace } from "./dom.js";
import { LANGUAGES, explain, formats, language, load, preferred, t } from "./texts.js";

const TOAST_MS = 8000;
const ROUTES = [
  { path: /^\/$/, page: "events", view: () => import("./events.js") },
  { path: /^\/events\/(\d+)$/, page: "event", view: () => import("./event.js") },
  { path: /^\/bookings$/, page: "bookings", view: () => import("./bookings.js"), signedIn: true },
  { path: /^\/(sign-in|sign-up|reset|verify)$/, view: () => import("./account.js") },
  { path: /^\/account$/, page: "account", view: () => import("./account.js"), signedIn: true },
  { path: /^\/organize$/, page: "organize", view: () => import("./organize.js"), signedIn: true },
  { path: /^\/organize\/new$/, page: "create", view: () => import("./create.js"), signedIn: true },
  {
    path: /^\/organize\/(\d+)$/,
    page: "organize",
    view: () => import("./organize.js"),
    signedIn: true,
  },
  { path: /^\/admin$/, page: "admin", view: () => import("./admin.js"), signedIn: true },
];

const main = h("main", { id: "main", tabindex: "-1" });
const header = h("header", { class: "top" });
const skip = h("a", { class: "skip", href: "#main", onclick: skipToMain });
const toast = h("div", { class: "toast", role: "status" });
const context = { api, session, t, formats, explain, say, go };
let current = 0;
let end = null;
let silence = 0;

/** Tell politely: to the eye, and to screen readers. */
function say(text) {
  clearTimeout(silence);
  toast.textContent = text;
  toast.classList.toggle("shown", Boolean(text));
  silence = setTimeout(() => toast.classList.remove("shown"), TOAST_MS);
}

/** Go to an address such as "#/bookings". */
function go(hash) {
  if (location.hash === hash) render();
  else location.hash = hash;
}

function skipToMain(event) {
  event.preventDefault();
  main.focus();
}

function address() {
  const [path, query] = (location.hash.slice(1) || "/").split(/\?(.*)/s);
  return { path, query: Object.fromEntries(new URLSearchParams(query)) };
}

function matched() {
  const { path, query } = address();
  for (const route of ROUTES) {
    const found = route.path.exec(path);
    if (!found) continue;
    const params = route.page ? { page: route.page, id: found[1] } : { page: found[1] };
    return { route, params: { ...query, ...params } };
  }
  return null;
}

async function render() {
  const turn = ++current;
  end?.();
  end = null;
  const match = matched();
  renderHeader(match?.params.page);
  if (match?.route.signedIn && !session.user) {
    return location.replace(`#/sign-in?next=${encodeURIComponent(location.hash)}`);
  }
  main.setAttribute("aria-busy", "true");
  const place = h("div", { class: "view" });
  try {
    if (!match) throw new Error(t("shell.no_page"));
    const ended = await (await match.route.view()).show(place, match.params, context);
    if (turn !== current) return ended?.();
    end = ended;
    replace(main, place);
  } catch (problem) {
    if (turn !== current) return;
    replace(main, failure(problem));
  }
  main.removeAttribute("aria-busy");
  settle(turn);
}

function settle(turn) {
  const heading = main.querySelector("h1");
  document.title = heading ? `${heading.textContent} · seatsvc` : "seatsvc";
  if (turn === 1 || main.contains(document.activeElement)) return;
  heading?.setAttribute("tabindex", "-1");
  (heading ?? main).focus({ preventScroll: true });
  scrollTo(0, 0);
}

function failure(problem) {
  return h("div", { class: "view narrow" },
    h("h1", {}, t("shell.failed")),
    h("p", { class: "notice bad" }, explain(problem)),
    h("p", { class: "actions" },
      h("button", { class: "button", onclick: render }, t("shell.again")),
      h("a", { class: "button quiet", href: "#/" }, t("shell.events"))));
}

function renderHeader(page) {
  const user = session.user;
  const organizes = ["organizer", "admin"].includes(user?.role);
  skip.textContent = t("shell.skip");
  replace(header,
    h("a", { class: "brand", href: "#/" }, h("span", { class: "mark", "aria-hidden": "true" }), "seatsvc"),
    h("nav", { "aria-label": t("shell.navigation") },
      h("ul", {},
        link("#/", t("shell.events"), ["events", "event"].includes(page)),
        user && link("#/bookings", t("shell.bookings"), page === "bookings"),
        organizes && link("#/organize", t("shell.organize"), ["organize", "create"].includes(page)),
        user?.role === "admin" && link("#/admin", t("shell.admin"), page === "admin"))),
    h("div", { class: "side" }, languageChoice(), user ? signedIn(user, page) : signedOut(page)));
}

function link(href, text, here) {
  return h("li", {}, h("a", { href, "aria-current": here ? "page" : null }, text));
}

function signedIn(user, page) {
  return [
    h("a", { href: "#/account", "aria-current": page === "account" ? "page" : null },
      user.name ?? user.username),
    h("button", { class: "button quiet small", onclick: signOut }, t("shell.sign_out")),
  ];
}

function signedOut(page) {
  const here = page === "event" ? `?next=${encodeURIComponent(location.hash)}` : "";
  return [
    h("a", { href: `#/sign-in${here}` }, t("shell.sign_in")),
    h("a", { class: "button small", href: `#/sign-up${here}` }, t("shell.sign_up")),
  ];
}

async function signOut() {
  await session.signOut();
  say(t("shell.signed_out"));
  go("#/");
}

function languageChoice() {
  const options = Object.entries(LANGUAGES).map(([code, name]) =>
    h("option", { value: code, lang: code, selected: code === language() }, name));
  const change = async (event) => {
    await load(event.target.value);
    await render();
    header.querySelector(".language").focus();
  };
  return h("select", { class: "language", "aria-label": t("shell.language"), onchange: change }, options);
}

async function start() {
  await load(preferred());
  document.body.append(skip, header, main, toast);
  let user = session.user;
  session.addEventListener("change", () => {
    const left = user && !session.user;
    user = session.user;
    if (left && matched()?.route.signedIn) render();
    else renderHeader(matched()?.params.page);
  });
  addEventListener("hashchange", render);
  await render();
}

start();
