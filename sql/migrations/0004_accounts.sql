-- migrate:up

alter table users add column erased_at timestamptz;
create index sessions_expires_idx on sessions (expires_at);

-- Single-use tokens that were mailed. One counts only while its address is still the user's.
create table mail_tokens (
    token_hash bytea       primary key,
    user_id    uuid        not null references users,
    purpose    text        not null check (purpose in ('verify', 'reset')),
    email      text        not null,
    expires_at timestamptz not null
);
create index mail_tokens_user_idx on mail_tokens (user_id);
create index mail_tokens_expires_idx on mail_tokens (expires_at);

-- Mails to be sent, written in the same transaction as what they tell of. A row is what it takes
-- to write the mail, not the mail: neither an address nor a token rests here, but for the former
-- address of someone who changed it. Without a user there is nothing to send.
create table outbox (
    id          bigint      generated always as identity primary key,
    kind        text        not null check (kind in (
                                'verify_email', 'email_changed', 'reset_password',
                                'booking_confirmed', 'booking_cancelled', 'event_cancelled')),
    user_id     uuid        references users,
    email       text,
    booking_id  uuid        references bookings,
    created_at  timestamptz not null default now(),
    attempts    integer     not null default 0,
    next_try_at timestamptz not null default now(),
    dead_at     timestamptz,
    error       text
);
create index outbox_due_idx on outbox (next_try_at) where dead_at is null;
create index outbox_dead_idx on outbox (id) where dead_at is not null;
create index outbox_user_idx on outbox (user_id);

-- Cancels the user's own booking and frees its seats. Returns why not, or null.
create or replace function cancel_booking(wanted uuid, owner uuid) returns text
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
    insert into outbox (kind, user_id, booking_id)
    select 'booking_cancelled', owner, wanted from users where id = owner and email is not null;
    return null;
end $$;

-- Cancels every booking and ends every hold of an event whose sales have been stopped.
-- Single cancellations and expiries lock a booking or a hold first, so they do not come between.
-- Ticket types last, since whoever still tries to buy waits for them.
create or replace function cancel_sales(wanted bigint) returns void
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
    -- One mail to each buyer, however many bookings.
    insert into outbox (kind, user_id, booking_id)
    select distinct on (b.user_id) 'event_cancelled', b.user_id, b.id
      from bookings b
      join users u on u.id = b.user_id
     where b.event_id = wanted and b.status = 'active' and u.email is not null
     order by b.user_id, b.created_at;
    update bookings set status = 'cancelled', cancelled_at = now(), updated_at = now()
     where event_id = wanted and status = 'active';
    perform from ticket_types where event_id = wanted order by id for no key update;
    update ticket_types set taken = 0 where event_id = wanted and taken > 0;
end $$;

-- Ends a user's sessions, but for the one to be kept, and with them their tokens.
create function end_sessions(wanted uuid, kept uuid default null) returns void
language sql as $$
    update sessions set ended_at = now()
     where user_id = wanted and ended_at is null and id is distinct from kept
$$;

-- Raises when nobody could administrate any more. The caller has locked the active admins.
create function check_admins() returns void
language plpgsql as $$
begin
    if not exists (select from users where role = 'admin' and active) then
        raise check_violation using
            message = 'this is the last admin', constraint = 'users_last_admin';
    end if;
end $$;

-- Changes what is not null; no row when there is no such user. There is always an admin: those
-- who demote each other take turns.
create or replace function change_user(wanted uuid, new_role text, new_active boolean)
returns setof users
language plpgsql as $$
declare
    u users;
begin
    perform from users where id = wanted or (role = 'admin' and active)
      order by id for no key update;
    update users
       set role = coalesce(new_role, role), active = coalesce(new_active, active)
     where id = wanted and erased_at is null
    returning * into u;
    if not found then
        return;
    end if;
    perform check_admins();
    if not u.active then
        perform end_sessions(wanted);
    end if;
    return next u;
end $$;

-- Changes what the JSON names of one's own profile. A new address is not verified yet; it gets a
-- mail that asks for it, and the former one a mail that says so.
create function change_profile(wanted uuid, changes json) returns setof users
language plpgsql as $$
declare
    former text;
    u      users;
begin
    select email into former from users where id = wanted and active for no key update;
    if not found then
        return;
    end if;
    update users o
       set (name, email, locale, email_verified) = (
           select n.name, n.email, n.locale,
                  o.email_verified and n.email is not distinct from o.email
             from json_populate_record(o, changes) n)
     where id = wanted
    returning o.* into u;
    if u.email is distinct from former then
        delete from mail_tokens where user_id = wanted;
        insert into outbox (kind, user_id) select 'verify_email', wanted where u.email is not null;
        insert into outbox (kind, user_id, email)
        select 'email_changed', wanted, former where former is not null;
    end if;
    return next u;
