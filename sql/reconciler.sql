-- name: try_turn
-- One worker at a time looks.
select pg_try_advisory_xact_lock(hashtext('seatsvc reconciler'));

-- name: get_next_event
-- Round and round.
select coalesce(
    (select min(id) from events where id > $1::bigint), (select min(id) from events), 0);

-- name: count_violations
-- One statement, and so one moment: every write keeps these at 0 in a transaction of its own.
select (select count(*)
          from (select from booking_seats bs
                  join bookings b on b.id = bs.booking_id
                 where b.event_id = $1::bigint and bs.active
                 group by bs.seat_id having count(*) > 1) twice) as sold_twice,
       (select count(*)
          from seats s
         where s.event_id = $1::bigint and s.booking_id is not null
           and not exists (
               select from booking_seats bs
                where bs.booking_id = s.booking_id and bs.seat_id = s.id and bs.active)
       ) as taken_without_booking,
       (select count(*)
          from booking_seats bs
          join bookings b on b.id = bs.booking_id
          left join seats s on s.id = bs.seat_id
         where b.event_id = $1::bigint and bs.active
           and s.booking_id is distinct from bs.booking_id) as booked_but_not_taken,
       (select count(*)
          from booking_seats bs
          join bookings b on b.id = bs.booking_id
         where b.event_id = $1::bigint and bs.active <> (b.status = 'active')) as half_cancelled,
       (select count(*)
          from ticket_types t
         where t.event_id = $1::bigint and t.quantity is not null
           and t.taken <> (select count(*)
                             from booking_seats bs
                             join bookings b on b.id = bs.booking_id
                            where b.event_id = t.event_id and bs.active
                              and bs.ticket_type_id = t.id)
                        + (select count(*)
                             from holds h,
                                  json_to_recordset(h.seats) as held (ticket_type_id bigint)
                            where h.event_id = t.event_id and h.ended_at is null
                              and held.ticket_type_id = t.id)) as miscounted_types;

-- name: get_lags
-- The oldest mail that waits, tried before or not, and the oldest hold that should have ended.
select coalesce(extract(epoch from now() - (
           select min(created_at) from outbox where dead_at is null)), 0)::float8 as outbox_s,
       (select count(*) from outbox where dead_at is not null) as dead,
       coalesce(extract(epoch from now() - (
           select min(expires_at) from holds where ended_at is null)), 0)::float8 as expiry_s;
