-- name: create_user
-- The constraints decide whether the name and the address are still free.
with created as (
    insert into users (id, username, username_folded, email, name, password_hash, role, locale)
    values ($1::uuid, $2::text, $3::text, $4::text, $5::text, $6::text, $7::text, $8::text)
    returning id, username, email, email_verified, name, locale, role, created_at
), mail as (
    insert into outbox (kind, user_id) select 'verify_email', id from created where email is not null
)
select * from created;

-- name: find_login
-- A name never holds an "@", so the two columns cannot both match.
select id, password_hash
  from users
 where (username_folded = $1::text or email = $2::text) and active;

-- name: get_user
-- Own profile.
select id, username, email, email_verified, name, locale, role, created_at
  from users
 where id = $1::uuid and active;

-- name: get_password
-- For calls that ask for the password again.
select username, email, password_hash from users where id = $1::uuid and active;

-- name: rehash
-- Only while the password is still the one that was checked.
update users set password_hash = $3::text where id = $1::uuid and password_hash = $2::text;

-- name: change_profile
-- What the JSON does not name stays as it is.
select id, username, email, email_verified, name, locale, role, created_at
  from change_profile($1::uuid, $2::json);

-- name: change_password
-- False: it was changed by someone else meanwhile.
select change_password($1::uuid, $2::text, $3::text, $4::uuid) as changed;

-- name: request_reset
-- One row is written in any case. Three mails that still count are enough for anyone.
insert into outbox (kind, user_id)
values ('reset_password', (
    select id from users u
     where email = $1::text and active
       and (select count(*) from mail_tokens t
             where t.user_id = u.id and t.purpose = 'reset' and t.expires_at > now())
         + (select count(*) from outbox o
             where o.user_id = u.id and o.kind = 'reset_password' and o.dead_at is null) < 3));

-- name: get_reset
-- Asked before the new password is hashed, which is dear; reset_password decides.
select u.username, u.email
  from mail_tokens t
  join users u on u.id = t.user_id
 where t.token_hash = $1::bytea and t.purpose = 'reset' and t.expires_at > now();

-- name: reset_password
-- False: the token does not count.
select reset_password($1::bytea, $2::text) as reset;

-- name: request_verification
-- False: there is no address. One mail at a time waits.
with owner as (select id, email, email_verified from users where id = $1::uuid and active),
mail as (
    insert into outbox (kind, user_id)
    select 'verify_email', id
      from owner
     where email is not null and not email_verified
       and not exists (select from outbox o
                        where o.user_id = owner.id and o.kind = 'verify_email'
                          and o.dead_at is null)
)
select exists (select from owner where email is not null) as has_email;

-- name: verify_email
-- False: the token does not count.
select verify_email($1::bytea) as verified;

-- name: erase_user
-- The events whose seats came free.
select event_id from erase_user($1::uuid) as event_id;

-- name: has_admin
-- The first admin is created only where there is none.
select exists (select from users where role = 'admin' and active) as found;

-- name: list_users
-- For admins; a page starts after a name.
select id, username, email, email_verified, name, locale, role, created_at
  from users
 where username_folded > $3::text and erased_at is null
   and ($1::text is null or role = $1::text)
   and ($2::boolean is null or active = $2::boolean)
 order by username_folded
 limit $4::int;

-- name: change_user
-- Null: stays as it is. There is always an admin left.
select id, username, email, email_verified, name, locale, role, created_at
  from change_user($1::uuid, $2::text, $3::boolean);
