-- migrate:up

-- Orders that meet are decided and written together: most of what a booking cost was what its
-- statements cost, and a statement can serve them all.

-- What became of an order before anything is written: what it asked for, and either why not, or
-- what its key made before, or the seats that it gets.
create type seat_verdict as (
    n              bigint,    -- its place in the batch
    id             uuid,
    user_id        uuid,
    event_id       bigint,
    hold_id        uuid,
    ticket_type_id bigint,
    key            text,
    request_hash   text,
    refusal        text,
    blame          json,
    allowance      json,
    earlier        uuid,
    seats          json,      -- as its booking will show them
    seat_ids       bigint[],
    total          bigint,
    currency       text,
    limited        boolean    -- it takes from a ticket type with a quantity
);

drop function book, hold, book_one, hold_one, choose_seats, priced_seats, replayed, remember,
    refused, worst_reason;
drop type seat_result;

-- A seat and its booking point at each other, and are written by one function in one transaction:
-- to have these foreign keys looked up again for each booking would be a third of its cost.
-- What they refused, delete_event and delete_ticket_type ask for where no sale can come between.
alter table seats drop constraint seats_booking_id_fkey, drop constraint seats_hold_id_fkey;
alter table booking_seats drop constraint booking_seats_seat_id_fkey,
    drop constraint booking_seats_ticket_type_id_fkey;
drop index booking_seats_seat_idx, booking_seats_ticket_type_idx;

-- Locks every row that could make one batch wait for another, except the seats.
-- Ended by the transaction that also does the work. Returns those whose account has been closed.
drop function lock_parties(seat_request[]);
create function lock_parties(requests seat_request[]) returns uuid[]
language plpgsql as $$
declare
    gone uuid[];
begin
    with locked as materialized (
        select id, active from users where id in (select user_id from unnest(requests))
         order by id for no key update
    )
    select array_agg(id) into gone from locked where not active;
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

-- Why nothing of this event can be bought now; null if it is on sale.
create function closed(e events) returns text
language sql stable as $$
    select case when e.id is null then 'not_found'
                when e.status = 'cancelled' then 'event_cancelled'
                when now() < e.sales_start or now() >= e.sales_end then 'sales_closed' end
$$;

-- The holds that these orders book, if they still run. The caller has locked them.
create function running_holds(requests seat_request[]) returns uuid[]
language plpgsql as $$
begin
    return array(
        select h.id
          from unnest(requests) r
          join holds h on h.id = r.hold_id and h.user_id = r.user_id
         where h.ended_at is null and h.expires_at > clock_timestamp());
end $$;

-- Locks those of the seats that nobody is at and that are on sale, or in one of these holds.
create function lock_seats(requests seat_request[], running uuid[]) returns bigint[]
language plpgsql as $$
declare
    wanted bigint[] := array(
        select unnest(r.seat_ids) from unnest(requests) r
        union all
        select unnest(h.seat_ids) from holds h where h.id = any (running));
begin
    return array(
        select id from seats
         where id = any (wanted) and booking_id is null
           and (not blocked and (held_until is null or held_until <= clock_timestamp())
                or hold_id = any (running))
         order by id for update skip locked);
end $$;

-- The codes of what is wrong with a seat, the one first that waiting would help least.
create function seat_reason(rank int) returns text
language sql immutable as $$
    select (array['seat_taken', 'seat_blocked', 'seat_held', 'busy', 'ticket_type_not_allowed'])[rank]
$$;

-- What an order would get: its seats, priced, and whose they are if they are not to be had. A seat
-- without a ticket type of its own takes the wanted one, or else the event's first with room for
-- all of them.
create function look_at_seats(
    wanted_event bigint, wanted bigint[], wanted_hold uuid, wanted_type bigint, locked bigint[])
returns table (
    places bigint, free bigint, worst text, blame json, seats json, seat_ids bigint[],
    total bigint, currency text, limited boolean)
language sql stable as $$
    select count(*), count(*) filter (where s.reason is null), seat_reason(min(s.reason)),
           json_agg(json_build_object('id', s.id, 'reason', seat_reason(s.reason)))
               filter (where s.reason is not null),
           json_agg(json_build_object(
               'id', s.id, 'section', s.section, 'row', s.row_name, 'number', s.number,
               'ticket_type_id', s.type_id, 'price', s.price)),
           array_agg(s.id), sum(s.price)::bigint, min(s.currency), bool_or(s.limited)
      from (select s.id, s.section, s.row_name, s.number, t.id as type_id,
                   coalesce(t.price, 0) as price, t.currency, t.quantity is not null as limited,
                   case when s.id = any (locked)
                             and (s.held_until is null or s.held_until <= clock_timestamp()
                                  or s.hold_id = wanted_hold)
                        then case when t.id is distinct from coalesce(wanted_type, t.id) then 5 end
                        when s.booking_id is not null then 1
                        when s.blocked then 2
                        when s.held_until > clock_timestamp() then 3
                        else 4 end as reason
              from seats s
              left join ticket_types t
                     on t.event_id = wanted_event and t.id = coalesce(
                        s.ticket_type_id, wanted_type,
                        (select o.id
                           from ticket_types o
                          where o.event_id = wanted_event
                          order by coalesce(o.taken + cardinality(wanted) > o.quantity, false), o.id
                          limit 1))
             where s.id = any (wanted) and s.event_id = wanted_event
             order by s.id) s
$$;

-- Is there too little left of a limited ticket type?
create function is_full(priced json) returns boolean
language sql stable as $$
    select exists (select from limited_types(priced) l
                     join ticket_types t on t.id = l.type_id
                    where t.taken + l.seats > t.quantity)
$$;

