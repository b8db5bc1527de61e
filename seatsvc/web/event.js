// One event: what it is, its hall as a map and as lists, and the sale beside them.

import { h, replace } from "./dom.js";
import { watch } from "./live.js";
import { HallMap } from "./map.js";
import { Sale } from "./sale.js";
import { sign } from "./shapes.js";
import { StepList } from "./steps.js";
import { formats, t } from "./texts.js";

const NARROW = "(max-width: 40rem)";
let shownAs = null; // "map" or "list", for the next event too

export async function show(main, { id }, context) {
  const paths = ["", "/layout", "/ticket-types", "/availability"];
  const [event, layout, kinds, availability] = await Promise.all(
    paths.map((path) => context.api.get(`/events/${id}${path}`)));
  const types = new Map(kinds.items.map((type) => [type.id, type]));
  const counts = h("dl", { class: "counts" });
  const map = new HallMap(layout, {
    types,
    onPick: (seat) => sale.toggle(seat),
    onArea: (section) => sale.area(section),
    selectable: (seat) => seat.state === "f",
  });
  const list = new StepList(map);
  const sale = new Sale(event, map, context, () => list.refresh());
  const broken = h("p", { class: "notice warn", hidden: true }, t("map.lost"));

  function refresh() {
    renderCounts(counts, map.hall.counts);
    list.refresh();
    sale.look();
  }

  map.update(availability);
  sale.begin();
  refresh();
  main.classList.add("wide");
  main.append(
    h("div", { class: "spread" }, head(event), counts),
    h("div", { class: "event" },
      h("div", { class: "card stack" }, chooser(map, list), broken, map.element, list.element, legend(map)),
      sale.element));
  const stop = watch(id, follow(map, context, id, refresh, broken));
  return () => {
    stop();
    sale.end();
  };
}

function follow(map, context, id, refresh, broken) {
  return {
    snapshot(availability) {
      map.update(availability);
      refresh();
    },
    async change({ seats, counts }) {
      if (!map.apply(seats, counts)) map.update(await context.api.get(`/events/${id}/availability`));
      refresh();
    },
    lost: () => (broken.hidden = false),
    back: () => (broken.hidden = true),
  };
}

function head(event) {
  const times = event.starts_at
    ? [formats.date(event.starts_at), formats.time(event.starts_at)].join(", ")
    : t("events.open_ended");
  return h("header", { class: "event-head" },
    h("p", { class: "small" }, h("a", { href: "#/" }, `← ${t("events.all")}`)),
    h("h1", {}, event.name),
    h("p", { class: "muted" }, [times, event.venue].filter(Boolean).join(" · ")),
    event.description && h("p", { class: "description" }, event.description),
    event.status === "cancelled" && h("p", { class: "notice bad" }, t("events.cancelled")));
}

function renderCounts(element, counts) {
  const names = { free: t("map.free"), held: t("map.held_count"), booked: t("map.booked") };
  const shown = Object.entries(names).map(([state, name]) =>
    h("div", { class: state }, h("dt", {}, name), h("dd", {}, formats.number(counts[state]))));
  replace(element, shown);
}

function chooser(map, list) {
  const ways = { map: map.element, list: list.element };
  const buttons = Object.keys(ways).map((name) =>
    h("button", { type: "button", onclick: () => choose(name) }, t(`map.as_${name}`)));
  function choose(name) {
    shownAs = name;
    Object.keys(ways).forEach((way, n) => {
      ways[way].hidden = way !== name;
      buttons[n].setAttribute("aria-pressed", String(way === name));
    });
  }
  choose(shownAs ?? "map");
  return h("div", { class: "spread" },
    h("h2", {}, t("map.heading")),
    h("div", { class: "tabs", role: "group", "aria-label": t("map.show_as") }, buttons));
}

function legend(map) {
  const types = [...map.kinds].map(([id, kind]) => {
    const type = map.hall.types.get(id);
    return h("li", {}, sign(kind), h("span", {}, type.name), h("strong", {}, formats.money(type.price, type.currency)));
  });
  const states = ["held", "booked", "blocked"].map((name) =>
    h("li", {}, sign(0, { held: "h", booked: "b", blocked: "x" }[name]), h("span", {}, t(`map.${name}`))));
  return h("details", { class: "legend", open: !matchMedia(NARROW).matches },
    h("summary", {}, t("map.legend")),
    h("ul", {}, types, states),
    h("p", { class: "muted small" }, t("map.keys")));
}
