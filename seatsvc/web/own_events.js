// What the screens for organizers share.

import { h } from "./dom.js";
import { formats, t } from "./texts.js";

/** May this user create events? */
export function organizes(user) {
  return user.role === "organizer" || user.role === "admin";
}

/** Say that this is for organizers. */
export function refuse(main) {
  main.append(h("h1", {}, t("organize.title")), h("p", { class: "notice warn" }, t("organize.not_allowed")));
}

/** When an event begins, in words. */
export function when({ starts_at: starts }) {
  return starts ? `${formats.date(starts)}, ${formats.time(starts)}` : t("organize.no_date");
}

/** An event's state, as a badge. */
export function status(event) {
  const end = event.ends_at ?? event.starts_at;
  if (event.status === "cancelled") return h("span", { class: "badge bad" }, t("organize.cancelled"));
  if (end && Date.parse(end) < Date.now()) return h("span", { class: "badge" }, t("organize.over"));
  return h("span", { class: "badge good" }, t("organize.on_sale"));
}
