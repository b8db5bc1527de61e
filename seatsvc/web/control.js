// One event for its organizer: its sale as it happens, its hall, its end.

import { Blocking } from "./blocking.js";
import { h, replace } from "./dom.js";
import { asks } from "./forms.js";
import { watch } from "./live.js";
import { status, when } from "./own_events.js";
import { Sales } from "./sales.js";
import { explain, formats, t } from "./texts.js";

/** The page of one event. Returns what ends it. */
export async function control(main, id, context) {
  const paths = ["", "/layout", "/ticket-types", "/availability"];
  const [event, layout, kinds, availability] = await Promise.all(
    paths.map((path) => context.api.get(`/events/${id}${path}`)));
  const types = new Map(kinds.items.map((type) => [type.id, type]));
  const blocking = new Blocking(event, layout, types, context);
  const sales = new Sales(event, types, context);
  const counts = h("dl", { class: "counts" });
  const line = h("span", { class: "badge good live" }, t("organize.live"));
  const look = () => {
    blocking.look();
    renderCounts(counts, blocking.map.hall.counts);
  };
  blocking.map.update(availability);
  look();
  await sales.refresh();
  main.classList.add("wide");
  main.append(
    head(event, line), counts,
    h("div", { class: "control" },
      h("div", { class: "stack" }, blocking.element, ending(event, sales, context)),
      h("div", { class: "stack" }, sales.element, bookings(event, sales, context))));
  const stop = watch(id, follow(id, blocking, sales, look, line, context));
  return () => {
    stop();
    sales.end();
  };
}

function follow(id, { map }, sales, look, line, { api }) {
  const connected = (yes) => {
    line.className = yes ? "badge good live" : "badge warn";
    line.textContent = t(yes ? "organize.live" : "organize.lost");
  };
  return {
    snapshot(availability) {
      map.update(availability);
      look();
      sales.soon();
    },
    async change({ seats, counts }) {
      if (!map.apply(seats, counts)) map.update(await api.get(`/events/${id}/availability`));
      look();
      sales.soon();
    },
    lost: () => connected(false),
    back: () => connected(true),
  };
}

function head(event, line) {
  return h("header", { class: "event-head" },
    h("p", { class: "small" }, h("a", { href: "#/organize" }, `← ${t("organize.back")}`)),
    h("h1", {}, event.name),
    h("p", { class: "muted" }, [when(event), event.venue].filter(Boolean).join(" · ")),
    event.description && h("p", { class: "description" }, event.description),
    h("p", { class: "actions" }, status(event), line, h("a", { href: `#/events/${event.id}` }, t("organize.view_page"))));
}

function renderCounts(element, { booked, held, free, blocked }) {
  const shown = Object.entries({ sold: booked, held, free, blocked });
  replace(element, shown.map(([name, count]) =>
    h("div", { class: name }, h("dt", {}, t(`organize.${name}`)), h("dd", {}, formats.number(count)))));
}

function bookings(event, sales, { api, say }) {
  const download = async () => {
    try {
      save(await api.text(`/events/${event.id}/bookings`, { accept: "text/csv" }), `event-${event.id}-bookings.csv`);
      say(t("organize.downloaded"));
    } catch (problem) {
      say(explain(problem));
    }
  };
  return h("section", { class: "card stack", "aria-labelledby": "bookings" },
    h("div", { class: "spread" },
      h("h2", { id: "bookings" }, t("organize.latest")),
      h("button", { class: "button quiet small", type: "button", onclick: download }, t("organize.download"))),
    sales.latest);
}

function save(blob, name) {
  const href = URL.createObjectURL(blob);
  h("a", { href, download: name }).click();
  URL.revokeObjectURL(href);
}

function ending(event, sales, { api, say, go }) {
  if (event.status === "cancelled") return null;
  const cancel = async () => {
    await api.post(`/events/${event.id}/cancel`);
    say(t("organize.cancelled_done"));
    go(`#/organize/${event.id}`);
  };
  const remove = async () => {
    await api.del(`/events/${event.id}`);
    say(t("organize.deleted_done"));
    go("#/organize");
  };
  return h("section", { class: "card stack", "aria-labelledby": "ending" },
    h("h2", { id: "ending" }, t("organize.end")),
    question("cancel", cancel),
    sales.untouched ? question("delete", remove) : null);
}

function question(what, act) {
  return asks({
    label: t(`organize.${what}`), text: t(`organize.${what}_text`), confirm: t(`organize.${what}_confirm`),
    keep: t("organize.keep"), act,
  });
}
