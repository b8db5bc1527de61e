"""What is measured, each once in a round. A figure's name starts with its scenario's."""

import random
from collections.abc import Sequence
from time import perf_counter

from bench import checks
from bench.client import ask, ask_all, build
from bench.data import Hall, general, numbered
from bench.harness import Bench, Halls, Metrics, Scenario
from bench.load import CONNECTING_S, ONE_STATEMENT_MAX, Sent, Wanted, pgbench, read, send
from bench.paced import book_at, invalidating, login_storm
from bench.processes import Server, cpu_s, program, rss_mib, service, serving

ORDERS_MAX = 12_000  # a second: more than will be answered
SMALL_EVENTS = 150
QUANTITY_MAX = 50
MODERATE = 200  # bookings a second, which any machine keeps up with
INVALIDATIONS = 500  # bookings a second
STORM_S = 3
SOLD = 20_000  # of 100,000, where an event has been on sale for a while
RANDOM = random.Random(5)  # the same order of seats in each run


async def starlette(bench: Bench, _: Halls) -> Metrics:
    """A bare Starlette route with 4 KB."""
    return {"starlette.rate": (await read(f"{bench.starlette.url}/prebuilt", bench.seconds)).rate}


async def prebuilt(bench: Bench, _: Halls) -> Metrics:
    """A FastAPI route with a prebuilt response of 4 KB."""
    return {"prebuilt.rate": (await read(f"{bench.fastapi.url}/prebuilt", bench.seconds)).rate}


async def verified(bench: Bench, _: Halls) -> Metrics:
    """A FastAPI POST with a small body that verifies a JWT, and nothing else."""
    wanted = bench.people.by_event(1, ORDERS_MAX * bench.seconds)
    before = cpu_s(bench.fastapi.pid)
    sent = await _send(bench, f"{bench.fastapi.url}/verified", wanted)
    service_us = 1e6 * (cpu_s(bench.fastapi.pid) - before) / sent.asked
    checks.check_answers(sent, 201)
    return {
        "verified.rate": sent.rate(201),
        "verified.p99_ms": sent.p99_ms,
        "verified.service_us": service_us,
    }


async def one_statement(bench: Bench, _: Halls) -> Metrics:
    """pgbench: a booking in one statement, one per transaction."""
    places = ONE_STATEMENT_MAX * (CONNECTING_S + bench.seconds)
    await bench.yardsticks.execute("truncate places, sold_places")
    await bench.yardsticks.execute("alter sequence next_place restart")
    await bench.yardsticks.execute("insert into places select generate_series(1, $1::int)", places)
    await bench.yardsticks.execute("vacuum (analyze) places")
    binary = program(bench.servers.postgres).with_name("pgbench")
    rate, count = await pgbench(binary, bench.yardsticks_url, bench.seconds)
    sold = await bench.yardsticks.fetchval("select count(*) from sold_places")
    checks.require(sold == count, f"pgbench booked {count} places, {sold} are sold")
    return {"one_statement.rate": rate}


async def plain(bench: Bench, _: Halls) -> Metrics:
    """The plain design, on one hot event of which a fifth is sold."""
    await bench.yardsticks.execute("truncate bookings, events")
    await bench.yardsticks.execute("insert into events (id, capacity) values (1, 100000)")
    await bench.yardsticks.execute(
        "insert into bookings (event_id, user_id)"
        " select 1, gen_random_uuid() from generate_series(1, $1::int)", SOLD
    )  # fmt: skip
    await bench.yardsticks.execute("vacuum (analyze) bookings")
    wanted = bench.people.by_event(1, ORDERS_MAX * bench.seconds)
    sent = await _send(bench, f"{bench.fastapi.url}/plain-bookings", wanted)
    checks.check_answers(sent, 201)
    rows = await bench.yardsticks.fetch("select id::text from bookings")
    missing = set(sent.ids) - {row["id"] for row in rows}
    checks.require(not missing, f"the plain design lost {len(missing)} bookings")
    return {"plain.rate": sent.rate(201), "plain.p99_ms": sent.p99_ms}


async def seats(bench: Bench, halls: Halls) -> Metrics:
    """Different users book different seats of one event; and what that costs."""
    wanted = _seats_of(bench, halls["hall"])
    before = _cpu(bench)
    sent = await _send(bench, f"{bench.service.url}/bookings", wanted)
    after = _cpu(bench)
    await _check(bench, [halls["hall"]], wanted, sent)
    count = sent.statuses[201]
    costs = {f"seats.{name}_us": 1e6 * (after[name] - before[name]) / count for name in after}
    memory = {"seats.rss_mib": rss_mib(bench.service.pid)}
    return {"seats.rate": sent.rate(201), "seats.p99_ms": sent.p99_ms} | costs | memory


