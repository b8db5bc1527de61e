"""Every guard of the readers, switched off: somebody is shown a sold seat free, and we notice."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from typing import Any

import pytest

from seatsvc import local, locks, seats
from seatsvc.halls import Hall, Snapshot
from seatsvc.locks import SeatLocks
from seatsvc.scripts import Redis, Script
from seatsvc.seats import Seats
from seatsvc.settings import Settings
from tests.conftest import Service, serve
from tests.test_guards import REPEATS_MAX, Race, broken
from tests.test_races_readers import one_cut_off, overtaken_fill, read_after_write, reader_fleet

pytestmark = pytest.mark.slow

Break = Callable[[pytest.MonkeyPatch], None]

few_writes = partial(reader_fleet, writes=160)
fill_alone = partial(overtaken_fill, meanwhile=False)
NEW_GENERATION = ("redis.call('INCR', KEYS[1])", "redis.call('GET', KEYS[1])")
DROPPED_ENTRY = ("redis.call('DEL', KEYS[2])", "")
SAME_GENERATION = ("(redis.call('GET', KEYS[1]) or '') .. ARGV[5] ~= ARGV[1]", "false")
LIVING_TOKEN = ("redis.call('GET', KEYS[3]) ~= ARGV[2]", "false")
ENTRY_OF_GENERATION = ("entry[1] == generation", "entry[1]")


def only_unlocks(patches: pytest.MonkeyPatch) -> None:
    """A write leaves the cache alone."""
    patches.setattr(locks, "FINISH", broken(locks.FINISH, NEW_GENERATION, DROPPED_ENTRY))


def plain_delete(patches: pytest.MonkeyPatch) -> None:
    """A write deletes the entry, and does not change the generation."""
    patches.setattr(locks, "FINISH", broken(locks.FINISH, NEW_GENERATION))


def unconditional_store(patches: pytest.MonkeyPatch) -> None:
    """A fill is stored whatever was written meanwhile."""
    patches.setattr(seats, "STORE", broken(seats.STORE, SAME_GENERATION))


def unconditional_read(patches: pytest.MonkeyPatch) -> None:
    """An entry is served whatever generation it was filled for."""
    patches.setattr(seats, "READ", broken(seats.READ, ENTRY_OF_GENERATION))


def late_store(patches: pytest.MonkeyPatch) -> None:
    """A fill is stored however long ago it began."""
    patches.setattr(seats, "STORE", broken(seats.STORE, LIVING_TOKEN))


def slow_store(patches: pytest.MonkeyPatch) -> None:
    """Between reading and storing there is time for others. This alone does no damage."""
    run = Redis.run

    async def run_slowly(
        redis: Redis, script: Script, keys: Sequence[str], *args: str | bytes | int
    ) -> Any:
        if script is seats.STORE:
            await asyncio.sleep(0.02)
        return await run(redis, script, keys, *args)

    patches.setattr(Redis, "run", run_slowly)


def no_wait(patches: pytest.MonkeyPatch) -> None:
    """Who cannot tell the readers answers at once."""

    async def outwait(_: SeatLocks) -> None:
        return None

    patches.setattr(SeatLocks, "outwait", outwait)


def unasked_copy(patches: pytest.MonkeyPatch) -> None:
    """A process serves its copy while it lasts, and does not ask for the generation."""
    ask = Seats.look

    async def look(ours: Seats, hall: Hall) -> Snapshot:
        fresh = asyncio.get_running_loop().time() < hall.snapshot.expires_at
        return hall.snapshot if fresh else await ask(ours, hall)

    patches.setattr(Seats, "look", look)


def joined_look(patches: pytest.MonkeyPatch) -> None:
    """A reader joins a look that is under way already."""
    under_way: dict[Hall, asyncio.Task[Snapshot]] = {}

    async def look(ours: Seats, hall: Hall) -> Snapshot:
        task = under_way.get(hall)
        if task is None or task.done():
            task = under_way[hall] = asyncio.create_task(ours._look(hall))
        return await task

    patches.setattr(Seats, "look", look)


@pytest.fixture(scope="module")
async def other(shared: Service) -> AsyncIterator[Service]:
    """Another service on the same servers."""
    async with serve(shared.settings) as running:
        yield running


async def lose(race: Race, writer: Service, reader: Service) -> None:
    """Run the race until it fails, a few times at most."""
    for _ in range(REPEATS_MAX):
        await race(writer, reader)


def case(name: str, race: Race, *breaks: Break) -> Any:
    """A row of the tables below."""
    return pytest.param(race, breaks, id=name)


@pytest.mark.parametrize(
    ("race", "breaks"),
    [
        case("finish", read_after_write, only_unlocks),
        case("finish seen by many", few_writes, only_unlocks),
        case("generation", overtaken_fill, plain_delete),
        case("generation seen by many", few_writes, plain_delete, slow_store),
        case("compare", overtaken_fill, unconditional_store, unconditional_read),
        case("asking", read_after_write, unasked_copy),
        case("own look", overtaken_fill, joined_look),
    ],
)
async def test_without_its_guard(
    shared: Service,
    other: Service,
    monkeypatch: pytest.MonkeyPatch,
    race: Race,
    breaks: Sequence[Break],
) -> None:
    """The guards that `breaks` name are off: a reader at another service is wrong."""
    for switch_off in breaks:
        switch_off(monkeypatch)
    with pytest.raises(AssertionError, match="shown free"):
        await lose(race, shared, other)


@pytest.mark.parametrize(
    ("race", "switch_off"),
    [
        pytest.param(read_after_write, no_wait, id="wait"),
        pytest.param(fill_alone, late_store, id="fill token"),
    ],
)
async def test_writer_without_redis_and_without_its_guard(
    servers: local.Servers,
    test_settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    race: Race,
    switch_off: Break,
) -> None:
    """The writer reaches no Redis, and its wait, or what makes it long enough, is off."""
    switch_off(monkeypatch)
    async with one_cut_off(servers) as (whole, cut_off):
        with pytest.raises(AssertionError, match="shown free"):
            await lose(race, cut_off, whole)


@pytest.mark.parametrize("switch_off", [unconditional_store, unconditional_read, slow_store])
async def test_one_guard_is_enough(
    shared: Service, other: Service, monkeypatch: pytest.MonkeyPatch, switch_off: Break
) -> None:
    """Entries are compared when they are stored, or when they are read; being slow is no harm."""
    switch_off(monkeypatch)
    await overtaken_fill(shared, other)
    await reader_fleet(shared, other, writes=48)