end $$;

-- Replaces a password by whoever knew it, and ends every other session. False when it was changed
-- by another meanwhile.
create function change_password(wanted uuid, former_hash text, new_hash text, kept uuid)
returns boolean
language plpgsql as $$
begin
    update users set password_hash = new_hash
     where id = wanted and password_hash = former_hash and active;
    if not found then
        return false;
    end if;
    perform end_sessions(wanted, kept);
    delete from mail_tokens where user_id = wanted and purpose = 'reset';
    return true;
end $$;

-- Spends a mailed token that still counts; its user, locked, or null.
create function spend_mail_token(wanted_hash bytea, wanted_purpose text) returns uuid
language plpgsql as $$
declare
    owner uuid;
begin
    -- The user first, as everywhere.
    select u.id into owner
      from users u
     where u.id = (select user_id from mail_tokens
                    where token_hash = wanted_hash and purpose = wanted_purpose)
       and u.active
       for no key update;
    delete from mail_tokens t
     using users u
     where t.token_hash = wanted_hash and t.expires_at > now()
       and u.id = t.user_id and u.id = owner and u.email = t.email;
    return case when found then owner end;
end $$;

-- Sets a new password by a mailed token, which also proves the address. Every session ends.
create function reset_password(wanted_hash bytea, new_hash text) returns boolean
language plpgsql as $$
declare
    owner uuid := spend_mail_token(wanted_hash, 'reset');
begin
    update users set password_hash = new_hash, email_verified = true where id = owner;
    perform end_sessions(owner);
    delete from mail_tokens where user_id = owner and purpose = 'reset';
    return owner is not null;
end $$;

create function verify_email(wanted_hash bytea) returns boolean
language plpgsql as $$
declare
    owner uuid := spend_mail_token(wanted_hash, 'verify');
begin
    update users set email_verified = true where id = owner;
    return owner is not null;
end $$;

-- Spends a refresh token for a new one of the same session. No row when it does not count. One that
-- was spent before has been stolen, from us or from whoever spent it: its session ends.
create function refresh_session(former_hash bytea, new_hash bytea)
returns table (user_id uuid, session_id uuid, role text)
language plpgsql as $$
#variable_conflict use_column
declare
    s sessions;
begin
    select * into s
      from sessions
     where id = (select session_id from refresh_tokens where token_hash = former_hash)
       and ended_at is null and expires_at > now()
       for no key update;
    if not found then
        return;
    end if;
    update refresh_tokens set spent_at = now()
     where token_hash = former_hash and spent_at is null;
    if not found then
        update sessions set ended_at = now() where id = s.id;
        return;
    end if;
    insert into refresh_tokens (token_hash, session_id, expires_at)
    values (new_hash, s.id, s.expires_at);
    return query select u.id, s.id, u.role from users u where u.id = s.user_id and u.active;
end $$;

-- Closes an account: personal data goes, bookings of what is not over are cancelled, holds end.
-- Returns the events whose seats came free.
create function erase_user(wanted uuid) returns setof bigint
language plpgsql as $$
declare
    booked uuid[];
    held   uuid[];
    nobody text := 'deleted-' || gen_random_uuid();
    former text;
begin
    perform from users where id = wanted or (role = 'admin' and active)
      order by id for no key update;
    select role into former from users where id = wanted;
    update users
       set active = false, erased_at = now(), username = nobody, username_folded = nobody,
           email = null, email_verified = false, name = null, locale = 'en', role = 'attendee',
           password_hash = ''
     where id = wanted;
    if former = 'admin' then
        perform check_admins();
    end if;
    perform end_sessions(wanted);
    delete from mail_tokens where user_id = wanted;
    delete from outbox where user_id = wanted;

    booked := array(
        select b.id
          from bookings b
          join events e on e.id = b.event_id
         where b.user_id = wanted and b.status = 'active'
           and coalesce(e.ends_at, e.starts_at, 'infinity'::timestamptz) > now()
         order by b.id for update of b);
    held := array(
        select id from holds where user_id = wanted and ended_at is null order by id for update);
    perform from ticket_types
      where quantity is not null and event_id in (
            select event_id from bookings where id = any (booked)
            union select event_id from holds where id = any (held))
      order by id for no key update;
    perform cancel_booking(id, wanted) from unnest(booked) id;
    perform end_holds(held);
    return query
        select event_id from bookings where id = any (booked)
        union select event_id from holds where id = any (held);
end $$;