-- Decides all orders of a batch, no two of which have a user or a seat in common. First every row
-- is locked that could change the answer: a count in the same snapshot as the lock would be wrong.
create function judge(requests seat_request[]) returns seat_verdict[]
language plpgsql as $$
declare
    gone    uuid[]   := lock_parties(requests);
    running uuid[]   := running_holds(requests);
    locked  bigint[] := lock_seats(requests, running);
begin
    if (select count(distinct user_id) from unnest(requests)) < cardinality(requests) then
        raise cardinality_violation using message = 'orders of one user must take turns';
    end if;
    return array(
        select row(
            r.n, r.id, r.user_id, r.event_id, r.hold_id, r.ticket_type_id, r.key, r.request_hash,
            case when r.user_id = any (gone) then 'invalid_token'
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
               id, user_id, event_id, seat_ids, hold_id, ticket_type_id, key, request_hash, n)
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

-- Limited ticket types fill up in the order of the batch; a constraint stops them at their
-- quantity. `crowded`: for this order alone the answer might be another, since it names no type.
create function take_types(verdicts seat_verdict[]) returns seat_verdict[]
language plpgsql as $$
declare
    v      seat_verdict;
    result seat_verdict[];
begin
    foreach v in array verdicts loop
        if v.refusal is null and v.earlier is null and v.limited then
            if not is_full(v.seats) then
                perform count_types(v.seats, 1);
            elsif v.ticket_type_id is null and cardinality(verdicts) > 1 then
                v.refusal := 'crowded';
            else
                v.refusal := 'ticket_type_sold_out';
            end if;
        end if;
        result := result || v;
    end loop;
    return result;
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
    verdicts seat_verdict[];
begin
    perform pg_advisory_xact_lock(batch);
    verdicts := take_types(judge(array(select json_populate_recordset(null::seat_request, wanted))));
    with sale as materialized (
        select v.* from unnest(verdicts) v where v.refusal is null and v.earlier is null
    ), booked as (
        insert into bookings (id, event_id, user_id, quantity, total, currency)
        select id, event_id, user_id, cardinality(seat_ids), total, currency from sale
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
    )
    insert into outbox (kind, user_id, booking_id)
    select 'booking_confirmed', u.id, sale.id
      from sale
      join users u on u.id = sale.user_id
     where u.email is not null;
    return query
        select v.refusal, v.blame, v.allowance, v.earlier is not null, b.*,
               case when v.refusal is not null then null
                    when v.earlier is null then v.seats
                    else (select d.seats from booking_details d where d.id = v.earlier) end
          from unnest(verdicts) v
          left join bookings b on b.id = coalesce(v.earlier, v.id) and v.refusal is null
         order by v.n;
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
    verdicts seat_verdict[];
begin
    perform pg_advisory_xact_lock(batch);
    verdicts := take_types(judge(array(select json_populate_recordset(null::seat_request, wanted))));
    with sale as materialized (
        select v.*, now() + make_interval(secs => e.hold_seconds) as until
          from unnest(verdicts) v
          join events e on e.id = v.event_id
         where v.refusal is null and v.earlier is null
    ), held as (
        insert into holds (id, event_id, user_id, seat_ids, seats, quantity, first_expires_at,
                           expires_at)
        select id, event_id, user_id, seat_ids, seats, cardinality(seat_ids), until, until from sale
    ), remembered as (
        insert into idempotency_keys (user_id, key, request_hash, hold_id)
        select user_id, key, request_hash, id from sale where key is not null
        on conflict (user_id, key) do update
           set request_hash = excluded.request_hash, hold_id = excluded.hold_id,
               booking_id = null, created_at = now()
    )
    update seats
       set hold_id = mine.hold_id, held_until = mine.until, changed = pg_current_xact_id()
      from (select id as hold_id, unnest(seat_ids) as seat_id, until from sale) mine
     where seats.id = mine.seat_id;
    return query
        select v.refusal, v.blame, v.allowance, v.earlier is not null, h.id, h.event_id, h.user_id,
               h.seats, h.created_at, h.first_expires_at, h.expires_at
          from unnest(verdicts) v
          left join holds h on h.id = coalesce(v.earlier, v.id) and v.refusal is null
         order by v.n;
end $$;

-- One plan for every batch, which looks each row up by its key: arrays and young tables would make
-- the planner think again each time, or read tables from end to end.
do $$
declare
    f regprocedure;
begin
    foreach f in array array['book(bigint, json)', 'hold(bigint, json)']::regprocedure[] loop
        execute format('alter function %s set plan_cache_mode = force_generic_plan', f);
        execute format('alter function %s set enable_seqscan = off', f);
        execute format('alter function %s set enable_hashjoin = off', f);
        execute format('alter function %s set enable_mergejoin = off', f);
    end loop;
end $$;

-- False when there is no such ticket type, or it is another's. Sales that use one are looked for
-- where no new one can be made.
create or replace function delete_ticket_type(wanted bigint, owner uuid) returns boolean
language plpgsql as $$
declare
    its_event bigint := (select event_id from ticket_types where id = wanted);
begin
    perform from events e
      where e.id = its_event and (owner is null or e.organizer_id = owner)
        for update;
    if not found then
        return false;
    elsif exists (
        select from holds h, json_to_recordset(h.seats) as s (ticket_type_id bigint)
         where h.event_id = its_event and h.ended_at is null and s.ticket_type_id = wanted)
       or exists (
        select from bookings b
          join booking_seats s on s.booking_id = b.id
         where b.event_id = its_event and s.ticket_type_id = wanted) then
        raise foreign_key_violation using
            message = 'the ticket type is in use', constraint = 'ticket_types_in_use';
    end if;
    delete from ticket_types where id = wanted;
    return found;
end $$;
