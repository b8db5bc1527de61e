-- name: create_user
-- The constraints decide whether the name and the address are still free.
insert into users (id, username, username_folded, email, name, password_hash, role)
values ($1::uuid, $2::text, $3::text, $4::text, $5::text, $6::text, $7::text)
returning id, username, email, email_verified, name, locale, role, created_at;

-- name: find_login
-- A name never holds an "@", so the two columns cannot both match.
select id, password_hash, role
  from users
 where (username_folded = $1::text or email = $1::text) and active;

-- name: get_user
-- Own profile.
select id, username, email, email_verified, name, locale, role, created_at
  from users
 where id = $1::uuid and active;

-- name: start_session
-- A session and its first refresh token live or die together.
with session as (
    insert into sessions (id, user_id, expires_at)
    values ($1::uuid, $2::uuid, now() + make_interval(days => $4::int))
    returning id, expires_at
)
insert into refresh_tokens (token_hash, session_id, expires_at)
select $3::bytea, id, expires_at from session;

-- name: live_sessions
-- Asked for every authenticated request, many at a time: an ended session is refused at once.
select s.id as session_id, u.id as user_id, u.role
  from sessions s
  join users u on u.id = s.user_id
 where s.id = any ($1::uuid[]) and s.ended_at is null and s.expires_at > now() and u.active;

-- name: has_admin
-- The first admin is created only where there is none.
select exists (select from users where role = 'admin' and active) as found;

-- name: list_users
-- For admins; a page starts after a name.
select id, username, email, email_verified, name, locale, role, created_at
  from users
 where username_folded > $3::text
   and ($1::text is null or role = $1::text)
   and ($2::boolean is null or active = $2::boolean)
 order by username_folded
 limit $4::int;

-- name: change_user
-- Null: stays as it is. There is always an admin left.
select id, username, email, email_verified, name, locale, role, created_at
  from change_user($1::uuid, $2::text, $3::boolean);
