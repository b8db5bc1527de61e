-- name: find_hall
-- By the event's id.
select id as event_id, first_seat_id, capacity from events where id = $1::bigint;

-- name: find_hall_of_seat
-- Seat ids are ranges: the last event that starts at or before the seat is the seat's, if it is
-- long enough.
select id as event_id, first_seat_id, capacity
  from (select * from events where first_seat_id <= $1::bigint
         order by first_seat_id desc limit 1) e
 where $1::bigint < first_seat_id + capacity;

-- name: get_sections
-- The layout never changes, so it is read once a process.
select name, first_seat_id, places, general_admission, ticket_type_id
  from sections
 where event_id = $1::bigint
 order by first_seat_id;

-- name: get_numbered_seats
-- Ready-made, since they never change. General-admission places all look the same and are not
-- read one by one.
select id, row_to_json(s)::text as json
  from (select id, event_id, section, row_name as row, number, ticket_type_id, accessible
          from seats
         where event_id = $1::bigint and number is not null) s
 order by id;

-- name: get_changed_states
-- The states of the seats touched since a snapshot that saw every transaction before $2, and of
-- all held ones, whose state also changes with time. A new server start means that transaction
-- ids may have gone back (a promoted standby), so the caller then asks for all: since 0.
select exists (select from events where id = $1::bigint) as present,
       (extract(epoch from pg_postmaster_start_time()) * 1000)::bigint as server,
       pg_snapshot_xmin(pg_current_snapshot()) as xmin,
       coalesce(array_agg(id), '{}') as ids,
       coalesce(string_agg(state, ''), '') as states,
       extract(epoch from min(held_until) filter (where state = 'h') - clock_timestamp())::float8
           as expires_in_s
  from (select id, held_until,
               case when booking_id is not null then 'b'
                    when blocked then 'x'
                    when held_until > clock_timestamp() then 'h'
                    else 'f' end as state
          from seats
         where event_id = $1::bigint and (changed >= $2::xid8 or hold_id is not null)) s;
