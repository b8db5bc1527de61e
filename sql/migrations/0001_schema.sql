-- migrate:up

create table users (
    id              uuid        primary key,
    username        text        not null check (position('@' in username) = 0),
    username_folded text        not null constraint users_username_key unique,
    email           text        constraint users_email_key unique,
    email_verified  boolean     not null default false,
    name            text,
    locale          text        not null default 'en',
    role            text        not null default 'attendee'
                                constraint users_role_check check (role in ('attendee', 'organizer', 'admin')),
    password_hash   text        not null,
    active          boolean     not null default true,
    created_at      timestamptz not null default now()
);

create index users_admins_idx on users (id) where role = 'admin' and active;

create table sessions (
    id         uuid        primary key,
    user_id    uuid        not null references users,
    created_at timestamptz not null default now(),
    expires_at timestamptz not null,
    ended_at   timestamptz
);
create index sessions_user_idx on sessions (user_id) where ended_at is null;

create table refresh_tokens (
    token_hash bytea       primary key,
    session_id uuid        not null references sessions on delete cascade,
    issued_at  timestamptz not null default now(),
    expires_at timestamptz not null,
    spent_at   timestamptz
);
create index refresh_tokens_session_idx on refresh_tokens (session_id);

-- An event's places have consecutive ids from first_seat_id on: a seat's id tells its event and
-- its position in the hall without a look-up, and a whole hall is one range of the primary key.
create sequence seat_ids as bigint;

create table events (
    id                            bigint      generated always as identity primary key,
    organizer_id                  uuid        references users,
    name                          text        not null,
    description                   text,
    venue                         text,
    starts_at                     timestamptz,
    ends_at                       timestamptz,
    sales_start                   timestamptz,
    sales_end                     timestamptz,
    max_seats_per_user            integer     check (max_seats_per_user > 0),
    max_bookings_per_user_per_day integer     check (max_bookings_per_user_per_day > 0),
    hold_seconds                  integer     not null default 600 check (hold_seconds between 5 and 86400),
    status                        text        not null default 'on_sale'
                                              check (status in ('on_sale', 'cancelled')),
    first_seat_id                 bigint      not null constraint events_first_seat_id_key unique,
    capacity                      integer     not null check (capacity > 0),
    version                       integer     not null default 1,
    created_at                    timestamptz not null default now(),
    updated_at                    timestamptz not null default now(),
    constraint events_dates_check check (ends_at >= starts_at),
    constraint events_sales_check check (sales_end >= sales_start)
);
-- The order of the public list. The last column sorts out what is over without visiting its row.
create index events_list_idx on events (
    status, coalesce(starts_at, 'infinity'::timestamptz), id,
    coalesce(ends_at, starts_at, 'infinity'::timestamptz));

-- `taken` counts the booked and the held places of a type with a quantity, and only of those:
-- a row that every booking must write would be the bottleneck of the event.
create table ticket_types (
    id       bigint  generated always as identity primary key,
    event_id bigint  not null references events,
    name     text    not null,
    price    bigint  not null check (price >= 0),
    currency text    not null check (currency ~ '^[A-Z]{3}$'),
    quantity integer check (quantity >= 0),
    taken    integer not null default 0 check (taken >= 0),
    constraint ticket_types_name_key unique (event_id, name),
    constraint ticket_types_not_oversold check (taken <= quantity)
);

create table sections (
    event_id          bigint  not null references events,
    name              text    not null,
    first_seat_id     bigint  not null,
    places            integer not null check (places > 0),
    general_admission boolean not null,
    ticket_type_id    bigint  references ticket_types,
    primary key (event_id, name)
);

create table seat_rows (
    event_id      bigint           not null,
    section       text             not null,
    name          text             not null,
    first_seat_id bigint           not null,
    places        integer          not null check (places > 0),
    x             double precision,
    y             double precision,
    primary key (event_id, section, name),
    foreign key (event_id, section) references sections
);