async def strangers(bench: Bench, halls: Halls) -> Metrics:
    """The same by users whose tokens the service sees for the first time."""
    hall = halls["hall"]
    wanted = bench.people.strangers(RANDOM.sample(hall.seat_ids, hall.capacity))
    sent = await send(f"{bench.service.url}/bookings", wanted, bench.seconds, bench.folder)
    await _check(bench, [hall], wanted, sent)
    return {"strangers.rate": sent.rate(201)}


async def pair(bench: Bench, halls: Halls) -> Metrics:
    """The same with two workers."""
    sent = await _book(bench, bench.pair, [halls["hall"]], _seats_of(bench, halls["hall"]))
    return {"pair.rate": sent.rate(201), "pair.p99_ms": sent.p99_ms}


async def hot(bench: Bench, halls: Halls) -> Metrics:
    """One hot general-admission event, a fifth sold, whose places the service picks."""
    hall = halls["field"]
    earlier = await _sell(bench, hall, SOLD)
    await bench.settle()
    wanted = bench.people.by_event(hall.event_id, ORDERS_MAX * bench.seconds)
    sent = await _send(bench, f"{bench.service.url}/bookings", wanted)
    await _check(bench, [hall], wanted, sent, earlier)
    return {"hot.rate": sent.rate(201), "hot.p99_ms": sent.p99_ms}


async def large(bench: Bench, halls: Halls) -> Metrics:
    """Places by their ids, in an event of 100,000."""
    hall = halls["field"]
    wanted = bench.people.by_seat(hall.seat_ids[: SMALL_EVENTS * 100])
    sent = await _book(bench, bench.service, [hall], wanted)
    return {"large.us": 1e6 / sent.rate(201)}


async def small(bench: Bench, halls: Halls) -> Metrics:
    """The same in events of 100, one after the other."""
    wanted = [each for hall in halls.values() for each in bench.people.by_seat(hall.seat_ids)]
    # The events are known to the worker, as the large one is after its first booking.
    paths = [f"/events/{hall.event_id}/availability" for hall in halls.values()]
    await ask_all(bench.service.url, [build("GET", path) for path in paths])
    sent = await _book(bench, bench.service, list(halls.values()), wanted)
    return {"small.us": 1e6 / sent.rate(201)}


async def half(bench: Bench, halls: Halls) -> Metrics:
    """Bookings at half the rate that this run found to be the most."""
    hall = halls["hall"]
    count = min(hall.capacity, int(bench.latest["seats.rate"] / 2 * bench.seconds))
    wanted = _seats_of(bench, hall)[:count]
    return {"half.p99_ms": await book_at(bench, hall, wanted, bench.latest["seats.rate"] / 2)}


async def storm(bench: Bench, halls: Halls) -> Metrics:
    """The bookings' p99 without and with 20 clients who do nothing but log in."""
    hall, seconds = halls["hall"], max(STORM_S, bench.seconds)
    count = min(hall.capacity, MODERATE * seconds)
    quiet = await book_at(bench, hall, _seats_of(bench, hall)[:count], MODERATE)
    hall = halls["other"]
    async with login_storm(bench.service.url) as logins:
        started_at = perf_counter()
        stormy = await book_at(bench, hall, _seats_of(bench, hall)[:count], MODERATE)
        done = sum(answer.status == 200 for answer in logins)
        rate = done / (perf_counter() - started_at)
    return {"storm.quiet_p99_ms": quiet, "storm.p99_ms": stormy, "storm.logins": rate}


async def availability(bench: Bench, halls: Halls) -> Metrics:
    """The availability of an event that nobody writes to."""
    result = await read(_availability(bench, halls["hall"]), bench.seconds)
    return {"availability.rate": result.rate, "availability.p99_ms": result.p99_ms}


async def unchanged(bench: Bench, halls: Halls) -> Metrics:
    """The same, by readers who know this version."""
    url = _availability(bench, halls["hall"])
    path = url.removeprefix(bench.service.url)
    version = checks.version(await ask(bench.service.url, build("GET", path)))
    result = await read(url, bench.seconds, f'If-None-Match: "{version}"')
    checks.require(result.bytes_each < 700, f"304s of {result.bytes_each:.0f} bytes")
    return {"unchanged.rate": result.rate}


