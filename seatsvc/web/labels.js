// How places are called.

import { stateName } from "./hall.js";
import { formats, t } from "./texts.js";

/** A seat with all that there is to know about it, in words. */
export function seatLabel(hall, seat, chosen = false) {
  const kind = `${seat.type} ${seat.state} ${chosen} ${seat.accessible}`;
  if (!hall.phrases.has(kind)) hall.phrases.set(kind, phrase(hall, seat, chosen));
  return hall.phrases.get(kind).replace("{place}", () => placeLabel(seat));
}

/** Where a seat is; of a hall's or of a booking's. A place without a number has its section. */
export function placeLabel({ section, row, number }) {
  if (!row) return section.name ?? section;
  if (typeof row === "string") return t("map.place", { section, row, number });
  row.phrase ??= t("map.place", { section: section.name, row: row.name });
  return row.phrase.replace("{number}", () => number);
}

// All but the place. Thousands of seats share it, and filling in takes time.
function phrase(hall, seat, chosen) {
  return t(seat.accessible ? "map.seat_accessible" : "map.seat", {
    type: hall.typeOf(seat)?.name ?? t("map.any_type"),
    price: priceLabel(hall, seat),
    state: t(chosen ? "map.chosen" : `map.${stateName(seat.state)}`),
  });
}

/** What a seat or a section costs; where the buyer chooses, all that it may cost. */
export function priceLabel(hall, place) {
  const type = hall.typeOf(place);
  const types = type ? [type] : [...hall.types.values()];
  const prices = types.map((each) => formats.money(each.price, each.currency));
  return prices.join(" / ") || t("map.no_price");
}
