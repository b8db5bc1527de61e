-- name: get_settled
-- Waits until the batch's transaction has ended, however it did.
select pg_advisory_xact_lock($1::bigint);

-- name: get_closed
-- Of these events that exist, why nothing can be bought; null where something could be.
select id, closed(e) from events e where id = any ($1::bigint[]);
