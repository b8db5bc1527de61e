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
         where id between $1::bigint and $2::bigint and number is not null) s
 order by id;

-- name: get_changed_states
-- The states of the seats touched by transactions from $2 on, and of all held ones, whose state
-- also changes with time. `horizon` is the $2 of the next call: no transaction before it can still
-- touch a seat. It stays below the first number not seen here, since a crash of PostgreSQL gives
-- the numbers of lost transactions out again. A new server start (a promoted standby may lack
-- commits that were seen) makes the caller ask for all: from 0 on.
select exists (select from events where id = $1::bigint) as present,
       (extract(epoch from pg_postmaster_start_time()) * 1000000)::bigint as server,
       least(pg_snapshot_xmin(pg_current_snapshot())::text::bigint,
             coalesce((select changed::text::bigint + 1
                         from seats
                        where event_id = $1::bigint and changed is not null
                        order by changed desc
                        limit 1), 0)) as horizon,
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

-- name: get_layout
-- Ready-made, since it never changes.
select row_to_json(plan)::text as json
  from (select $1::bigint as event_id,
               (select json_agg(case when s.general_admission then row_to_json(general)
                                     else row_to_json(numbered) end order by s.first_seat_id)
                  from sections s,
                       lateral (select s.name, s.ticket_type_id, s.general_admission, s.places)
                               general,
                       lateral (select s.name, s.ticket_type_id, s.general_admission,
                                       (select json_agg(row_to_json(plan_row) order by first_seat_id)
                                          from seat_rows r,
                                               lateral (select r.name, r.x, r.y,
                                                        (select json_agg(row_to_json(seat))
                                                           from (select id, number, ticket_type_id,
                                                                        accessible
                                                                   from seats
                                                                  where id between r.first_seat_id
                                                                    and r.first_seat_id + r.places - 1
                                                                  order by id) seat) as seats)
                                               plan_row
                                         where r.event_id = s.event_id and r.section = s.name)
                                       as rows) numbered
                 where s.event_id = $1::bigint) as sections) plan;

-- name: get_rows
-- Where numbered rows begin and end.
select section, first_seat_id, places
  from seat_rows
 where event_id = $1::bigint
 order by first_seat_id;

-- name: block_seats
-- House seats are kept off sale; a seat that is sold or held stays as it is.
select block_seats(id, $3::bigint[], $4::boolean) as blame
  from events
 where id = $1::bigint and ($2::uuid is null or organizer_id = $2::uuid);
