-- migrate:up

-- An order says in whose session it was sent, and the transaction that decides it looks whether that
-- still lives: nobody needs to ask beforehand. Orders of the version before this one say none.
alter type seat_request add attribute session_id uuid;

-- Locks every row that could make one batch wait for another, except the seats.
-- Ended by the transaction that also does the work. Returns whose account was closed, or whose
-- session has ended.
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
      left join sessions s on s.id = r.session_id and s.user_id = r.user_id
                          and s.ended_at is null and s.expires_at > now()
     where not locked.active or (r.session_id is not null and s.id is null);
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

-- Decides all orders of a batch, no two of which have a user or a seat in common. First every row
-- is locked that could change the answer: a count in the same snapshot as the lock would be wrong.
create or replace function judge(requests seat_request[]) returns seat_verdict[]
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
               id, user_id, event_id, seat_ids, hold_id, ticket_type_id, key, request_hash,
               session_id, n)
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
