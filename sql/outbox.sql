-- name: claim_mails
-- A lease: nobody else takes these until it has run out, and no lock stays while a mail server is
-- talked to. Whoever dies with them is outlived by that.
with due as materialized (
    select id
      from outbox
     where dead_at is null and next_try_at <= now()
     order by next_try_at
     limit $1::int
       for update skip locked
)
update outbox o
   set attempts = attempts + 1, next_try_at = now() + make_interval(secs => $2::int)
  from due
 where o.id = due.id
returning o.id, o.attempts;

-- name: get_mail
-- Read just before it is sent, and only while the lease holds. Without an address there is nothing
-- to send: the account has gone or has none, or what the mail would say is no longer so.
select o.id, o.kind, o.user_id, o.created_at, clock_timestamp() as sent_at,
       case when u.id is null or u.erased_at is not null then null
            when o.kind = 'email_changed' then o.email
            when o.kind in ('verify_email', 'reset_password') and not u.active then null
            when o.kind = 'booking_confirmed' and b.status = 'cancelled' then null
            else u.email end as address,
       u.locale,
       case when u.email_verified and o.kind <> 'email_changed'
            then coalesce(u.name, u.username) end as name,
       o.booking_id, b.seats, b.total, b.currency, e.name as event, e.venue, e.starts_at
  from outbox o
  left join users u on u.id = o.user_id
  left join booking_details b on b.id = o.booking_id
  left join events e on e.id = b.event_id
 where o.id = $1::bigint and o.attempts = $2::int and o.next_try_at > now() and o.dead_at is null;

-- name: add_mail_token
-- For the address that it is sent to, while that is the user's.
insert into mail_tokens (token_hash, user_id, purpose, email, expires_at)
select $1::bytea, id, $3::text, email, now() + make_interval(secs => $5::int)
  from users
 where id = $2::uuid and email = $4::text and active;

-- name: settle_mail
-- It was sent, or there was nothing to send.
delete from outbox where id = $1::bigint;

-- name: postpone_mail
-- Ten seconds at first, twice as long after each further failure, an hour at most; a fifth more or
-- less, so that those who failed together do not come back together. Dead: never.
update outbox
   set error = $3::text,
       dead_at = case when $4::boolean then now() end,
       next_try_at = now() + make_interval(
           secs => least(3600, 10 * 2 ^ least(attempts - 1, 20)) * (0.8 + 0.4 * random()))
 where id = $1::bigint and attempts = $2::int and dead_at is null;

-- name: give_back_mails
-- Claimed, but not tried.
update outbox o
   set attempts = o.attempts - 1, next_try_at = now()
  from unnest($1::bigint[], $2::int[]) as claim (id, attempts)
 where o.id = claim.id and o.attempts = claim.attempts and o.dead_at is null;

-- name: drop_mails
-- Where there is no way out. How many.
with due as materialized (
    select id
      from outbox
     where dead_at is null and next_try_at <= now()
     limit $1::int
       for update skip locked
), dropped as (
    delete from outbox o using due where o.id = due.id returning o.id
)
select count(*) from dropped;

-- name: forget_dead_mails
-- After 30 days nobody looks for them any more. A little at a time keeps this short.
delete from outbox
 where id in (
       select id from outbox where dead_at < now() - interval '30 days' limit 1000);

-- name: forget_mail_tokens
-- They count no longer. A little at a time keeps this short.
delete from mail_tokens
 where token_hash in (select token_hash from mail_tokens where expires_at < now() limit 1000);

-- name: list_mails
-- For admins; newest first; a page starts before an id.
select id, kind, user_id, booking_id,
       case when dead_at is null then 'waiting' else 'dead' end as status,
       attempts, error, created_at, next_try_at, dead_at
  from outbox
 where (dead_at is not null) = ($1::text = 'dead') and ($2::bigint is null or id < $2::bigint)
 order by id desc
 limit $3::int;

-- name: retry_mail
-- As if it were new. One that waits is due at once, too.
update outbox
   set attempts = 0, next_try_at = now(), dead_at = null, error = null
 where id = $1::bigint
returning id, kind, user_id, booking_id, 'waiting' as status, attempts, error, created_at,
          next_try_at, dead_at;
