-- What the yardsticks book in: a database of their own, beside the service's.
create table events (
    id       bigint  primary key,
    capacity integer not null
);
create table bookings (
    id         uuid        primary key default gen_random_uuid(),
    event_id   bigint      not null references events,
    user_id    uuid        not null,
    created_at timestamptz not null default now()
);
create index bookings_event_idx on bookings (event_id);

create table places (
    id         bigint primary key,
    booking_id uuid
);
create table sold_places (
    id       uuid   primary key,
    place_id bigint not null unique references places,
    user_id  uuid   not null
);
create sequence next_place;
