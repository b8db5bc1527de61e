-- migrate:up

-- What no constraint can say: all ticket types of an event have one currency, or its revenue would
-- be no number; and there are not too many to be listed at once.
create function check_ticket_type() returns trigger
language plpgsql as $$
begin
    perform from events where id = new.event_id for no key update;
    if exists (select from ticket_types
                where event_id = new.event_id and currency <> new.currency) then
        raise check_violation using
            message = 'an event is sold in one currency',
            constraint = 'ticket_types_one_currency';
    elsif (select count(*) from ticket_types where event_id = new.event_id) > 100 then
        raise check_violation using
            message = 'an event has at most 100 ticket types',
            constraint = 'ticket_types_limit';
    end if;
    return null;
end $$;

create constraint trigger ticket_types_check after insert on ticket_types
    for each row execute function check_ticket_type();

-- Changes what the JSON names; no row when there is no such ticket type, or it is another's.
-- Writes to an event's ticket types take turns; buyers do not notice.
create function change_ticket_type(wanted bigint, owner uuid, changes json)
returns setof ticket_types
language plpgsql as $$
declare
    t       ticket_types;
    counted integer;
begin
    perform from events e
      where e.id = (select event_id from ticket_types where id = wanted)
        and (owner is null or e.organizer_id = owner)
        for no key update;
    if not found then
        return;
    end if;
    select * into t from ticket_types where id = wanted;
    if t.quantity is null and changes ->> 'quantity' is not null then
        counted := count_taken(t.event_id, wanted);
    end if;
    return query
        update ticket_types o
           set (name, price, quantity) = (
               select n.name, n.price, n.quantity from json_populate_record(o, changes) n),
               taken = case when (json_populate_record(o, changes)).quantity is null then 0
                            else coalesce(counted, o.taken) end
         where o.id = wanted
        returning o.*;
end $$;

-- How many places of this type are booked or held. Until the caller's transaction ends, no sale
-- begins or ends that could change the answer, so that it may be written down.
create function count_taken(wanted_event bigint, wanted_type bigint) returns integer
language plpgsql as $$
begin
    perform from events where id = wanted_event for update;
    perform from bookings where event_id = wanted_event and status = 'active'
      order by id for no key update;
    perform from holds where event_id = wanted_event and ended_at is null
      order by id for no key update;
    return (select count(*)
              from bookings b
              join booking_seats bs on bs.booking_id = b.id and bs.active
             where b.event_id = wanted_event and bs.ticket_type_id = wanted_type)
         + (select count(*)
              from holds h, json_to_recordset(h.seats) as s (ticket_type_id bigint)
             where h.event_id = wanted_event and h.ended_at is null
               and s.ticket_type_id = wanted_type);
end $$;

-- False when there is no such ticket type, or it is another's. Foreign keys refuse to delete one
-- in use; a hold is not bound by one, so it is looked for where no new one can be made.
create function delete_ticket_type(wanted bigint, owner uuid) returns boolean
language plpgsql as $$
begin
    perform from events e
      where e.id = (select event_id from ticket_types where id = wanted)
        and (owner is null or e.organizer_id = owner)
        for update;
    if not found then
        return false;
    elsif exists (
        select from holds h, json_to_recordset(h.seats) as s (ticket_type_id bigint)
         where h.event_id = (select event_id from ticket_types where id = wanted)
           and h.ended_at is null and s.ticket_type_id = wanted) then
        raise foreign_key_violation using
            message = 'the ticket type is being held',
            constraint = 'holds_ticket_type_id_fkey';
    end if;
    delete from ticket_types where id = wanted;
    return found;
end $$;

-- False when there is no such event, or it is another's. The foreign key of bookings would refuse
-- too, but last, after a million places: so it is asked first, where no booking can come between.
create function delete_event(wanted bigint, owner uuid) returns boolean
language plpgsql as $$
declare
    e events;
begin
    select * into e from events
     where id = wanted and (owner is null or organizer_id = owner) for update;
    if not found then
        return false;
    elsif exists (select from bookings where event_id = wanted) then
        raise foreign_key_violation using
            message = 'the event has bookings', constraint = 'bookings_event_id_fkey';
    end if;
    delete from idempotency_keys where hold_id in (select id from holds where event_id = wanted);
    delete from seats where id >= e.first_seat_id and id < e.first_seat_id + e.capacity;
    delete from holds where event_id = wanted;
    delete from seat_rows where event_id = wanted;
    delete from sections where event_id = wanted;
    delete from ticket_types where event_id = wanted;
    delete from events where id = wanted;
    return true;
end $$;

-- Cancels every booking and ends every hold of an event whose sales have been stopped.
-- Single cancellations and expiries lock a booking or a hold first, so they do not come between.
-- Ticket types last, since whoever still tries to buy waits for them.
create function cancel_sales(wanted bigint) returns void
language plpgsql as $$
begin
    perform from bookings where event_id = wanted and status = 'active' order by id for update;
    perform from holds where event_id = wanted and ended_at is null order by id for update;
    perform from seats
      where event_id = wanted and changed is not null
        and (booking_id is not null or hold_id is not null)
      order by id for update;
    update seats
       set booking_id = null, hold_id = null, held_until = null, changed = pg_current_xact_id()
     where event_id = wanted and changed is not null
       and (booking_id is not null or hold_id is not null);
    update holds set ended_at = now() where event_id = wanted and ended_at is null;
    update booking_seats set active = false
     where active and booking_id in (
           select id from bookings where event_id = wanted and status = 'active');
    update bookings set status = 'cancelled', cancelled_at = now(), updated_at = now()
     where event_id = wanted and status = 'active';
    perform from ticket_types where event_id = wanted order by id for no key update;
    update ticket_types set taken = 0 where event_id = wanted and taken > 0;
end $$;

-- Changes what is not null; no row when there is no such user. There is always an admin: those
-- who demote each other take turns.
create function change_user(wanted uuid, new_role text, new_active boolean) returns setof users
language plpgsql as $$
declare
    u users;
begin
    perform from users where id = wanted or (role = 'admin' and active)
      order by id for no key update;
    update users
       set role = coalesce(new_role, role), active = coalesce(new_active, active)
     where id = wanted
    returning * into u;
    if not found then
        return;
    elsif not exists (select from users where role = 'admin' and active) then
        raise check_violation using
            message = 'this is the last admin', constraint = 'users_last_admin';
    end if;
    update sessions set ended_at = now()
     where user_id = wanted and ended_at is null and not u.active;
    return next u;
end $$;

-- migrate:down

drop function change_user, cancel_sales, delete_event, delete_ticket_type, change_ticket_type,
    count_taken;
drop trigger ticket_types_check on ticket_types;
drop function check_ticket_type;