-- A hold keeps the prices it was given: `seats` is what its booking will say. It has ended when
-- it was booked or released, or when its expiry was noticed; it counts only until expires_at.
create table holds (
    id               uuid        primary key,
    event_id         bigint      not null references events,
    user_id          uuid        not null references users,
    seat_ids         bigint[]    not null,
    seats            json        not null,
    quantity         integer     not null check (quantity > 0),
    created_at       timestamptz not null default now(),
    first_expires_at timestamptz not null,
    expires_at       timestamptz not null,
    ended_at         timestamptz
);
create index holds_running_idx on holds (expires_at) where ended_at is null;
create index holds_user_idx on holds (user_id, event_id) where ended_at is null;
create index holds_event_idx on holds (event_id);

create table bookings (
    id           uuid        primary key,
    event_id     bigint      not null references events,
    user_id      uuid        not null references users,
    status       text        not null default 'active' check (status in ('active', 'cancelled')),
    quantity     integer     not null check (quantity > 0),
    total        bigint      not null,
    currency     text,
    created_at   timestamptz not null default now(),
    updated_at   timestamptz not null default now(),
    cancelled_at timestamptz,
    check ((status = 'cancelled') = (cancelled_at is not null))
);
create index bookings_user_idx on bookings (user_id, created_at, id);
create index bookings_event_idx on bookings (event_id, created_at, id);

-- One place, with a number or without. Its event and its ticket type have no foreign key, which
-- would be half the cost of creating a hall: the id is in its event's range, and the type is its
-- section's, which has one. booking_id, hold_id and held_until say who has it now;
-- `changed` is the last transaction that touched them, so that a reader who has seen every
-- transaction before X needs only the rows with changed >= X.
create table seats (
    id             bigint  primary key,
    event_id       bigint  not null,
    section        text    not null,
    row_name       text,
    number         text,
    ticket_type_id bigint,
    accessible     boolean not null default false,
    blocked        boolean not null default false,
    booking_id     uuid    references bookings,
    hold_id        uuid    references holds,
    held_until     timestamptz,
    changed        xid8,
    check ((hold_id is null) = (held_until is null))
);
create index seats_changed_idx on seats (event_id, changed) where changed is not null;
create index seats_held_idx on seats (event_id, held_until) where hold_id is not null;
create index seats_hold_idx on seats (hold_id) where hold_id is not null;

-- Who has, or had, which seat at what price. The partial unique index is what makes a second
-- active booking of a seat impossible, whatever the code does.
create table booking_seats (
    booking_id     uuid    not null references bookings,
    seat_id        bigint  not null references seats,
    ticket_type_id bigint  references ticket_types,
    price          bigint  not null,
    active         boolean not null default true,
    primary key (booking_id, seat_id)
);
create unique index booking_seats_active_seat_key on booking_seats (seat_id) where active;
-- Whoever deletes a seat or a ticket type asks these whether it was ever sold.
create index booking_seats_seat_idx on booking_seats (seat_id);
create index booking_seats_ticket_type_idx on booking_seats (ticket_type_id);

create table idempotency_keys (
    user_id      uuid        not null references users,
    key          text        not null,
    request_hash text        not null,
    booking_id   uuid        references bookings,
    hold_id      uuid        references holds,
    created_at   timestamptz not null default now(),
    primary key (user_id, key),
    check (num_nonnulls(booking_id, hold_id) = 1)
);
create index idempotency_keys_created_idx on idempotency_keys (created_at);
create index idempotency_keys_hold_idx on idempotency_keys (hold_id) where hold_id is not null;

create view booking_details as
select b.*,
       (select json_agg(row_to_json(seat) order by seat.id)
          from (select s.id, s.section, s.row_name as row, s.number, bs.ticket_type_id, bs.price
                  from booking_seats bs
                  join seats s on s.id = bs.seat_id
                 where bs.booking_id = b.id) seat) as seats
  from bookings b;

-- migrate:down

drop view booking_details;
drop table idempotency_keys, booking_seats, seats, bookings, holds, seat_rows, sections,
    ticket_types, events, refresh_tokens, sessions, users;
drop sequence seat_ids;
