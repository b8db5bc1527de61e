-- migrate:up

-- Lock order, everywhere: users, events, bookings, holds, ticket types; each kind in the order of
-- its ids. Seats come last and are never waited for while they are on sale: a seat whose row is
-- locked is skipped and the buyer told that it is busy. So nothing here can deadlock.

-- Sets `places` consecutive seat ids aside and returns the first. A sequence does not roll back,
-- so the lock need only last for the two calls, not for the transaction that fills the hall.
create function reserve_seat_ids(places bigint) returns bigint
language plpgsql as $$
declare
    first_id bigint;
begin
    perform pg_advisory_lock(hashtext('seat_ids'));
    first_id := nextval('seat_ids');
    perform setval('seat_ids', first_id + places - 1);
    perform pg_advisory_unlock(hashtext('seat_ids'));
    return first_id;
end $$;

-- What a client asks for: seats or a hold to be booked, or seats to be held.
create type seat_request as (
    id             uuid,
    user_id        uuid,
    event_id       bigint,
    seat_ids       bigint[],
    hold_id        uuid,
    ticket_type_id bigint,
    key            text,
    request_hash   text
);

-- What became of it. `refusal` is null exactly when `id` names a booking or a hold.
create type seat_result as (
    refusal   text,
    blame     json,
    allowance json,
    id        uuid,
    replayed  boolean
);

create function refused(code text, blame json default null, allowance json default null)
returns seat_result
language sql immutable as $$
    select row(code, blame, allowance, null, false)::seat_result
$$;

-- Locks every row that could make one batch wait for another, except the seats.
-- Ended by the transaction that also does the work.
create function lock_parties(requests seat_request[]) returns void
language plpgsql as $$
begin
    perform from users where id in (select user_id from unnest(requests))
      order by id for no key update;
    perform from events where id in (select event_id from unnest(requests))
      order by id for key share;
    perform from holds where id in (select hold_id from unnest(requests))
      order by id for update;
    perform from ticket_types
      where event_id in (select event_id from unnest(requests)) and quantity is not null
      order by id for no key update;
end $$;

-- Locks those of the seats that are on sale and nobody is at; says why not of the others.
create function lock_free_seats(wanted_event bigint, wanted bigint[]) returns json
language sql as $$
    with locked as materialized (
        select id from seats
         where id = any (wanted) and event_id = wanted_event
           and booking_id is null and not blocked
           and (held_until is null or held_until <= clock_timestamp())
         order by id for update skip locked
    )
    select json_agg(json_build_object('id', s.id, 'reason',
               case when s.booking_id is not null then 'seat_taken'
                    when s.blocked then 'seat_blocked'
                    when s.held_until > clock_timestamp() then 'seat_held'
                    else 'busy' end) order by s.id)
      from seats s
     where s.id = any (wanted) and s.id not in (select id from locked)
$$;

-- Locks the seats of a hold; false when it has lost one. Nobody else locks them while it runs, so
-- whoever is at one of them now came just as it expired.
create function lock_held_seats(h holds) returns boolean
language sql as $$
    with locked as materialized (
        select id from seats
         where id = any (h.seat_ids) and hold_id = h.id
         order by id for update skip locked
    )
    select count(*) = cardinality(h.seat_ids) from locked
$$;

-- The one refusal that speaks for all: the reason that waiting would help least.
create function worst_reason(blame json) returns text
language sql immutable as $$
    select b ->> 'reason' from json_array_elements(blame) b
     order by array_position(array['seat_taken', 'seat_blocked', 'seat_held', 'busy'], b ->> 'reason')
     limit 1
$$;

-- What these seats would cost, as a booking shows them. A seat without a ticket type of its own
-- takes the wanted one, or else the event's first that has room for all of them.
create function priced_seats(wanted_event bigint, wanted bigint[], wanted_type bigint) returns json
language sql stable as $$
    with choice as (
        select coalesce(wanted_type, (
            select id from ticket_types
             where event_id = wanted_event
             order by coalesce(taken + cardinality(wanted) > quantity, false), id
             limit 1)) as id
    )
    select json_agg(row_to_json(seat) order by seat.id)
      from (select s.id, s.section, s.row_name as row, s.number, t.id as ticket_type_id,
                   coalesce(t.price, 0) as price
              from seats s
              cross join choice
              left join ticket_types t
                     on t.id = coalesce(s.ticket_type_id, choice.id) and t.event_id = wanted_event
             where s.id = any (wanted)) seat
$$;

