-- name: create_migrations
-- The checksum shows a migration that was edited after it ran.
create table if not exists schema_migrations (
    version    text        primary key,
    checksum   text        not null,
    applied_at timestamptz not null default now()
);

-- name: has_migrations
-- Asked first, so that a reader need not be allowed to create tables.
select to_regclass('schema_migrations') is not null as found;

-- name: get_migrations
-- What this database has.
select version, checksum from schema_migrations order by version;

-- name: add_migration
-- In the transaction that ran it.
insert into schema_migrations (version, checksum) values ($1::text, $2::text);

-- name: lock_setup
-- One process at a time sets a database up; the others wait, then find it done.
select pg_advisory_lock(hashtext('seatsvc setup'));

-- name: unlock_setup
-- Ends what lock_setup began.
select pg_advisory_unlock(hashtext('seatsvc setup'));

-- name: ping
-- Is PostgreSQL there?
select 1 as pong;

-- name: allow_long
-- For this transaction only.
select set_config('statement_timeout', '60s', true), set_config('lock_timeout', '10s', true);
