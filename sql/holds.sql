-- name: hold
-- Many requests, one transaction, one round trip.
select * from hold($1::bigint, $2::json);

-- name: get_hold
-- Another's hold, and one that has ended, are as absent as one that never was.
select id, event_id, user_id, seats, created_at, first_expires_at, expires_at,
       greatest(0, ceil(extract(epoch from expires_at - clock_timestamp())))::int as expires_in
  from holds
 where id = $1::uuid and user_id = $2::uuid and ended_at is null
   and expires_at > clock_timestamp();

-- name: find_hold_event
-- Of the user's own hold, whatever became of it.
select event_id from holds where id = $1::uuid and user_id = $2::uuid;

-- name: get_committed_holds
-- Which of a batch's holds exist after all.
select id, event_id, user_id, seats, created_at, first_expires_at, expires_at
  from holds
 where id = any ($1::uuid[]);

-- name: extend_hold
-- From now on, for as long as it first ran.
select extend_hold($1::uuid, $2::uuid) as refusal;

-- name: release_hold
-- Frees the seats in the same transaction.
select release_hold($1::uuid, $2::uuid) as refusal;

-- name: expire_holds
-- Every worker asks; a hold is ended by one of them.
select event_id from expire_holds() as event_id;

-- name: forget_keys
-- An Idempotency-Key counts for 24 hours; a little at a time keeps this short.
delete from idempotency_keys
 where (user_id, key) in (
       select user_id, key from idempotency_keys
        where created_at < now() - interval '24 hours'
        limit 1000);
