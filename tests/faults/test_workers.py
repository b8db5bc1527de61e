"""A worker is killed at every step of a booking, sleeps past its lock's TTL, or is told to end."""

import asyncio
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass, replace
from time import time
from uuid import uuid4

import pytest

from seatsvc.locks import FINISH, LOCK
from tests.faults.caller import Wish
from tests.faults.conftest import FULL, Setting, Stage
from tests.faults.figures import compare, note
from tests.faults.hatching import Hatched
from tests.faults.history import Call
from tests.faults.proxy import Link, Proxy, Rule, Verdict, let_pass, proxied

pytestmark = pytest.mark.faults

KILLS = 50 if FULL else 20
SLEEPS = 100 if FULL else 12
STOPS = 20 if FULL else 8
SETTLED_S = 6.0
SHORT_TTL_MS = 1000
PATIENCE_S = 10
AHEAD_S = 0.02  # a load balancer knows so much earlier
ORDER = b'"request_hash"'  # only an order's parameters hold it


@dataclass(frozen=True)
class Point:
    """A moment of a booking: when this goes by on the way to or from one of its neighbours."""

    name: str
    neighbour: str
    what: bytes
    is_reply: bool = False
    arrives: bool = False

    def seen(self, link: Link, chunk: bytes, is_reply: bool) -> bool:
        """Is it this chunk?"""
        return is_reply is self.is_reply and self.what in (link.request if is_reply else chunk)


LOCK_SHA, FINISH_SHA = LOCK.sha.encode(), FINISH.sha.encode()
POINTS = (
    Point("before the lock", "redis", LOCK_SHA),
    Point("locked", "redis", LOCK_SHA, is_reply=True),
    Point("before the order", "postgres", ORDER),
    Point("while PostgreSQL decides", "postgres", ORDER, arrives=True),
    Point("committed", "postgres", ORDER, is_reply=True),
    Point("before the finish", "redis", FINISH_SHA),
    Point("finished", "redis", FINISH_SHA, is_reply=True),
    Point("answering", "client", b"POST /bookings", is_reply=True),
)


def once(point: Point, happen: Callable[[], None]) -> tuple[Rule, asyncio.Event]:
    """A rule that makes something happen at this point, and the event that it did."""
    happened = asyncio.Event()

    def rule(link: Link, chunk: bytes, is_reply: bool) -> Verdict:
        if happened.is_set() or not point.seen(link, chunk, is_reply):
            return Verdict.PASS
        happen()
        happened.set()
        return Verdict.PASS if point.arrives else Verdict.SWALLOW

    return rule, happened


def order(stage: Stage, number: int) -> Wish:
    """A booking that nobody else is after."""
    users, seats = stage.workload.users, stage.caller.hall.seats
    turn = number % len(users)
    return Wish("book", users[turn], (seats[turn],), key=uuid4().hex)


async def give_back(stage: Stage, made: Call) -> None:
    """So that the seat and its buyer can serve again."""
    user = next(user for user in stage.workload.users if user.id == made.user)
    wish = Wish("cancel", user, target=made.made)
    await stage.workload.settle(wish, await stage.caller.call(wish))


async def settled(stage: Stage, wish: Wish, call: Call) -> float:
    """Try on with the same key; how long it took until the one booking was there."""
    died_at = time()
    last = await stage.workload.settle(wish, call)
    assert last.status == 201, f"never booked: {last.status} {last.code}"
    waited_s = last.ended_at - died_at
    again = await stage.caller.call(wish)
    assert (again.status, again.code, again.body) == (201, "", last.body), "not the same booking"
    await give_back(stage, last)
    return waited_s


async def killed_at(stage: Stage, point: Point, front: Proxy, wish: Wish) -> Call:
    """Send the order to the first worker, which dies there; it is up again afterwards."""
    victim = stage.workers[0]
    neighbours = {"redis": stage.redis[0], "postgres": stage.postgres[0], "client": front}
    rule, died = once(point, victim.kill)
    neighbours[point.neighbour].rule = rule
    call = await stage.caller.call(wish, front.url)
    assert died.is_set(), f"never got there: {call.status} {call.code}"
    neighbours[point.neighbour].rule = let_pass
    return call