async def invalidated(bench: Bench, halls: Halls) -> Metrics:
    """The same, while 500 bookings a second change it."""
    hall = halls["hall"]
    seconds = min(bench.seconds, hall.capacity // INVALIDATIONS)
    wanted = _seats_of(bench, hall)[: INVALIDATIONS * seconds]
    async with invalidating(bench, hall, wanted, INVALIDATIONS) as look:
        result = await read(_availability(bench, hall), seconds)
        booked = look.booked  # meanwhile: a service that is late has it easier
    return {
        "invalidated.rate": result.rate,
        "invalidated.bookings": booked / seconds,
        "invalidated.looks": float(look.reads),
        "invalidated.stale": float(look.stale),
    }


async def listing(bench: Bench, halls: Halls) -> Metrics:
    """GET /seats, and a FastAPI route with that very body, prebuilt."""
    path = f"/seats?event_id={halls['hall'].event_id}"
    body = (await ask(bench.service.url, build("GET", path))).body
    await ask(bench.fastapi.url, build("PUT", "/prebuilt-large", body=body))
    same = await read(f"{bench.fastapi.url}/prebuilt-large", bench.seconds)
    result = await read(f"{bench.service.url}{path}", bench.seconds)
    return {"listing.rate": result.rate, "listing.prebuilt": same.rate}


async def refusals(bench: Bench, halls: Halls) -> Metrics:
    """Bookings of a sold-out event."""
    hall = halls["field"]
    await _sell(bench, hall, hall.capacity)
    wanted = bench.people.by_event(hall.event_id, 2 * ORDERS_MAX * bench.seconds)
    sent = await _send(bench, f"{bench.service.url}/bookings", wanted)
    checks.check_answers(sent, 409)
    checks.require(not sent.ids, "a sold-out event was sold")
    return {"refusals.rate": sent.rate(409), "refusals.p99_ms": sent.p99_ms}


async def start(bench: Bench, _: Halls) -> Metrics:
    """From the command to being ready, with a current schema."""
    async with serving("start", *service(), folder=bench.folder, env=bench.env) as server:
        return {"start.s": server.start_s, "start.rss_mib": rss_mib(server.pid)}


def _availability(bench: Bench, hall: Hall) -> str:
    return f"{bench.service.url}/events/{hall.event_id}/availability"


async def _sell(bench: Bench, hall: Hall, places: int) -> frozenset[str]:
    buyers = bench.people.by_event(hall.event_id, places // QUANTITY_MAX, QUANTITY_MAX)
    requests = [build("POST", "/bookings", each.token, each.body) for each in buyers]
    answers = await ask_all(bench.service.url, requests)
    checks.require({each.status for each in answers} == {201}, f"could not sell {places} places")
    return frozenset(map(checks.booking_id, answers))


def _seats_of(bench: Bench, hall: Hall) -> list[Wanted]:
    return bench.people.by_seat(RANDOM.sample(hall.seat_ids, hall.capacity))


async def _book(
    bench: Bench, server: Server, halls: Sequence[Hall], wanted: Sequence[Wanted]
) -> Sent:
    sent = await _send(bench, f"{server.url}/bookings", wanted)
    await _check(bench, halls, wanted, sent)
    return sent


async def _check(
    bench: Bench,
    halls: Sequence[Hall],
    wanted: Sequence[Wanted],
    sent: Sent,
    earlier: frozenset[str] = frozenset(),
) -> None:
    checks.check_answers(sent, 201)
    event_ids = [hall.event_id for hall in halls]
    asked = wanted[: sent.asked]
    await checks.check_bookings(bench.database, event_ids, asked, sent.ids, earlier=earlier)


def _cpu(bench: Bench) -> dict[str, float]:
    return {
        "service": cpu_s(bench.service.pid),
        "postgres": cpu_s(bench.servers.postgres.pid),
        "redis": cpu_s(bench.servers.redis.pid),
    }


async def _send(bench: Bench, url: str, wanted: Sequence[Wanted]) -> Sent:
    sent = await send(url, wanted, bench.seconds, bench.folder)
    bench.people.take_back(len(wanted) - sent.asked)
    return sent


SEATS = {"hall": numbered(10_000)}
FIELD = {"field": general(100_000)}
READERS = {"hall": numbered(1000)}
SCENARIOS = {  # neighbours are those that are compared: the machine changes its speed
    "starlette": Scenario(starlette),
    "prebuilt": Scenario(prebuilt),
    "availability": Scenario(availability, READERS),
    "unchanged": Scenario(unchanged, READERS),
    "invalidated": Scenario(invalidated, READERS),
    "listing": Scenario(listing, READERS),
    "plain": Scenario(plain),
    "hot": Scenario(hot, FIELD),
    "verified": Scenario(verified),
    "seats": Scenario(seats, SEATS),
    "pair": Scenario(pair, SEATS),
    "refusals": Scenario(refusals, {"field": general(10_000)}),
    "large": Scenario(large, FIELD),
    "small": Scenario(small, {str(n): general(100) for n in range(SMALL_EVENTS)}),
    "half": Scenario(half, SEATS, needs=("seats",)),
    "storm": Scenario(storm, SEATS | {"other": numbered(10_000)}),
    "strangers": Scenario(strangers, SEATS),
    "one_statement": Scenario(one_statement),
    "start": Scenario(start),
}
