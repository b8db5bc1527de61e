-- name: start_session
-- A session and its first refresh token live or die together. It waits for a change of password
-- that is under way: nobody slips in with the former one.
with owner as (
    select id, role from users
     where id = $2::uuid and password_hash = $3::text and active
       for share
), session as (
    insert into sessions (id, user_id, expires_at)
    select $1::uuid, id, now() + make_interval(days => $5::int) from owner
    returning id, expires_at
), token as (
    insert into refresh_tokens (token_hash, session_id, expires_at)
    select $4::bytea, id, expires_at from session
)
select role from owner;

-- name: refresh_session
-- No row: the token does not count.
select user_id, session_id, role from refresh_session($1::bytea, $2::bytea);

-- name: end_session
-- Its tokens end with it.
update sessions set ended_at = now() where id = $1::uuid and ended_at is null;

-- name: live_sessions
-- Asked for every authenticated request, many at a time: an ended session is refused at once.
-- `offset 0`: one by one, by their ids. Else the plan for a young table reads the index of all.
select s.id as session_id, u.id as user_id, u.role
  from unnest($1::uuid[]) asked (id)
 cross join lateral (
       select id, user_id from sessions
        where id = asked.id and ended_at is null and expires_at > now() offset 0) s
  join users u on u.id = s.user_id
 where u.active;

-- name: forget_sessions
-- With their tokens. A little at a time keeps this short.
delete from sessions
 where id in (select id from sessions where expires_at < now() limit 1000);
