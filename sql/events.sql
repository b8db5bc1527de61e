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

-- name: create_ticket_types
-- All at once; prices are what a booking copies.
insert into ticket_types (event_id, name, price, currency, quantity)
select $1::bigint, name, price, currency, quantity
  from json_to_recordset($2::json) as ticket_type (
       name text, price bigint, currency text, quantity int)
returning id, name;

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
-- Of all rows at once: each row's labels in seating order, or the numbers from 1 on.
insert into seats (id, event_id, section, row_name, number, ticket_type_id, accessible)
select r.first_seat_id + label.n - 1, $1::bigint, r.section, r.name, label.text,
       r.ticket_type_id, label.text = any (r.accessible)
  from json_to_recordset($2::json) as r (
       section text, name text, first_seat_id bigint, places int, ticket_type_id bigint,
       labels text[], accessible text[]),
       unnest(case when r.labels = '{}' then array(select n::text from generate_series(1, r.places) n)
                   else r.labels end) with ordinality label (text, n);

-- name: create_general_places
-- The places of a general-admission area have no row and no number.
insert into seats (id, event_id, section, ticket_type_id)
select id, $1::bigint, s.name, s.ticket_type_id
  from json_to_recordset($2::json) as s (
       name text, first_seat_id bigint, places int, general_admission boolean,
       ticket_type_id bigint),
       generate_series(s.first_seat_id, s.first_seat_id + s.places - 1) id
 where s.general_admission;

-- name: get_event
-- Anyone may read it.
select id, organizer_id, name, description, venue, starts_at, ends_at, sales_start, sales_end,
       max_seats_per_user, max_bookings_per_user_per_day, hold_seconds, status, capacity,
       created_at, updated_at, version
  from events
 where id = $1::bigint;

-- name: list_events
-- Soonest first, those without a date last; a page starts after the cursor's event. An event is
-- upcoming until it is over.
select id, organizer_id, name, description, venue, starts_at, ends_at, sales_start, sales_end,
       max_seats_per_user, max_bookings_per_user_per_day, hold_seconds, status, capacity,
       created_at, updated_at, version
  from events
 where status = $1::text
   and ($2::text is null
        or strpos(lower(concat_ws(e'\n', name, venue, description)), lower($2::text)) > 0)
   and ($3::text is null or lower(venue) = lower($3::text))
   and ($4::timestamptz is null
        or starts_at is not null and coalesce(starts_at, 'infinity'::timestamptz) >= $4::timestamptz)
   and ($5::timestamptz is null
        or coalesce(starts_at, 'infinity'::timestamptz) < $5::timestamptz)
   and (not $6::boolean or coalesce(ends_at, starts_at, 'infinity'::timestamptz) > now())
   and ($8::bigint is null or (coalesce(starts_at, 'infinity'::timestamptz), id)
                            > (coalesce($7::timestamptz, 'infinity'::timestamptz), $8::bigint))
 order by coalesce(starts_at, 'infinity'::timestamptz), id
 limit $9::int;

-- name: change_event
-- What the JSON does not name stays as it is at that moment. The version is compared in the same
-- step, so that of two who saw the same one only the first succeeds.
update events e
   set (name, description, venue, starts_at, ends_at, sales_start, sales_end,
        max_seats_per_user, max_bookings_per_user_per_day, hold_seconds) = (
       select n.name, n.description, n.venue, n.starts_at, n.ends_at, n.sales_start, n.sales_end,
              n.max_seats_per_user, n.max_bookings_per_user_per_day, n.hold_seconds
         from json_populate_record(e, $3::json) n),
       version = version + 1, updated_at = clock_timestamp()
 where id = $1::bigint and ($2::uuid is null or organizer_id = $2::uuid)
   and ($4::int[] is null or version = any ($4::int[]))
returning id, organizer_id, name, description, venue, starts_at, ends_at, sales_start, sales_end,
       max_seats_per_user, max_bookings_per_user_per_day, hold_seconds, status, capacity,
       created_at, updated_at, version;

-- name: owns_event
-- May this user change it? Null: any event.
select exists (
    select from events
     where id = $1::bigint and ($2::uuid is null or organizer_id = $2::uuid)) as owned;

-- name: stop_sales
-- The first half of a cancellation. It waits for nobody, and no sale that begins later succeeds.
-- Cancelled again, the event stays as it is.
update events
   set updated_at = case status when 'on_sale' then clock_timestamp() else updated_at end,
       version = version + (status = 'on_sale')::int,
       status = 'cancelled'
 where id = $1::bigint and ($2::uuid is null or organizer_id = $2::uuid)
returning id;

-- name: await_sales
-- Every sale that began before holds the event's row, and has ended when this returns.
select id from events where id = $1::bigint for update;

-- name: cancel_sales
-- The second half: all bookings and holds at once. Done again, it does nothing.
select cancel_sales($1::bigint);

-- name: delete_event
-- With its hall. False when it is not there, or another's.
select delete_event($1::bigint, $2::uuid) as found;
