// A hall that is being designed: what is filled in, as the service takes it and as the map draws it.

const LETTERS = 26;

/** The name of the n-th row, from 0 on: A … Z, AA …; or 1, 2, 3. */
export function rowName(n, style) {
  if (style === "numbers") return String(n + 1);
  const letter = String.fromCharCode(65 + (n % LETTERS));
  return n < LETTERS ? letter : rowName(Math.floor(n / LETTERS) - 1, style) + letter;
}

/** A section of POST /events. */
export function sectionOf({ name, type, kind, places, rows, seats, growth, style, accessible }) {
  const section = { name, ...(type && { ticket_type: type }) };
  if (kind === "general") return { ...section, places };
  const ends = accessible ? { accessible: [...new Set(["1", String(seats)])] } : {};
  const row = (_, n) => ({ name: rowName(n, style), seats: seats + n * growth, ...(n === 0 && ends) });
  return { ...section, rows: Array.from({ length: rows }, row) };
}

/** How many places a section has. */
export function placesOf({ rows, places }) {
  return rows ? rows.reduce((sum, row) => sum + row.seats, 0) : places;
}

/** What sells for how much, if all is sold; in minor units. Where buyers choose, at the dearest. */
export function worthOf(sections, types) {
  const dearest = Math.max(0, ...types.map((type) => type.price));
  const price = (name) => types.find((type) => type.name === name)?.price ?? dearest;
  return sections.reduce((sum, section) => sum + placesOf(section) * price(section.ticket_type), 0);
}

/** As GET /events/{id}/layout would answer, with ids that nobody has. */
export function layoutOf(sections, types) {
  let id = 0;
  const typeId = (name) => types.findIndex((type) => type.name === name) + 1 || null;
  const seat = (type, accessible) => (_, n) => {
    const number = String(n + 1);
    return { id: ++id, number, ticket_type_id: type, accessible: accessible.includes(number) };
  };
  const row = (type) => ({ name, seats, accessible = [] }) =>
    ({ name, x: null, y: null, seats: Array.from({ length: seats }, seat(type, accessible)) });
  return {
    event_id: 0,
    sections: sections.map(({ name, ticket_type: ticketType, rows, places }) => {
      const part = { name, ticket_type_id: typeId(ticketType), general_admission: !rows };
      if (rows) return { ...part, rows: rows.map(row(part.ticket_type_id)) };
      id += places;
      return { ...part, places };
    }),
  };
}

/** The types by the ids that `layoutOf` gives them. */
export function typesOf(types) {
  return new Map(types.map((type, n) => [n + 1, { id: n + 1, ...type }]));
}
