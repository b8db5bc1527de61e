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

-- Books many requests in one transaction, each with its own result, in the order given.
-- Holding the lock named by `batch` shows whoever lost this connection that the outcome is not
-- settled yet.
create or replace function book(batch bigint, wanted json)
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
    gone     uuid[];
    results  seat_result[];
begin
    perform pg_advisory_xact_lock(batch);
    gone := lock_parties(requests);
    foreach r in array requests loop
        results := results || case when r.user_id = any (gone) then refused('invalid_token')
                                   else book_one(r) end;
    end loop;
    insert into outbox (kind, user_id, booking_id)
    select 'booking_confirmed', b.user_id, b.id
      from unnest(results) u
      join bookings b on b.id = u.id
      join users on users.id = b.user_id
     where not u.replayed and users.email is not null;
    return query
        select u.refusal, u.blame, u.allowance, u.replayed, d.*
          from unnest(results) with ordinality u
          left join booking_details d on d.id = u.id
         order by u.ordinality;
end $$;

-- The same for holds.
create or replace function hold(batch bigint, wanted json)
returns table (
    refusal text, blame json, allowance json, replayed boolean,
    id uuid, event_id bigint, user_id uuid, seats json, created_at timestamptz,
    first_expires_at timestamptz, expires_at timestamptz)
language plpgsql as $$
#variable_conflict use_column
declare
    requests seat_request[] := array(select json_populate_recordset(null::seat_request, wanted));
    r        seat_request;
    gone     uuid[];
    results  seat_result[];
begin
    perform pg_advisory_xact_lock(batch);
    gone := lock_parties(requests);
    foreach r in array requests loop
        results := results || case when r.user_id = any (gone) then refused('invalid_token')
                                   else hold_one(r) end;
    end loop;
    return query
        select u.refusal, u.blame, u.allowance, u.replayed, h.id, h.event_id, h.user_id, h.seats,
               h.created_at, h.first_expires_at, h.expires_at
          from unnest(results) with ordinality u
          left join holds h on h.id = u.id
         order by u.ordinality;
end $$;

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
begin
    perform from users where id = wanted or (role = 'admin' and active)
      order by id for no key update;
    update users
       set active = false, erased_at = now(), username = nobody, username_folded = nobody,
           email = null, email_verified = false, name = null, locale = 'en', role = 'attendee',
           password_hash = ''
     where id = wanted;
    perform check_admins();
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

-- migrate:down

drop function erase_user, refresh_session, verify_email, reset_password, spend_mail_token,
    change_password, change_profile, check_admins, end_sessions;
drop table outbox, mail_tokens;
drop index sessions_expires_idx;
alter table users drop column erased_at;
-- The functions of 0002 and 0003 that were replaced here stay; take those migrations back as well.
