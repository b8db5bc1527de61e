-- name: list_ticket_types
-- All of an event; no row tells an event without any from no event.
select id, event_id, name, price, currency, quantity
  from ticket_types
 where event_id = $1::bigint
 order by id;

-- name: has_event
-- Asked when there are no ticket types.
select exists (select from events where id = $1::bigint) as found;

-- name: add_ticket_type
-- To an event that the user may change; null: any.
insert into ticket_types (event_id, name, price, currency, quantity)
select id, $3::text, $4::bigint, $5::text, $6::int
  from events
 where id = $1::bigint and ($2::uuid is null or organizer_id = $2::uuid)
returning id, event_id, name, price, currency, quantity;

-- name: change_ticket_type
-- What the JSON does not name stays.
select id, event_id, name, price, currency, quantity
  from change_ticket_type($1::bigint, $2::uuid, $3::json);

-- name: delete_ticket_type
-- False when it is not there, or another's.
select delete_ticket_type($1::bigint, $2::uuid) as found;
