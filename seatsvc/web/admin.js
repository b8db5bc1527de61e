// For admins: who may do what, and mails that could not be sent.

import { h, replace } from "./dom.js";
import { field } from "./forms.js";
import { formats, t } from "./texts.js";

const ROLES = ["attendee", "organizer", "admin"];
const USERS = ["user", "email", "since", "role", null];
const MAILS = ["kind", "since", "attempts", "error", "next_try", null];

export async function show(main, _, context) {
  main.classList.add("middle");
  if (context.session.user.role !== "admin") {
    main.append(h("h1", {}, t("admin.title")), h("p", { class: "notice warn" }, t("admin.not_allowed")));
    return;
  }
  const users = new Listing(context, "/users", userRow(context), {
    heads: USERS, none: () => "admin.no_users",
    filters: [
      choice("role", "admin.role", [["", t("admin.any_role")], ...ROLES.map((role) => [role, t(`account.role_${role}`)])]),
      choice("active", "admin.accounts", [["true", t("admin.active")], ["false", t("admin.inactive")]]),
    ],
  });
  const mails = new Listing(context, "/mails", mailRow(context), {
    heads: MAILS,
    none: ({ status }) => (status === "dead" ? "admin.no_dead" : "admin.no_waiting"),
    filters: [choice("status", "admin.which", [["dead", t("admin.dead")], ["waiting", t("admin.waiting")]])],
  });
  await Promise.all([users.load(), mails.load()]);
  main.append(
    h("h1", {}, t("admin.title")),
    h("div", { class: "stack" }, users.section("admin.users"), mails.section("admin.mails")));
}

function choice(name, key, options) {
  return field(name, t(key), { tag: "select", options });
}

// A table of what an address lists, with filters, a page at a time.
class Listing {
  constructor(context, path, row, { heads, filters, none }) {
    Object.assign(this, { context, path, row, heads, filters, none });
    this.body = h("tbody");
    this.status = h("p", { class: "muted", role: "status" });
    this.more = h("button", { class: "button quiet", type: "button", onclick: () => this.#try(this.cursor) }, t("admin.more"));
    for (const filter of filters) filter.input.addEventListener("change", () => this.#try());
  }

  section(key) {
    const cell = (head) => (head ? h("th", { scope: "col" }, t(`admin.${head}`)) : h("td"));
    return h("section", { class: "card stack", "aria-labelledby": key },
      h("h2", { id: key }, t(key)),
      h("div", { class: "fields filters" }, this.filters.map((filter) => filter.element)),
      h("div", { class: "scroll" },
        h("table", { class: "listing", "aria-labelledby": key }, h("thead", {}, h("tr", {}, this.heads.map(cell))), this.body)),
      this.status, this.more);
  }

  async load(cursor = null) {
    const wanted = Object.fromEntries(this.filters.filter((each) => each.value).map((each) => [each.name, each.value]));
    const query = new URLSearchParams({ ...wanted, limit: 25, ...(cursor && { cursor }) });
    const page = await this.context.api.get(`${this.path}?${query}`);
    const rows = page.items.map((item) => this.row(item, wanted, (row) => this.#leave(row)));
    if (cursor) this.body.append(...rows);
    else replace(this.body, rows);
    this.cursor = page.next_cursor;
    this.more.hidden = !this.cursor;
    this.nothing = t(this.none(wanted));
    this.status.textContent = this.body.childElementCount ? "" : this.nothing;
  }

  // The row is done; the focus goes to the next one, or to the table's choices.
  #leave(row) {
    const next = row.nextElementSibling ?? row.previousElementSibling;
    row.remove();
    if (!next) this.status.textContent = this.nothing;
    (next?.querySelector("button:enabled, select") ?? this.filters[0].input).focus();
  }

  #try(cursor) {
    return attempt(this.context, () => this.load(cursor));
  }
}

async function attempt({ say, explain }, act) {
  try {
    return await act();
  } catch (problem) {
    return say(explain(problem));
  }
}

function userRow(context) {
  const { api, session, say } = context;
  return (user, { active }, leave) => {
    const name = user.username;
    const own = user.id === session.user.id;
    const role = h("select", { "aria-label": t("admin.role_of", { name }), onchange: () => attempt(context, change) },
      ROLES.map((each) => h("option", { value: each, selected: each === user.role }, t(`account.role_${each}`))));
    async function change() {
      const wanted = role.value;
      role.value = user.role;
      user.role = (await api.patch(`/users/${user.id}`, { role: wanted })).role;
      role.value = user.role;
      say(t("admin.role_saved", { name, role: t(`account.role_${user.role}`) }));
      if (own) await session.reload();
    }
    const does = active === "true" ? "deactivate" : "activate";
    async function turn() {
      await api.patch(`/users/${user.id}`, { active: does === "activate" });
      say(t(`admin.${does}d`, { name }));
      leave(row);
    }
    const row = h("tr", {},
      h("th", { scope: "row" }, name, own ? h("span", { class: "muted" }, ` (${t("admin.you")})`) : null,
        user.name && h("div", { class: "muted small" }, user.name)),
      h("td", {}, user.email ?? "–"), h("td", {}, day(user.created_at)), h("td", {}, role),
      h("td", {}, action(`admin.${does}`, { name }, () => attempt(context, turn), own)));
    return labelled(row, USERS);
  };
}

function mailRow(context) {
  const { api, say } = context;
  return (mail, { status }, leave) => {
    const retry = async () => {
      await api.post(`/mails/${mail.id}/retry`);
      say(t("admin.retried", { id: mail.id }));
      if (status === "dead") leave(row);
    };
    const row = h("tr", {},
      h("th", { scope: "row" }, t(`admin.mail_${mail.kind}`), h("div", { class: "muted small" }, `#${mail.id}`)),
      h("td", {}, day(mail.created_at)), h("td", {}, formats.number(mail.attempts)),
      h("td", {}, mail.error ?? "–"), h("td", {}, mail.dead_at ? "–" : formats.time(mail.next_try_at)),
      h("td", {}, action("admin.retry", { id: mail.id }, () => attempt(context, retry))));
    return labelled(row, MAILS);
  };
}

// On a narrow screen each cell stands on a line of its own, with its head before it.
function labelled(row, heads) {
  [...row.cells].forEach((cell, n) => heads[n] && (cell.dataset.head = t(`admin.${heads[n]}`)));
  return row;
}

function action(key, values, onclick, disabled = false) {
  return h("button", { class: "button quiet small", type: "button", "aria-label": t(`${key}_label`, values), disabled, onclick }, t(key));
}

function day(iso) {
  return h("time", { datetime: iso }, formats.date(iso));
}
