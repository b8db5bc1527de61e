-- name: get_settled
-- Waits until the batch's transaction has ended, however it did.
select pg_advisory_xact_lock($1::bigint);
