-- migrate:up

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

-- One refusal or one booking. `refusal` is null exactly when booking_id is set.
create type booking_result as (
    refusal    text,
    blame      json,
    allowance  json,
    booking_id uuid,
    replayed   boolean
);

create function refused(code text, blame json default null, allowance json default null)
returns booking_result
language sql immutable as $$
    select row(code, blame, allowance, null, false)::booking_result
$$;

-- What the event's limits still allow this user. Null: no limit. Only a transaction that has
-- locked the user's row may trust the answer.
create function remaining_allowance(
    e events, buyer uuid, out remaining_seats bigint, out remaining_today bigint)
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
end $$;

-- Books the wanted seats, all or none. The caller has locked the user's and the event's row.
-- A seat whose row is locked is skipped, never waited for: nobody can queue or deadlock here.
create function book_one(
    new_id uuid, buyer uuid, wanted_event bigint, wanted_seats bigint[], wanted_type bigint,
    idem_key text, idem_hash bytea) returns booking_result
language plpgsql as $$
declare
    e         events;
    earlier   idempotency_keys;
    allowance record;
    got       record;
begin
    if idem_key is not null then
        select * into earlier
          from idempotency_keys
         where user_id = buyer and key = idem_key and created_at > now() - interval '24 hours';
        if earlier.request_hash <> idem_hash then
            return refused('idempotency_key_reused');
        elsif found then
            return row(null, null, null, earlier.booking_id, true)::booking_result;
        end if;
    end if;

    select * into e from events where id = wanted_event;
    if not found then
        return refused('not_found');
    elsif e.status = 'cancelled' then
        return refused('event_cancelled');
    elsif now() < e.sales_start or now() >= e.sales_end then
        return refused('sales_closed');
    end if;

    with mine as materialized (
        select * from seats
         where id = any (wanted_seats) and event_id = wanted_event
         order by id for update skip locked
    ), judged as (
        select w.id,
               case when mine.id is null then 'busy'
                    when mine.booking_id is not null then 'seat_taken'
                    when mine.blocked then 'seat_blocked'
                    when mine.held_until > now() then 'seat_held'
                    when wanted_type <> mine.ticket_type_id then 'ticket_type_not_allowed'
               end as reason
          from unnest(wanted_seats) w (id)
          left join mine on mine.id = w.id
    )
    select min(reason) filter (where reason = 'seat_taken') as taken,
           min(reason) as other,
           json_agg(json_build_object('id', id, 'reason', reason) order by id)
               filter (where reason is not null) as blame
      into got
      from judged;
    if got.blame is not null then
        return refused(coalesce(got.taken, got.other), got.blame);
    end if;

    allowance := remaining_allowance(e, buyer);
    if allowance.remaining_today < 1 then
        return refused('daily_limit_reached', null, row_to_json(allowance));
    elsif allowance.remaining_seats < cardinality(wanted_seats) then
        return refused('user_limit_reached', null, row_to_json(allowance));
    end if;

    insert into bookings (id, event_id, user_id, quantity, total, currency)
    select new_id, wanted_event, buyer, count(*), coalesce(sum(t.price), 0), min(t.currency)
      from seats s
      left join ticket_types t on t.id = coalesce(s.ticket_type_id, wanted_type)
     where s.id = any (wanted_seats);

    insert into booking_seats (booking_id, seat_id, ticket_type_id, price)
    select new_id, s.id, t.id, coalesce(t.price, 0)
      from seats s
      left join ticket_types t on t.id = coalesce(s.ticket_type_id, wanted_type)
     where s.id = any (wanted_seats);

    update seats
       set booking_id = new_id, hold_id = null, held_until = null,
           changed = pg_current_xact_id()
     where id = any (wanted_seats);

    if idem_key is not null then
        insert into idempotency_keys (user_id, key, request_hash, booking_id)
        values (buyer, idem_key, idem_hash, new_id)
        on conflict (user_id, key) do update
           set request_hash = excluded.request_hash, booking_id = excluded.booking_id,
               created_at = excluded.created_at;
    end if;
    return row(null, null, null, new_id, false)::booking_result;
end $$;

-- Books many requests in one transaction, each with its own result, in the order given.
-- All rows that could make one transaction wait for another are locked here first, users before
-- events and each kind in the order of its ids, so that no two batches can deadlock. Holding the
-- lock named by `batch` shows whoever lost this connection that the outcome is not settled yet.
create function book(batch bigint, requests json)
returns table (
    refusal text, blame json, allowance json, replayed boolean,
    id uuid, event_id bigint, user_id uuid, status text, quantity integer, total bigint,
    currency text, created_at timestamptz, updated_at timestamptz, cancelled_at timestamptz,
    seats json)
language plpgsql as $$
#variable_conflict use_column
declare
    r       record;
    results booking_result[];
begin
    perform pg_advisory_xact_lock(batch);
    perform from users
      where id in (select (j ->> 'user_id')::uuid from json_array_elements(requests) j)
      order by id for no key update;
    perform from events
      where id in (select (j ->> 'event_id')::bigint from json_array_elements(requests) j)
      order by id for key share;
    for r in
        select * from json_to_recordset(requests) as x (
            id uuid, user_id uuid, event_id bigint, seat_ids bigint[], ticket_type_id bigint,
            key text, request_hash text)
    loop
        results := results || book_one(r.id, r.user_id, r.event_id, r.seat_ids, r.ticket_type_id,
                                       r.key, decode(r.request_hash, 'hex'));
    end loop;
    return query
        select u.refusal, u.blame, u.allowance, u.replayed, d.*
          from unnest(results) with ordinality u
          left join booking_details d on d.id = u.booking_id
         order by u.ordinality;
end $$;

-- Cancels the user's own booking and frees its seats. Returns why not, or null.
-- A booking is locked before its seats, seats in the order of their ids.
create function cancel_booking(wanted uuid, owner uuid) returns text
language plpgsql as $$
declare
    b bookings;
begin
    select * into b from bookings where id = wanted and user_id = owner for update;
    if not found then
        return 'not_found';
    elsif b.status = 'cancelled' then
        return 'already_cancelled';
    end if;
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

-- migrate:down

drop function cancel_booking, book, book_one, remaining_allowance, refused;
drop type booking_result;
drop function reserve_seat_ids;
