-- name: has_events
-- The demo event is made only in an empty database.
select exists (select from events) as found;

-- name: create_event
-- Its places take a range of ids that nobody else can get.
insert into events (organizer_id, name, description, venue, starts_at, ends_at, sales_start,
                    sales_end, max_seats_per_user, max_bookings_per_user_per_day, hold_seconds,
                    first_seat_id, capacity)
values ($1::uuid, $2::text, $3::text, $4::text, $5::timestamptz, $6::timestamptz,
        $7::timestamptz, $8::timestamptz, $9::int, $10::int, $11::int,
        reserve_seat_ids($12::int), $12::int)
returning id, first_seat_id;

-- name: create_ticket_type
-- Prices are what a booking copies.
insert into ticket_types (event_id, name, price, currency, quantity)
values ($1::bigint, $2::text, $3::bigint, $4::text, $5::int)
returning id;

-- name: create_sections
-- All at once; their order is that of their first seats.
insert into sections (event_id, name, first_seat_id, places, general_admission, ticket_type_id)
select $1::bigint, name, first_seat_id, places, general_admission, ticket_type_id
  from json_to_recordset($2::json) as section (
       name text, first_seat_id bigint, places int, general_admission boolean,
       ticket_type_id bigint);

-- name: create_rows
-- x and y say where a map draws them.
insert into seat_rows (event_id, section, name, first_seat_id, places, x, y)
select $1::bigint, section, name, first_seat_id, places, x, y
  from json_to_recordset($2::json) as seat_row (
       section text, name text, first_seat_id bigint, places int, x float8, y float8);

-- name: create_numbered_seats
-- Of all rows at once, each row's labels in seating order.
insert into seats (id, event_id, section, row_name, number, ticket_type_id, accessible)
select r.first_seat_id + label.n - 1, $1::bigint, r.section, r.name, label.text,
       r.ticket_type_id, label.text = any (r.accessible)
  from json_to_recordset($2::json) as r (
       section text, name text, first_seat_id bigint, ticket_type_id bigint, labels text[],
       accessible text[]),
       unnest(r.labels) with ordinality label (text, n);

-- name: create_general_places
-- The places of a general-admission area have no row and no number.
insert into seats (id, event_id, section, ticket_type_id)
select id, $1::bigint, s.name, s.ticket_type_id
  from json_to_recordset($2::json) as s (
       name text, first_seat_id bigint, places int, general_admission boolean,
       ticket_type_id bigint),
       generate_series(s.first_seat_id, s.first_seat_id + s.places - 1) id
 where s.general_admission;
