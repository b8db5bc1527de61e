// Where the hall's seats and sections are drawn. One unit is the way from a seat to the next.

const GAP = 1.6;
const TITLE = 1.5;
const ROW_NAME = 1.3;
const STAGE = 2.6;

/** Give each seat its x and y, and each section its box. Returns the bounds of it all. */
export function arrange(hall, aspect) {
  // So that it can be read before a large hall, too.
  const stage = Math.min(8, Math.max(1, Math.sqrt(hall.capacity) / 40));
  const placed = hall.sections.filter((section) => !section.general && hasPlan(section));
  const rest = hall.sections.filter((section) => !placed.includes(section));
  let bottom = STAGE * stage;
  let width = 0;
  if (placed.length) {
    [width, bottom] = byPlan(placed, bottom);
    bottom += GAP;
  }
  const size = inShelves(rest, Math.max(width, shelfWidth(rest, aspect)), bottom);
  const right = Math.max(width, size.right, 8);
  centre(rest, right);
  return { x: 0, y: 0, width: right, height: Math.max(size.bottom, bottom), stage };
}

/** Which of the elements with a place lies next in a direction, if any: the arrow keys' way. */
export function towards(items, from, [right, down]) {
  let [best, least] = [null, Infinity];
  for (const [element, item] of items) {
    const [x, y] = [item.x - from.x, item.y - from.y];
    const ahead = x * right + y * down;
    // To be in line counts for more than to be near.
    const cost = ahead + 3 * Math.abs(x * down + y * right);
    if (ahead > 0.01 && cost < least) [best, least] = [element, cost];
  }
  return best;
}

function hasPlan(section) {
  return section.rows.length > 0 && section.rows.every((row) => row.x !== null && row.y !== null);
}

// The organizer's own plan: a row's first seat stands at its x and y.
function byPlan(sections, free) {
  const rows = sections.flatMap((section) => section.rows);
  const left = Math.min(...rows.map((row) => row.x)) - ROW_NAME;
  const top = Math.min(...rows.map((row) => row.y)) - free - TITLE - 0.5;
  for (const section of sections) {
    for (const row of section.rows) put(row, row.x - left, row.y - top);
    section.box = around(section.seats);
  }
  const boxes = sections.map((section) => section.box);
  return [
    Math.max(...boxes.map((box) => box.x + box.width)),
    Math.max(...boxes.map((box) => box.y + box.height)),
  ];
}

function around(seats) {
  let [left, top, right, bottom] = [Infinity, Infinity, -Infinity, -Infinity];
  for (const { x, y } of seats) {
    left = Math.min(left, x);
    right = Math.max(right, x);
    top = Math.min(top, y);
    bottom = Math.max(bottom, y);
  }
  const [x, y] = [left - ROW_NAME, top - TITLE - 0.5];
  return { x, y, width: right - x + ROW_NAME, height: bottom - y + 0.9 };
}

function shelfWidth(sections, aspect) {
  const sizes = sections.map(sizeOf);
  const area = sizes.reduce((sum, { width, height }) => sum + (width + GAP) * (height + GAP), 0);
  return Math.max(...sizes.map((size) => size.width), Math.sqrt(area * aspect), 0);
}

function sizeOf(section) {
  if (section.general) {
    const side = Math.min(16, Math.max(7, Math.sqrt(section.places)));
    return { width: side * 1.4, height: Math.max(4, side * 0.55) };
  }
  const longest = Math.max(...section.rows.map((row) => row.seats.length));
  return { width: longest + 2 * ROW_NAME - 0.6, height: section.rows.length + TITLE + 0.4 };
}

function inShelves(sections, width, top) {
  let [x, y, shelf, right] = [0, top, 0, 0];
  for (const section of sections) {
    const size = sizeOf(section);
    if (x > 0 && x + size.width > width + 0.01) [x, y, shelf] = [0, y + shelf + GAP, 0];
    section.box = { x, y, ...size };
    right = Math.max(right, x + size.width);
    shelf = Math.max(shelf, size.height);
    x += size.width + GAP;
  }
  return { right, bottom: y + shelf };
}

// Shelves stand in the middle, and rows in the middle of their section.
function centre(sections, width) {
  const shelves = grouped(sections);
  for (const shelf of shelves.values()) {
    const last = shelf.at(-1).box;
    const shift = (width - last.x - last.width) / 2;
    for (const section of shelf) {
      section.box.x += shift;
      section.rows.forEach((row, n) => {
        const start = section.box.x + (section.box.width - row.seats.length + 1) / 2;
        put(row, start, section.box.y + TITLE + n + 0.3);
      });
    }
  }
}

function grouped(sections) {
  const groups = new Map();
  for (const section of sections) {
    groups.set(section.box.y, [...(groups.get(section.box.y) ?? []), section]);
  }
  return groups;
}

function put(row, x, y) {
  row.seats.forEach((seat, n) => {
    seat.x = x + n;
    seat.y = y;
  });
}
