"""A hall of 100,000 places costs a booking, and a reader, what a hall of 100 costs.

Named queries are explained; the functions in the database are run, and PostgreSQL's own counters
say what each touched. Both with the plans of a first call and with those of a prepared statement
that has been used often.
"""

import json
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from seatsvc import db
from seatsvc.events import RowDraft, SectionDraft, TicketTypeDraft
from seatsvc.orders import Order
from tests.conftest import Service, Venue
from tests.test_races import crowd

GROWING = {"seats", "bookings", "booking_seats", "holds", "idempotency_keys", "users", "sessions"}
ROWS_MAX = 120
SLACK = 12
USERS = 4_000
OWNED = 10
FILL = """
with crowd as (
    insert into users (id, username, username_folded, password_hash)
    select gen_random_uuid(), 'user' || n, 'user' || n, '' from generate_series(1, $1::int) n
    returning id),
sessions as (
    insert into sessions (id, user_id, expires_at)
    select id, id, now() + interval '1 day' from crowd),
numbered as (select id, row_number() over () as n from crowd),
sold as (
    select s.id as seat_id, s.event_id, c.id as user_id, gen_random_uuid() as id
      from seats s join numbered c on c.n = 1 + s.id % $1::int
     where s.id % 10 = 0),
bookings as (
    insert into bookings (id, event_id, user_id, quantity, total)
    select id, event_id, user_id, 1, 0 from sold),
booking_seats as (
    insert into booking_seats (booking_id, seat_id, price) select id, seat_id, 0 from sold),
keys as (
    insert into idempotency_keys (user_id, key, request_hash, booking_id)
    select user_id, id::text, 'hash', id from sold),
holds as (
    insert into holds (id, event_id, user_id, seat_ids, seats, quantity, first_expires_at,
                       expires_at, ended_at)
    select id, event_id, user_id, array[seat_id], '[]', 1, now(), now(), now() from sold)
update seats set booking_id = sold.id, changed = pg_current_xact_id()
  from sold where seats.id = sold.seat_id
"""

# Since the statistics were made, a sale has begun in the other events.
HOLD = """
with held as (
    insert into holds (id, event_id, user_id, seat_ids, seats, quantity, first_expires_at,
                       expires_at)
    select gen_random_uuid(), s.event_id, u.id, array[s.id], '[]', 1, 'infinity', 'infinity'
      from seats s
      join (select id, row_number() over () as n from users where password_hash = '') u
        on u.n = 1 + s.id % $1::int
     where s.id % 10 > 0 and s.event_id <> all ($2::bigint[])
    returning id, seat_ids)
update seats
   set hold_id = held.id, held_until = 'infinity', changed = pg_current_xact_id()
  from held where seats.id = held.seat_ids[1]
"""

FORGET = """
delete from pg_statistic;
update pg_class set reltuples = -1, relpages = 0 where relnamespace = 'public'::regnamespace"""


@dataclass(frozen=True)
class Case:
    """An event, and what in it the queries ask for."""

    venue: Venue
    user_id: UUID
    session_id: UUID
    booking_id: UUID
    hold_id: UUID
    known: dict[str, str]
    free: tuple[int, ...]

    def order(self, **more: Any) -> str:
        """What `book` and `hold` take."""
        order = Order(uuid4(), self.user_id, self.session_id, self.venue.event_id, **more)
        return json.dumps([order.as_json()])


@dataclass(frozen=True)
class Halls:
    """A small event and a large one, among a hundred others."""

    small: Case
    large: Case
    horizon: int
    service: Service


@pytest.fixture(scope="module")
async def halls(shared: Service) -> Halls:
    """The database with its statistics."""
    small = await add_event(shared, 100)
    for _ in range(100):
        await add_event(shared, 100)
    large = await add_event(shared, 100_000)
    await shared.sql(FILL, USERS)
    cases = await case_of(shared, small), await case_of(shared, large)
    await shared.sql("analyze")
    await shared.sql(HOLD, USERS, [small.event_id, large.event_id])
    [row] = await shared.sql("select pg_snapshot_xmin(pg_current_snapshot())::text as horizon")
    return Halls(*cases, int(row["horizon"]), shared)


