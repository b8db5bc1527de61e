"""One run, from the first user's registration to the last check."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from time import perf_counter

from seatsvc.load.box_office import BoxOffice, own_bookings
from seatsvc.load.buyers import Buyer, Run
from seatsvc.load.client import Client, Connection, LoadError
from seatsvc.load.hall import Hall
from seatsvc.load.history import FREED_S, Ending, History, Terms
from seatsvc.load.invariants import Case, check
from seatsvc.load.people import People, User
from seatsvc.load.scenarios import SCENARIOS
from seatsvc.load.screen import Screen
from seatsvc.load.summary import Result

AUDIT_S = 60


@dataclass(frozen=True, slots=True)
class Options:
    """What is to be done. With no event given, the organizer makes one."""

    url: str
    scenario: str
    users: int
    connections: int
    seats: int
    seconds: int
    limit: int | None = None
    organizer: str | None = None
    password: str = ""
    event_id: int | None = None
    users_file: Path | None = None
    keep: bool = False
    seed: int | None = None


async def measure(options: Options, screen: Screen) -> Result:
    """Run a scenario, and check the invariants.

    Raises LoadError.
    """
    return await _Measuring(options, screen).run()


class _Measuring:
    def __init__(self, options: Options, screen: Screen) -> None:
        self._options, self._screen = options, screen
        self._scenario = SCENARIOS[options.scenario]
        self._client = Client(options.url, self._warn)
        self._people = People(self._client, options.users_file)
        self._rate_limits: list[str] = []
        self._history = History()

    def _warn(self, name: str, burst: int, period_s: int) -> None:
        self._rate_limits.append(f"{name}: {burst} in {period_s} s")
        if len(self._rate_limits) == 1:
            self._screen.line(
                "Warning: rate limits are on. SEATSVC_RATE_LIMITS=off starts without."
            )
        self._screen.line(f"Rate limit {self._rate_limits[-1]}")
        more = self._options.users - burst
        if name == "register" and more > 0:
            self._screen.line(f"New users will take {more * period_s / burst / 60:,.0f} minutes.")

    async def run(self) -> Result:
        """All of it."""
        options = self._options
        async with self._client.connections(1) as [connection]:
            organizer = None
            if options.organizer:
                organizer = await self._people.log_in(options.organizer, options.password)
            users = await self._users()
            everybody = [*users, organizer] if organizer else users
            await self._people.ready(everybody, options.seconds)
            office = BoxOffice(connection, organizer)
            event_id = options.event_id or await office.create(
                options.scenario, options.seats, self._scenario.general, options.limit
            )
            try:
                return await self._measure(office, event_id, users, everybody)
            finally:
                if options.event_id is None and not options.keep:
                    with suppress(LoadError):
                        await office.cancel(event_id)

    async def _users(self) -> list[User]:
        count = self._options.users
        self._screen.line(
            f"Making {count:,} users; the service hashes two passwords for each new one"
        )
        users = await self._people.make(
            count, lambda done, of: self._screen.bar(done / of, f"{done:,} of {of:,} users")
        )
        self._screen.clear()
        return users

    async def _measure(
        self, office: BoxOffice, event_id: int, users: list[User], everybody: list[User]
    ) -> Result:
        options, hall = self._options, await office.hall(event_id)
        terms = await self._terms(office, hall, users)
        run = Run(hall, self._history, options.seats, must_sell_out=terms.must_sell_out)
        async with self._client.connections(options.connections) as connections:
            opened = await self._open(run, connections, users)
            seconds = perf_counter() - opened
        self._screen.line("Checking the invariants")
        await self._people.ready(everybody, AUDIT_S)
        ending = await self._ending(office, hall, users)
        terms = replace(terms, must_sell_out=run.must_sell_out)
        return Result(
            scenario=options.scenario,
            url=options.url,
            event_id=event_id,
            users=len(users),
            connections=len(connections),
            opened=opened,
            seconds=seconds,
            bookings=sum(order.made is not None for order in self._history.orders),
            calls=self._history.calls,
            findings=check(Case(self._history, ending, terms, hall)),
            rate_limits=self._rate_limits,
        )

    async def _terms(self, office: BoxOffice, hall: Hall, users: Sequence[User]) -> Terms:
        options = self._options
        if options.event_id is None:
            enough = options.limit is None or options.limit * len(users) >= options.seats
            terms = await office.terms(hall.event_id)
            # What was asked for, not what the service made of it.
            sells_out = self._scenario.sells_out and enough
            return replace(terms, per_user=options.limit, must_sell_out=sells_out)
        before = await own_bookings(self._client, users, hall.event_id)
        earlier = frozenset(booking.id for own in before.values() for booking in own)
        taken = hall.bits(hall.seat_ids) & ~(await office.seen(hall)).free
        return await office.terms(hall.event_id, ours=False, earlier=earlier, taken_before=taken)

    async def _open(
        self, run: Run, connections: Sequence[Connection], users: Sequence[User]
    ) -> float:
        """Let the buyers in; when that was."""
        seconds, random = self._options.seconds, Random(self._options.seed)
        buyers = [
            Buyer(run, connection, users[n % len(users)], Random(random.getrandbits(64)))
            for n, connection in enumerate(connections)
        ]
        self._screen.line(f"{len(connections):,} connections are open: {self._options.scenario}")
        opened = perf_counter()
        run.ends_at = opened + seconds
        watch = asyncio.create_task(self._screen.watch(run, seconds))
        try:
            await self._scenario.run(run, buyers)
        finally:
            watch.cancel()
            self._screen.clear()
        return opened

    async def _ending(self, office: BoxOffice, hall: Hall, users: Sequence[User]) -> Ending:
        cancelled = [reply.ended for order in self._history.orders for reply in order.cancels]
        if cancelled:
            await asyncio.sleep(max(0.0, max(cancelled) + FREED_S - perf_counter()))
        own = await own_bookings(self._client, users, hall.event_id)
        return await office.ending(hall, own)
