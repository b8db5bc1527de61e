-- migrate:up

-- A batch costs PostgreSQL what its statements cost, more than what its orders do: when it is small,
-- most of it. Now one statement reads the orders, holds are looked for only where some are named,
-- and what is written is answered by the statement that writes it.

-- Locks every row that could make one batch wait for another, except the seats. Ended by the
-- transaction that also does the work. Returns which of the holds still run.
create or replace function lock_parties(requests seat_request[]) returns uuid[]
language plpgsql as $$
declare
    buyers uuid[];
    chosen bigint[];
    named  uuid[];
begin
    select array_agg(distinct user_id), array_agg(distinct event_id),
           array_agg(hold_id) filter (where hold_id is not null)
      into buyers, chosen, named
      from unnest(requests);
    if cardinality(buyers) < cardinality(requests) then
        raise cardinality_violation using message = 'orders of one user must take turns';
    end if;
    perform from users where id = any (buyers) order by id for no key update;
    -- Whoever comes after a cancellation leaves the row alone, so that it need not wait for ever.
    perform from events
      where id = any (chosen) and status = 'on_sale'
      order by id for key share;
    if named is not null then
        perform from holds where id = any (named) order by id for update;
    end if;
    perform from ticket_types
      where event_id = any (chosen) and quantity is not null
      order by id for no key update;
    return case when named is null then '{}' else running_holds(requests) end;
end $$;

-- Decides all orders of a batch, no two of which have a user or a seat in common. First every row
-- is locked that could change the answer: a count in the same snapshot as the lock would be wrong.
create or replace function judge(requests seat_request[]) returns seat_verdict[]
language plpgsql as $$
declare
    running uuid[]   := lock_parties(requests);
    locked  bigint[] := lock_seats(requests, running);
begin
    return array(
        select row(
            r.n, r.id, r.user_id, r.event_id, r.hold_id, r.ticket_type_id, r.key, r.request_hash,
            case when not u.active
                   or r.session_id is not null
                  and r.user_id is distinct from (
                      select s.user_id from sessions s
                       where s.id = r.session_id and s.ended_at is null and s.expires_at > now())
                     then 'invalid_token'
                 when k.request_hash = r.request_hash then null
                 when k.key is not null then 'idempotency_key_reused'
                 when closed(e) is not null then closed(e)
                 when r.hold_id is not null and h.id is null then 'not_found'
                 when h.id is not null and (h.id <> all (running) or s.free < s.places)
                     then 'hold_expired'
                 when s.places = 0 then 'sold_out'
                 when s.worst is not null then s.worst
                 when s.limited and h.id is null and is_full(s.seats) then 'ticket_type_sold_out'
                 when a.remaining_today < 1 then 'daily_limit_reached'
                 when a.remaining_seats < s.places then 'user_limit_reached'
            end,
            case when h.id is null then s.blame end,
            case when least(a.remaining_today, a.remaining_seats - s.places + 1) < 1
                 then row_to_json(a) end,
            coalesce(k.booking_id, k.hold_id),
            coalesce(h.seats, s.seats), s.seat_ids,
            case when h.id is null then s.total
                 else (select sum(price) from json_to_recordset(h.seats) as held (price bigint)) end,
            s.currency, s.limited and h.id is null)::seat_verdict
          from unnest(requests) with ordinality as r (
               id, user_id, event_id, seat_ids, hold_id, ticket_type_id, key, request_hash,
               session_id, n)
          join users u on u.id = r.user_id
          left join events e on e.id = r.event_id
          left join holds h on h.id = r.hold_id and h.user_id = r.user_id
          left join idempotency_keys k on k.user_id = r.user_id and k.key = r.key
                                      and k.created_at > now() - interval '24 hours'
          left join lateral (
               select allowed.* from remaining_allowance(e, r.user_id, r.hold_id) allowed
                where e.max_seats_per_user is not null
                   or e.max_bookings_per_user_per_day is not null) a on true
         cross join lateral look_at_seats(r.event_id, coalesce(h.seat_ids, r.seat_ids), h.id,
                                          r.ticket_type_id, locked) s
         order by r.n);
end $$;

-- Books many requests in one transaction, each with its own result, in the order given.
-- Holding the lock named by `batch` shows whoever lost this connection that the outcome is not
-- settled yet.
create or replace function book(batch bigint, wanted json)
returns table (
    refusal text, blame json, allowance json, replayed boolean,
    id uuid, event_id bigint, user_id uuid, status text, quantity integer, total bigint,
    currency text, created_at timestamptz, updated_at timestamptz, cancelled_at timestamptz,
    seats json)
