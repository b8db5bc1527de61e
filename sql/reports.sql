-- name: owns_event
-- May this user see its bookings? Null: any event's.
select exists (
    select from events
     where id = $1::bigint and ($2::uuid is null or organizer_id = $2::uuid)) as owned;

-- name: list_event_bookings
-- Newest first; a page starts after the cursor's booking.
select *
  from booking_details
 where event_id = $1::bigint
   and ($2::text is null or status = $2::text)
   and ($3::timestamptz is null or (created_at, id) < ($3::timestamptz, $4::uuid))
 order by created_at desc, id desc
 limit $5::int;

-- name: list_sold_places
-- The same page of bookings with a row for each of their places, for a spreadsheet.
select b.id as booking_id, b.user_id, b.status, s.section, s.row_name as row, s.number,
       t.name as ticket_type, bs.price, b.currency, b.created_at, b.cancelled_at
  from (select *
          from bookings
         where event_id = $1::bigint
           and ($2::text is null or status = $2::text)
           and ($3::timestamptz is null or (created_at, id) < ($3::timestamptz, $4::uuid))
         order by created_at desc, id desc
         limit $5::int) b
  join booking_seats bs on bs.booking_id = b.id
  join seats s on s.id = bs.seat_id
  left join ticket_types t on t.id = bs.ticket_type_id
 order by b.created_at desc, b.id desc, s.id;

-- name: get_report
-- One statement, so that all its numbers are of one moment. Seats that were never touched are not
-- read: they are free.
with touched as materialized (
    select section,
           count(*) filter (where booking_id is not null) as booked,
           count(*) filter (where booking_id is null and blocked) as blocked,
           count(*) filter (where booking_id is null and not blocked and held_until > now()) as held
      from seats
     where event_id = $1::bigint and changed is not null
     group by section
), sold as materialized (
    select s.section, bs.ticket_type_id, bs.price, bs.booking_id,
           date_trunc('hour', b.created_at, 'UTC') as hour
      from bookings b
      join booking_seats bs on bs.booking_id = b.id and bs.active
      join seats s on s.id = bs.seat_id
     where b.event_id = $1::bigint and b.status = 'active'
), by_section as (
    select section, sum(price) as revenue from sold group by section
), by_type as (
    select ticket_type_id, count(*) as booked, sum(price) as revenue
      from sold group by ticket_type_id
), held as (
    select place.ticket_type_id, count(*) as held
      from holds h, json_to_recordset(h.seats) as place (ticket_type_id bigint)
     where h.event_id = $1::bigint and h.ended_at is null and h.expires_at > now()
     group by place.ticket_type_id
)
select e.id as event_id, e.capacity,
       (select min(currency) from ticket_types where event_id = e.id) as currency,
       (select json_agg(json_build_object(
                   'name', s.name, 'capacity', s.places,
                   'booked', coalesce(t.booked, 0), 'held', coalesce(t.held, 0),
                   'blocked', coalesce(t.blocked, 0),
                   'free', s.places - coalesce(t.booked + t.held + t.blocked, 0),
                   'revenue', coalesce(r.revenue, 0)) order by s.first_seat_id)
          from sections s
          left join touched t on t.section = s.name
          left join by_section r on r.section = s.name
         where s.event_id = e.id) as sections,
       (select coalesce(json_agg(json_build_object(
                   'id', t.id, 'name', t.name, 'quantity', t.quantity,
                   'booked', coalesce(b.booked, 0), 'held', coalesce(h.held, 0),
                   'revenue', coalesce(b.revenue, 0)) order by t.id), '[]')
          from ticket_types t
          left join by_type b on b.ticket_type_id = t.id
          left join held h on h.ticket_type_id = t.id
         where t.event_id = e.id) as ticket_types,
       (select coalesce(json_agg(json_build_object(
                   'hour', hour, 'bookings', bookings, 'seats', seats) order by hour), '[]')
          from (select hour, count(distinct booking_id) as bookings, count(*) as seats
                  from sold group by hour) hours) as bookings_per_hour
  from events e
 where e.id = $1::bigint and ($2::uuid is null or e.organizer_id = $2::uuid);