-- How many of the seats are of which limited ticket type.
create function limited_types(priced json) returns table (type_id bigint, seats bigint)
language sql stable as $$
    select t.id, count(*)
      from json_to_recordset(priced) as s (ticket_type_id bigint)
      join ticket_types t on t.id = s.ticket_type_id and t.quantity is not null
     group by t.id
$$;

-- What the event's limits still allow this user; null: no limit. Holds that run count as seats,
-- but for the one that is being booked. Only who has locked the user's row may trust the answer.
create function remaining_allowance(
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
      from bookings b
     where b.user_id = buyer and b.event_id = e.id and b.status = 'active';
    select remaining_seats - coalesce(sum(h.quantity), 0)
      into remaining_seats
      from holds h
     where h.user_id = buyer and h.event_id = e.id and h.ended_at is null
       and h.expires_at > clock_timestamp() and h.id is distinct from booked_hold;
end $$;

-- Why this request must be refused, or null; and the seats it gets, priced and locked.
-- The caller has locked the parties.
create function choose_seats(
    r seat_request, e events, out refusal seat_result, out chosen json, out wanted bigint[])
language plpgsql as $$
declare
    h         holds;
    blame     json;
    allowance record;
begin
    if e.id is null then
        refusal := refused('not_found');
    elsif e.status = 'cancelled' then
        refusal := refused('event_cancelled');
    elsif now() < e.sales_start or now() >= e.sales_end then
        refusal := refused('sales_closed');
    elsif r.hold_id is null and cardinality(r.seat_ids) = 0 then
        refusal := refused('sold_out');
    end if;
    if refusal.refusal is not null then
        return;
    end if;

    if r.hold_id is not null then
        select * into h from holds where id = r.hold_id and user_id = r.user_id;
        if not found then
            refusal := refused('not_found');
            return;
        elsif h.ended_at is not null or h.expires_at <= clock_timestamp() then
            refusal := refused('hold_expired');
            return;
        end if;
        if not lock_held_seats(h) then
            refusal := refused('hold_expired');
            return;
        end if;
        wanted := h.seat_ids;
        chosen := h.seats;
    else
        wanted := r.seat_ids;
        blame := lock_free_seats(r.event_id, wanted);
        if blame is not null then
            refusal := refused(worst_reason(blame), blame);
            return;
        end if;
        chosen := priced_seats(r.event_id, wanted, r.ticket_type_id);
        select json_agg(json_build_object('id', s.id, 'reason', 'ticket_type_not_allowed'))
          into blame
          from json_to_recordset(chosen) as s (id bigint, ticket_type_id bigint)
         where s.ticket_type_id is distinct from coalesce(r.ticket_type_id, s.ticket_type_id);
        if blame is not null then
            refusal := refused('ticket_type_not_allowed', blame);
            return;
        elsif exists (select from limited_types(chosen) l
                        join ticket_types t on t.id = l.type_id
                       where t.taken + l.seats > t.quantity) then
            refusal := refused('ticket_type_sold_out');
            return;
        end if;
    end if;

    allowance := remaining_allowance(e, r.user_id, r.hold_id);
    if allowance.remaining_today < 1 then
        refusal := refused('daily_limit_reached', null, row_to_json(allowance));
    elsif allowance.remaining_seats < cardinality(wanted) then
        refusal := refused('user_limit_reached', null, row_to_json(allowance));
    end if;
end $$;

-- The earlier result of the same user's same key, or null.
create function replayed(r seat_request) returns seat_result
language plpgsql stable as $$
declare
    earlier idempotency_keys;
begin
    select * into earlier
      from idempotency_keys
     where user_id = r.user_id and key = r.key and created_at > now() - interval '24 hours';
    if not found then
        return null;
    elsif earlier.request_hash <> r.request_hash then
        return refused('idempotency_key_reused');
    end if;
    return row(null, null, null, coalesce(earlier.booking_id, earlier.hold_id), true)::seat_result;
end $$;

create function remember(r seat_request, booking uuid, hold uuid) returns void
language sql as $$
    insert into idempotency_keys (user_id, key, request_hash, booking_id, hold_id)
    select r.user_id, r.key, r.request_hash, booking, hold
     where r.key is not null
    on conflict (user_id, key) do update
       set request_hash = excluded.request_hash, booking_id = excluded.booking_id,
           hold_id = excluded.hold_id, created_at = excluded.created_at
$$;

-- Limited ticket types of newly taken seats fill up; a constraint stops them at their quantity.
create function count_types(priced json, direction int) returns void
language sql as $$
    update ticket_types t set taken = taken + direction * l.seats
      from limited_types(priced) l
     where t.id = l.type_id
$$;

create function book_one(r seat_request) returns seat_result
language plpgsql as $$
declare
    result seat_result := replayed(r);
    e      events;
    picked record;
begin
    if result.id is not null or result.refusal is not null then
        return result;
    end if;
    select * into e from events where id = r.event_id;
    select * into picked from choose_seats(r, e);
    if (picked.refusal).refusal is not null then
        return picked.refusal;
    end if;

    insert into bookings (id, event_id, user_id, quantity, total, currency)
    select r.id, r.event_id, r.user_id, count(*), sum(s.price), min(t.currency)
      from json_to_recordset(picked.chosen) as s (ticket_type_id bigint, price bigint)
      left join ticket_types t on t.id = s.ticket_type_id;
    insert into booking_seats (booking_id, seat_id, ticket_type_id, price)
    select r.id, s.id, s.ticket_type_id, s.price
      from json_to_recordset(picked.chosen) as s (id bigint, ticket_type_id bigint, price bigint);
    update seats
       set booking_id = r.id, hold_id = null, held_until = null, changed = pg_current_xact_id()
     where id = any (picked.wanted);
    if r.hold_id is null then
        perform count_types(picked.chosen, 1);
    else
        update holds set ended_at = now() where id = r.hold_id;
    end if;
    perform remember(r, r.id, null);
    return row(null, null, null, r.id, false)::seat_result;
end $$;

create function hold_one(r seat_request) returns seat_result
language plpgsql as $$
declare
    result seat_result := replayed(r);
    e      events;
    picked record;
    until  timestamptz;
begin
    if result.id is not null or result.refusal is not null then
        return result;
    end if;
    select * into e from events where id = r.event_id;
    select * into picked from choose_seats(r, e);
    if (picked.refusal).refusal is not null then
        return picked.refusal;
    end if;

    until := now() + make_interval(secs => e.hold_seconds);
    insert into holds (id, event_id, user_id, seat_ids, seats, quantity, first_expires_at, expires_at)
    values (r.id, r.event_id, r.user_id, picked.wanted, picked.chosen,
            cardinality(picked.wanted), until, until);
    update seats
       set hold_id = r.id, held_until = until, changed = pg_current_xact_id()
     where id = any (picked.wanted);
    perform count_types(picked.chosen, 1);
    perform remember(r, null, r.id);
    return row(null, null, null, r.id, false)::seat_result;
end $$;

-- Books many requests in one transaction, each with its own result, in the order given.
-- Holding the lock named by `batch` shows whoever lost this connection that the outcome is not
-- settled yet.
create function book(batch bigint, wanted json)
returns table (
    refusal text, blame json, allowance json, replayed boolean,
    id uuid, event_id bigint, user_id uuid, status text, quantity integer, total bigint,
    currency text, created_at timestamptz, updated_at timestamptz, cancelled_at timestamptz,
    seats json)
language plpgsql as $$
#variable_conflict use_column
declare
    requests seat_request[] := array(select json_populate_recordset(null::seat_request, wanted));
    r        seat_request;
    results  seat_result[];
begin
    perform pg_advisory_xact_lock(batch);
    perform lock_parties(requests);
    foreach r in array requests loop
        results := results || book_one(r);
    end loop;
    return query
        select u.refusal, u.blame, u.allowance, u.replayed, d.*
          from unnest(results) with ordinality u
          left join booking_details d on d.id = u.id
         order by u.ordinality;
end $$;

-- The same for holds.
create function hold(batch bigint, wanted json)
returns table (
    refusal text, blame json, allowance json, replayed boolean,
    id uuid, event_id bigint, user_id uuid, seats json, created_at timestamptz,
    first_expires_at timestamptz, expires_at timestamptz)
language plpgsql as $$
#variable_conflict use_column
declare
    requests seat_request[] := array(select json_populate_recordset(null::seat_request, wanted));
    r        seat_request;
    results  seat_result[];
begin
    perform pg_advisory_xact_lock(batch);
    perform lock_parties(requests);
    foreach r in array requests loop
        results := results || hold_one(r);
    end loop;
    return query
        select u.refusal, u.blame, u.allowance, u.replayed, h.id, h.event_id, h.user_id, h.seats,
               h.created_at, h.first_expires_at, h.expires_at
          from unnest(results) with ordinality u
          left join holds h on h.id = u.id
         order by u.ordinality;
end $$;

-- Cancels the user's own booking and frees its seats. Returns why not, or null.
create function cancel_booking(wanted uuid, owner uuid) returns text
language plpgsql as $$
declare
    b       bookings;
    priced  json;
begin
    select * into b from bookings where id = wanted and user_id = owner for update;
    if not found then
        return 'not_found';
    elsif b.status = 'cancelled' then
        return 'already_cancelled';
    end if;
    select json_agg(bs) into priced from booking_seats bs where booking_id = wanted;
    perform from ticket_types
      where id in (select type_id from limited_types(priced)) order by id for no key update;
    perform count_types(priced, -1);
    perform from seats
      where id in (select seat_id from booking_seats where booking_id = wanted)
      order by id for update;
    update seats
       set booking_id = null, changed = pg_current_xact_id()
     where id in (select seat_id from booking_seats where booking_id = wanted)
       and booking_id = wanted;
    update booking_seats set active = false where booking_id = wanted;
    update bookings
       set status = 'cancelled', cancelled_at = now(), updated_at = now()
     where id = wanted;
    return null;
end $$;

-- Ends holds that the caller has locked, and frees those of their seats that they still have:
-- once a hold has expired, others may have taken its seats before it was ended.
create function end_holds(ended uuid[]) returns void
language plpgsql as $$
begin
    perform from ticket_types
      where id in (select l.type_id from holds h, limited_types(h.seats) l where h.id = any (ended))
      order by id for no key update;
    update ticket_types t set taken = taken - l.seats
      from (select l.type_id, sum(l.seats) as seats
              from holds h, limited_types(h.seats) l
             where h.id = any (ended)
             group by l.type_id) l
     where t.id = l.type_id;
    update seats s
       set hold_id = null, held_until = null, changed = pg_current_xact_id()
      from (select s.id from holds h, unnest(h.seat_ids) wanted (id), seats s
             where h.id = any (ended) and s.id = wanted.id and s.hold_id = h.id
             order by s.id for update of s) mine
     where s.id = mine.id;
    update holds set ended_at = now() where id = any (ended);
end $$;

-- Frees what expired, a hundred holds at a time; the events whose seats came free.
create function expire_holds() returns setof bigint
language plpgsql as $$
declare
    expired uuid[];
begin
    select array_agg(id) into expired
      from (select id from holds
             where ended_at is null and expires_at <= clock_timestamp()
             order by id limit 100 for update skip locked) h;
    if expired is null then
        return;
    end if;
    perform end_holds(expired);
    return query select distinct event_id from holds where id = any (expired);
end $$;

-- Releases the user's own hold. Returns why not, or null.
create function release_hold(wanted uuid, owner uuid) returns text
language plpgsql as $$
begin
    perform from holds where id = wanted and user_id = owner and ended_at is null for update;
    if not found then
        return 'not_found';
    end if;
    perform end_holds(array[wanted]);
    return null;
end $$;

-- Gives a hold that still runs its full time again, up to three times of it in all.
-- Returns why not, or null.
create function extend_hold(wanted uuid, owner uuid) returns text
language plpgsql as $$
declare
    h     holds;
    until timestamptz;
begin
    select * into h from holds where id = wanted and user_id = owner for update;
    if not found then
        return 'not_found';
    elsif h.ended_at is not null or h.expires_at <= clock_timestamp() then
        return 'hold_expired';
    end if;
    until := least(clock_timestamp() + (h.first_expires_at - h.created_at),
                   h.created_at + 3 * (h.first_expires_at - h.created_at));
    if until <= h.expires_at then
        return 'hold_limit';
    elsif not lock_held_seats(h) then
        return 'hold_expired';
    end if;
    update seats set held_until = until, changed = pg_current_xact_id()
     where id = any (h.seat_ids);
    update holds set expires_at = until where id = wanted;
    return null;
end $$;

-- Takes seats off sale, or puts them back. Returns the seats to blame, or null.
create function block_seats(wanted_event bigint, wanted bigint[], off_sale boolean) returns json
language plpgsql as $$
declare
    blame json;
begin
    if off_sale then
        blame := lock_free_seats(wanted_event, array(
            select id from seats where id = any (wanted) and not blocked));
        if blame is not null then
            return blame;
        end if;
    end if;
    perform from seats where id = any (wanted) and event_id = wanted_event order by id for update;
    update seats set blocked = off_sale, changed = pg_current_xact_id()
     where id = any (wanted) and event_id = wanted_event and blocked <> off_sale;
    return null;
end $$;

-- migrate:down

drop function block_seats, extend_hold, release_hold, expire_holds, end_holds, cancel_booking,
    hold, book, hold_one, book_one, count_types, remember, replayed, choose_seats,
    remaining_allowance, limited_types, priced_seats, worst_reason, lock_held_seats, lock_free_seats, lock_parties,
    refused, reserve_seat_ids;
drop type seat_result;
drop type seat_request;
