-- name: get_settled
-- Waits until the batch's transaction has ended, however it did. What this writes to the log lies
-- behind it: our own commit waits until synchronous standbys have both. A commit whose wait for them
-- was cut short is visible, and may still be lost.
select pg_advisory_xact_lock($1::bigint), pg_logical_emit_message(true, 'seatsvc', '');

-- name: get_closed
-- Of these events that exist, why nothing can be bought; null where something could be.
select id, closed(e) from events e where id = any ($1::bigint[]);