async def add_event(service: Service, places: int) -> Venue:
    """Half numbered, half not; with a limited ticket type, and limits for a user."""
    labels = [str(n) for n in range(1, 51)]
    rows = [RowDraft(str(n), labels) for n in range(places // 100)]
    return await service.add_event(
        SectionDraft("Stalls", rows),
        SectionDraft("Field", places=places // 2, ticket_type="Limited"),
        ticket_types=[
            TicketTypeDraft("Any", 100, "EUR"),
            TicketTypeDraft("Limited", 100, "EUR", places),
        ],
        max_seats_per_user=1000,
        max_bookings_per_user_per_day=1000,
    )


async def case_of(service: Service, venue: Venue) -> Case:
    """A user with as many bookings and holds as any other such user, and some free seats."""
    [person] = await crowd(service, count=1)
    free = [seat_id for seat_id in venue.seats if seat_id % 10]
    for seat_id in free[:OWNED]:
        booking = await person.book(seat_id, key=str(seat_id))
    for seat_id in free[OWNED : 2 * OWNED]:
        hold = await person.call("POST", "/holds", json={"seat_id": seat_id})
    [known] = await service.sql(
        "select key, request_hash from idempotency_keys where user_id::text = $1 limit 1", person.id
    )
    [session] = await service.sql("select id from sessions where user_id::text = $1", person.id)
    return Case(
        venue,
        UUID(person.id),
        session["id"],
        UUID(booking.json()["id"]),
        UUID(hold.json()["id"]),
        dict(known),
        (*free[2 * OWNED :][:2], *free[-2:]),
    )


@pytest.fixture(params=["force_custom_plan", "force_generic_plan", "young"])
async def session(
    halls: Halls, request: pytest.FixtureRequest
) -> AsyncIterator[asyncpg.Connection]:
    """A connection as the service has them, whose work is undone.

    Young tables have no statistics yet.
    """
    url = halls.service.settings.database_url.get_secret_value()
    young = request.param == "young"
    mode = "force_generic_plan" if young else request.param
    connection = await asyncpg.connect(url, server_settings={"jit": "off", "plan_cache_mode": mode})
    try:
        transaction = connection.transaction()
        await transaction.start()
        if young:
            await connection.execute(FORGET)
        yield connection
        await transaction.rollback()
    finally:
        await connection.close()


def nodes_of(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The plan's nodes."""
    yield plan
    for child in plan.get("Plans", []):
        yield from nodes_of(child)


async def touched_by_query(
    session: asyncpg.Connection, noun: str, query: str, *args: object
) -> int:
    """How many rows the named query's plan looks at; none by reading a table that grows.

    Where bitmaps are combined, each index' entries count, too.
    """
    await session.execute(f"prepare explained as {db.queries(noun)[query]}")
    call = f"execute explained ({', '.join(map(literal, args))})" if args else "execute explained"
    [[plan]] = await session.fetch(f"explain (analyze, format json) {call}")
    await session.execute("deallocate explained")
    touched = 0
    for node in nodes_of(json.loads(plan)[0]["Plan"]):
        if node["Node Type"] == "BitmapAnd":
            touched += sum(each["Actual Loops"] * each["Actual Rows"] for each in node["Plans"])
        if node.get("Relation Name") in GROWING:
            assert node["Node Type"] != "Seq Scan", f"{query} reads all: {node}"
            removed = node.get("Rows Removed by Filter", 0)
            touched += node["Actual Loops"] * (node["Actual Rows"] + removed)
    return round(touched)


def literal(value: object) -> str:
    """As PostgreSQL reads it."""
    if isinstance(value, list | tuple):
        return "'{" + ",".join(map(str, value)) + "}'"
    return "null" if value is None else f"'{value}'"


async def touched_by_call(
    session: asyncpg.Connection, noun: str, query: str, *args: object
) -> Counter[str]:
    """How many rows of each table the call looks at; none by reading a table that grows."""
    before = await counters(session)
    [row] = await session.fetch(db.queries(noun)[query], *args)
    assert row.get("refusal") is None, row
    after = await counters(session)
    for table in GROWING:
        assert after[table, "scans"] == before[table, "scans"], f"{query} reads all of {table}"
    return Counter({table: after[table, "rows"] - before[table, "rows"] for table in GROWING})


async def counters(session: asyncpg.Connection) -> Counter[tuple[str, str]]:
    """What PostgreSQL has counted in this transaction, for each table."""
    found = Counter[tuple[str, str]]()
    for row in await session.fetch(
        "select relname, seq_scan, seq_tup_read + coalesce(idx_tup_fetch, 0) as rows"
        " from pg_stat_xact_user_tables"
    ):
        found[row["relname"], "scans"] = row["seq_scan"]
        found[row["relname"], "rows"] = row["rows"]
    return found


Args = Callable[[Case], Sequence[object]]
QUERIES: dict[str, tuple[str, str, Args]] = {
    "hall": ("seats", "find_hall_of_seat", lambda case: [case.free[0]]),
    "session": ("sessions", "live_sessions", lambda case: [[case.user_id]]),
    "booking": ("bookings", "get_booking", lambda case: [case.booking_id, case.user_id]),
    "bookings": ("bookings", "list_bookings",
                 lambda case: [case.user_id, None, None, None, None, 20]),
    "next bookings": ("bookings", "list_bookings",
                      lambda case: [case.user_id, "active", case.venue.event_id, "infinity",
                                    case.booking_id, 20]),
    "hold": ("holds", "get_hold", lambda case: [case.hold_id, case.user_id]),
}  # fmt: skip
CALLS: dict[str, tuple[str, str, Args]] = {
    "book": ("bookings", "book", lambda case: [1, case.order(seat_ids=case.free[:1])]),
    "book four": ("bookings", "book",
                  lambda case: [1, case.order(seat_ids=case.free, key="key", request_hash="hash")]),
    "book a hold": ("bookings", "book", lambda case: [1, case.order(hold_id=case.hold_id)]),
    "known key": ("bookings", "book", lambda case: [1, case.order(**case.known)]),
    "hold": ("holds", "hold", lambda case: [1, case.order(seat_ids=case.free)]),
    "cancel": ("bookings", "cancel_booking", lambda case: [case.booking_id, case.user_id]),
    "extend": ("holds", "extend_hold", lambda case: [case.hold_id, case.user_id]),
    "release": ("holds", "release_hold", lambda case: [case.hold_id, case.user_id]),
    "block": ("seats", "block_seats", lambda case: [case.venue.event_id, None, case.free, True]),
}  # fmt: skip


@pytest.mark.parametrize("name", QUERIES)
async def test_query(halls: Halls, session: asyncpg.Connection, name: str) -> None:
    """By an index, and no more rows in the large hall than in the small one."""
    noun, query, args = QUERIES[name]
    small = await touched_by_query(session, noun, query, *args(halls.small))
    large = await touched_by_query(session, noun, query, *args(halls.large))
    assert large <= min(small + SLACK, ROWS_MAX)


@pytest.mark.parametrize("session", ["force_custom_plan", "force_generic_plan"], indirect=True)
async def test_old_keys(session: asyncpg.Connection) -> None:
    """None of the others is read to find them."""
    assert await touched_by_query(session, "holds", "forget_keys") == 0


@pytest.mark.parametrize("name", CALLS)
async def test_call(halls: Halls, session: asyncpg.Connection, name: str) -> None:
    """All that the function does is by an index, and no more in the large hall."""
    noun, query, args = CALLS[name]
    small = await touched_by_call(session, noun, query, *args(halls.small))
    check_same(small, await touched_by_call(session, noun, query, *args(halls.large)))


def check_same(small: Counter[str], large: Counter[str]) -> None:
    """The large hall took no more than the small one."""
    for table in GROWING:
        assert large[table] <= small[table] + SLACK, f"{table}: {small} {large}"
        assert large[table] <= ROWS_MAX, f"{table}: {large}"


async def test_expiry(halls: Halls, session: asyncpg.Connection) -> None:
    """Ending ten holds touches their rows and their seats, wherever they are."""
    touched = []
    for case in (halls.small, halls.large):
        await session.execute(
            "update holds set expires_at = now() - interval '1 s' where event_id = $1",
            case.venue.event_id,
        )
        touched.append(await touched_by_call(session, "holds", "expire_holds"))
    check_same(*touched)


async def test_states(halls: Halls, session: asyncpg.Connection) -> None:
    """A refill reads what was touched since the last, and what is held; the first, what ever was.
    What must read a whole hall reads no other."""
    for case in (halls.small, halls.large):
        event_id, seats = case.venue.event_id, case.venue.seats
        for noun, query, args, most in (
            ("seats", "get_changed_states", (event_id, halls.horizon), OWNED),
            ("seats", "get_changed_states", (event_id, 0), len(seats) // 10 + 2 * OWNED),
            ("seats", "get_numbered_seats", (seats[0], seats[-1]), len(seats)),
        ):
            assert await touched_by_query(session, noun, query, *args) <= most + SLACK


async def test_a_missing_index_is_noticed(halls: Halls, session: asyncpg.Connection) -> None:
    """Without its index, a query or a call reads a whole table, and the tests here see that."""
    await session.execute("drop index seats_changed_idx, seats_held_idx")
    with pytest.raises(AssertionError, match="reads all"):
        await touched_by_query(
            session, "seats", "get_changed_states", halls.large.venue.event_id, halls.horizon
        )
    await session.execute("drop index bookings_user_idx, bookings_event_idx")
    with pytest.raises(AssertionError, match="reads all of bookings"):
        await touched_by_call(
            session, "bookings", "book", 1, halls.large.order(seat_ids=halls.large.free)
        )