async def test_killed(staged: Setting) -> None:
    """Whoever tries again with the same key gets the one booking, from the other worker."""
    async with staged(pair=True, made=Hatched) as stage, proxied(stage.workers[0].url) as front:
        stage.caller.urls = [stage.workers[1].url]
        settling: dict[str, list[asyncio.Task[float]]] = {point.name: [] for point in POINTS}
        for number in range(KILLS * len(POINTS)):
            point = POINTS[number % len(POINTS)]
            wish = order(stage, number)
            call = await killed_at(stage, point, front, wish)
            stage.heal()
            settling[point.name].append(asyncio.create_task(settled(stage, wish, call)))
            stage.workers[0].start()
            await stage.workers[0].ready(stage.caller)
        for name, tasks in settling.items():
            what = f"settled when killed {KILLS} times: {name}"
            compare("worker killed", what, max(await asyncio.gather(*tasks)), SETTLED_S, "s")
        stage.caller.urls = [worker.url for worker in stage.workers]
        await stage.end("worker killed")


async def overslept(stage: Stage, number: int, *, keep: bool = False) -> str:
    """What the first worker says, which sleeps with the lock while the second sells the seat."""
    worker, ttl_s = stage.workers[0], SHORT_TTL_MS / 1000
    late, other = order(stage, number), order(stage, number + 1)
    rival = replace(other, seats=late.seats)
    locked = Point("locked", "redis", LOCK_SHA, is_reply=True, arrives=True)
    rule, stopped = once(locked, lambda: os.kill(worker.process.pid, signal.SIGSTOP))
    stage.redis[0].rule = rule
    asking = asyncio.create_task(stage.caller.call(late, worker.url))
    try:
        async with asyncio.timeout(PATIENCE_S):
            await stopped.wait()
        await asyncio.sleep(ttl_s + 0.1)
        first = await stage.caller.call(rival, stage.workers[1].url)
    finally:
        os.kill(worker.process.pid, signal.SIGCONT)
    call = await asking
    assert first.status == 201, f"the lock outlived its TTL: {first.code}"
    if not keep:
        await give_back(stage, first)
    return call.code or str(call.status)


async def test_sleeps_past_its_lock(staged: Setting) -> None:
    """It wakes up believing that it holds the lock: the database knows better."""
    fault = f"worker stopped past its lock's TTL {SLEEPS} times"
    async with staged(pair=True, lock_ttl_ms=SHORT_TTL_MS) as stage:
        answers = [await overslept(stage, number) for number in range(SLEEPS)]
        note(fault, "answers of the late one", ", ".join(sorted(set(answers))))
        await stage.end(fault)
        assert set(answers) == {"seat_taken"}


async def told_to_end(stage: Stage, fault: str, stops: int) -> None:
    """SIGTERM under load, to one worker after the other."""
    running = stage.workload.start(1000)
    took_s = []
    await asyncio.sleep(2)
    for number in range(stops):
        worker = stage.workers[number % 2]
        stage.caller.urls = [stage.workers[1 - number % 2].url]
        await asyncio.sleep(AHEAD_S)
        took_s.append(await worker.stop())
        assert worker.process.returncode in (0, -signal.SIGTERM), worker.log
        worker.start()
        await worker.ready(stage.caller)
        stage.caller.urls = [each.url for each in stage.workers]
        stage.heal()
        await asyncio.sleep(0.5)
    stage.workload.stopped = True
    await running
    await stage.workload.finish()
    unheard = sum(call.status == 0 for call in stage.caller.history)
    compare(fault, "slowest exit", max(took_s), 10, "s")
    compare(fault, "accepted calls without an answer", unheard, 0)


async def test_told_to_end(staged: Setting) -> None:
    """What was accepted is answered, and the process ends in time."""
    fault = f"SIGTERM under load {STOPS} times"
    async with staged(pair=True) as stage:
        await told_to_end(stage, fault, STOPS)
        await stage.end(fault)
