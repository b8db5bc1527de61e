-- migrate:up

-- Tables without statistics are a new service's first minute, and a sale that opens in it. As joins
-- and conditions, what follows was planned then so that each batch read all sessions, and all
-- bookings of an event with limits. Now each row is found by its key, whatever is known of the rest.

create or replace function lock_parties(requests seat_request[]) returns uuid[]
language plpgsql as $$
declare
    gone uuid[];
begin
    with locked as materialized (
        select id, active from users where id in (select user_id from unnest(requests))
         order by id for no key update
    )
    select array_agg(r.user_id) into gone
      from unnest(requests) r
      join locked on locked.id = r.user_id
     where not locked.active
        or r.session_id is not null
           and r.user_id is distinct from (
               select s.user_id from sessions s
                where s.id = r.session_id and s.ended_at is null and s.expires_at > now());
    -- Whoever comes after a cancellation leaves the row alone, so that it need not wait for ever.
    perform from events
      where id in (select event_id from unnest(requests)) and status = 'on_sale'
      order by id for key share;
    perform from holds where id in (select hold_id from unnest(requests))
      order by id for update;
    perform from ticket_types
      where event_id in (select event_id from unnest(requests)) and quantity is not null
      order by id for no key update;
    return coalesce(gone, '{}');
end $$;

-- `offset 0`: the buyer's bookings, and only of these the event's.
create or replace function remaining_allowance(
    e events, buyer uuid, booked_hold uuid, out remaining_seats bigint, out remaining_today bigint)
language plpgsql stable as $$
begin
    if e.max_seats_per_user is null and e.max_bookings_per_user_per_day is null then
        return;
    end if;
    select e.max_seats_per_user - coalesce(sum(b.quantity), 0),
           e.max_bookings_per_user_per_day
               - count(*) filter (where b.created_at >= date_trunc('day', now(), 'UTC'))
      into remaining_seats, remaining_today
      from (select * from bookings where user_id = buyer offset 0) b
     where b.event_id = e.id and b.status = 'active';
    select remaining_seats - coalesce(sum(h.quantity), 0)
      into remaining_seats
      from holds h
     where h.user_id = buyer and h.event_id = e.id and h.ended_at is null
       and h.expires_at > clock_timestamp() and h.id is distinct from booked_hold;
end $$;

-- No index is read from end to end either.
alter function book set enable_bitmapscan = off;
alter function hold set enable_bitmapscan = off;
