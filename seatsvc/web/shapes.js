// A price is told by colour and by shape. Colours: Okabe and Ito, distinct for all kinds of sight.

import { svg } from "./dom.js";

const KINDS = 7; // as many as style.css has colours
const around = (corners, radius, turn = 0) =>
  Array.from({ length: corners }, (_, n) => {
    const angle = ((n + turn) / corners) * 2 * Math.PI - Math.PI / 2;
    return [radius * Math.cos(angle), radius * Math.sin(angle)];
  });
const closed = (points) => {
  let [px, py] = [0, 0];
  const steps = points.map(([x, y], n) => {
    const step = `${n ? "l" : "m"}${(x - px).toFixed(3)} ${(y - py).toFixed(3)}`;
    [px, py] = [x, y];
    return step;
  });
  return `${steps.join("")}z`;
};
const disc = (radius) =>
  `m${-radius} 0a${radius} ${radius} 0 1 0 ${2 * radius} 0a${radius} ${radius} 0 1 0 ${-2 * radius} 0z`;
const star = around(5, 0.47).flatMap((tip, n) => [tip, around(5, 0.24, 0.5)[n]]);

const SHAPES = [
  disc(0.38),
  closed(around(4, 0.5, 0.5)),
  closed(around(3, 0.47)),
  closed(around(4, 0.46)),
  closed(around(6, 0.41)),
  closed(star),
  closed(around(5, 0.42, 0.5)),
];
const TAKEN = {
  h: "m-.2-.2l.4.4m0-.4l-.4.4",
  b: "m-.28-.28l.56.56m0-.56l-.56.56",
  x: "m-.24 0h.48",
};

/** Which colour and which shape go with each ticket type's id; the dearest comes first. */
export function kindsOf(types) {
  const dearest = [...types.values()].sort((one, other) => other.price - one.price || one.id - other.id);
  return new Map(dearest.map((type, n) => [type.id, n]));
}

/** The outline of a seat around a point. */
export function outline(x, y, kind, state) {
  return `M${x.toFixed(3)} ${y.toFixed(3)}${TAKEN[state] ?? shape(kind)}`;
}

/** The class that gives a kind its colour. */
export function colour(kind) {
  return `kind-${kind % KINDS}`;
}

/** A small picture of a kind or of a state, for the legend and for lists. */
export function sign(kind, state = "f") {
  const name = state === "f" ? `seat ${colour(kind)}` : `seat taken ${state}`;
  const path = svg("path", { class: name, d: outline(0, 0, kind, state) });
  return svg("svg", { class: "sign", viewBox: "-.55 -.55 1.1 1.1", "aria-hidden": "true" }, path);
}

// After seven kinds the colours come again, each with another shape.
function shape(kind) {
  return SHAPES[(kind + Math.floor(kind / KINDS)) % SHAPES.length];
}