language plpgsql
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_bitmapscan = off
set enable_hashjoin = off
set enable_mergejoin = off
as $$
#variable_conflict use_column
declare
    verdicts seat_verdict[];
begin
    perform pg_advisory_xact_lock(batch);
    verdicts := take_types(judge(array(select json_populate_recordset(null::seat_request, wanted))));
    return query
    with sale as materialized (
        select v.* from unnest(verdicts) v where v.refusal is null and v.earlier is null
    ), booked as (
        insert into bookings (id, event_id, user_id, quantity, total, currency)
        select id, event_id, user_id, cardinality(seat_ids), total, currency from sale
        returning *
    ), sold as (
        insert into booking_seats (booking_id, seat_id, ticket_type_id, price)
        select sale.id, seat.id, seat.ticket_type_id, seat.price
          from sale,
               json_to_recordset(sale.seats) as seat (id bigint, ticket_type_id bigint, price bigint)
    ), taken as (
        update seats
           set booking_id = mine.booking_id, hold_id = null, held_until = null,
               changed = pg_current_xact_id()
          from (select id as booking_id, unnest(seat_ids) as seat_id from sale) mine
         where seats.id = mine.seat_id
    ), ended as (
        update holds set ended_at = now() where id in (select hold_id from sale)
    ), remembered as (
        insert into idempotency_keys (user_id, key, request_hash, booking_id)
        select user_id, key, request_hash, id from sale where key is not null
        on conflict (user_id, key) do update
           set request_hash = excluded.request_hash, booking_id = excluded.booking_id,
               hold_id = null, created_at = now()
    ), told as (
        insert into outbox (kind, user_id, booking_id)
        select 'booking_confirmed', u.id, sale.id
          from sale
          join users u on u.id = sale.user_id
         where u.email is not null
    )
    select v.refusal, v.blame, v.allowance, v.earlier is not null, b.*,
           case when v.refusal is not null then null
                when v.earlier is null then v.seats
                else (select d.seats from booking_details d where d.id = v.earlier) end
      from unnest(verdicts) v
      left join lateral (
           select * from booked where id = v.id
           union all
           select * from bookings where id = v.earlier) b on v.refusal is null
     order by v.n;
end $$;

-- The same for holds.
create or replace function hold(batch bigint, wanted json)
returns table (
    refusal text, blame json, allowance json, replayed boolean,
    id uuid, event_id bigint, user_id uuid, seats json, created_at timestamptz,
    first_expires_at timestamptz, expires_at timestamptz)
language plpgsql
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_bitmapscan = off
set enable_hashjoin = off
set enable_mergejoin = off
as $$
#variable_conflict use_column
declare
    verdicts seat_verdict[];
begin
    perform pg_advisory_xact_lock(batch);
    verdicts := take_types(judge(array(select json_populate_recordset(null::seat_request, wanted))));
    return query
    with sale as materialized (
        select v.*, now() + make_interval(secs => e.hold_seconds) as until
          from unnest(verdicts) v
          join events e on e.id = v.event_id
         where v.refusal is null and v.earlier is null
    ), held as (
        insert into holds (id, event_id, user_id, seat_ids, seats, quantity, first_expires_at,
                           expires_at)
        select id, event_id, user_id, seat_ids, seats, cardinality(seat_ids), until, until from sale
        returning *
    ), remembered as (
        insert into idempotency_keys (user_id, key, request_hash, hold_id)
        select user_id, key, request_hash, id from sale where key is not null
        on conflict (user_id, key) do update
           set request_hash = excluded.request_hash, hold_id = excluded.hold_id,
               booking_id = null, created_at = now()
    ), taken as (
        update seats
           set hold_id = mine.hold_id, held_until = mine.until, changed = pg_current_xact_id()
          from (select id as hold_id, unnest(seat_ids) as seat_id, until from sale) mine
         where seats.id = mine.seat_id
    )
    select v.refusal, v.blame, v.allowance, v.earlier is not null, h.id, h.event_id, h.user_id,
           h.seats, h.created_at, h.first_expires_at, h.expires_at
      from unnest(verdicts) v
      left join lateral (
           select * from held where id = v.id
           union all
           select * from holds where id = v.earlier) h on v.refusal is null
     order by v.n;
end $$;
