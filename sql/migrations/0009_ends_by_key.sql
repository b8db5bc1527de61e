-- migrate:up

-- The seats of a hold that ends could be found by reading all seats that are held, when the
-- statistics knew of few. And `clock_timestamp()` is no bound for an index: each look for what has
-- expired read all holds that run. Now each row is found by its key.

-- Ends holds that the caller has locked, and frees those of their seats that they still have:
-- once a hold has expired, others may have taken its seats before it was ended.
create or replace function end_holds(ended uuid[]) returns void
language plpgsql
set enable_seqscan = off
as $$
declare
    theirs bigint[];
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
    -- `coalesce`: a condition on hold_id alone invites to read the index of all that are held.
    theirs := array(
        select id from seats
         where id = any (array(select unnest(seat_ids) from holds where id = any (ended)))
           and coalesce(hold_id = any (ended), false)
         order by id for update);
    update seats
       set hold_id = null, held_until = null, changed = pg_current_xact_id()
     where id = any (theirs);
    update holds set ended_at = now() where id = any (ended);
end $$;

-- Frees what expired, a hundred holds at a time; the events whose seats came free.
create or replace function expire_holds() returns setof bigint
language plpgsql as $$
declare
    expired uuid[];
begin
    select array_agg(id) into expired
      from (select id from holds
             where ended_at is null and expires_at <= now()
             order by expires_at limit 100 for update skip locked) h;
    if expired is null then
        return;
    end if;
    perform end_holds(expired);
    return query select distinct event_id from holds where id = any (expired);
end $$;
