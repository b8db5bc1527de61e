"""Lanes: what waits together travels together, and each gets its own."""

import asyncio
import math
from collections.abc import Sequence

import pytest

from seatsvc import lanes, patience
from seatsvc.errors import Unavailable
from seatsvc.lanes import Lane


class Calls:
    """A lane's other end: doubles numbers, when the test lets it."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.running = 0
        self.running_max = 0
        self.go = asyncio.Event()
        self.go.set()

    async def run(self, items: list[int]) -> Sequence[int | Exception]:
        """Negative numbers are refused, 13 breaks the whole call."""
        self.batches.append(items)
        self.running += 1
        self.running_max = max(self.running_max, self.running)
        await self.go.wait()
        self.running -= 1
        if 13 in items:
            raise RuntimeError("13")
        return [ValueError(item) if item < 0 else item * 2 for item in items]


async def turn() -> None:
    """Let everything run that can."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_idle_lane_starts_at_once() -> None:
    """One item travels alone, without waiting for company."""
    calls = Calls()
    assert await Lane(calls.run)(1) == 2
    assert calls.batches == [[1]]


async def test_what_meets_travels_together() -> None:
    """Items that are there when the call starts share it, in their order, each with its result."""
    calls = Calls()
    lane = Lane(calls.run, calls_max=1)
    assert await asyncio.gather(*map(lane, range(10))) == [n * 2 for n in range(10)]
    assert calls.batches == [list(range(10))]


async def test_next_batch_gathers_meanwhile() -> None:
    """While one call runs, later items wait for the next."""
    calls = Calls()
    calls.go.clear()
    lane = Lane(calls.run, calls_max=1)
    waiters = []
    for n in range(5):
        waiters.append(asyncio.create_task(lane(n)))
        await turn()
    assert calls.batches == [[0]]
    calls.go.set()
    assert await asyncio.gather(*waiters) == [0, 2, 4, 6, 8]
    assert calls.batches == [[0], [1, 2, 3, 4]]


async def test_batch_max_and_calls_max() -> None:
    """No call carries more than batch_max, and no more than calls_max run at once."""
    calls = Calls()
    calls.go.clear()
    lane = Lane(calls.run, calls_max=3, batch_max=4)
    waiters = [asyncio.create_task(lane(n)) for n in range(20, 50)]
    await turn()
    assert [len(batch) for batch in calls.batches] == [4, 4, 4]
    calls.go.set()
    assert await asyncio.gather(*waiters) == [n * 2 for n in range(20, 50)]
    assert max(len(batch) for batch in calls.batches) == 4
    assert calls.running_max == 3
    assert sorted(n for batch in calls.batches for n in batch) == list(range(20, 50))


async def test_few_wait_for_the_call_under_way() -> None:
    """They ride together when it ends; a crowd needs not wait for that."""
    calls = Calls()
    calls.go.clear()
    lane = Lane(calls.run, crowd=3)
    riders = [asyncio.create_task(lane(0))]
    await turn()
    riders += [asyncio.create_task(lane(n)) for n in (1, 2)]
    await turn()
    assert calls.batches == [[0]]
    riders += [asyncio.create_task(lane(3))]
    await turn()
    assert calls.batches == [[0], [1, 2, 3]]
    calls.go.set()
    assert await asyncio.gather(*riders) == [0, 2, 4, 6]


async def test_few_do_not_wait_for_a_call_that_takes_long() -> None:
    """Soon they begin one of their own."""
    calls = Calls()
    calls.go.clear()
    lane = Lane(calls.run, crowd=3)
    stuck = asyncio.create_task(lane(0))
    await turn()
    calls.go = asyncio.Event()
    calls.go.set()
    assert await asyncio.gather(*map(lane, (1, 2))) == [2, 4]
    assert calls.batches == [[0], [1, 2]]
    stuck.cancel()


async def paused(
    calls: Calls, monkeypatch: pytest.MonkeyPatch, soon_s: float = 60
) -> tuple[Lane[int, int], "asyncio.Task[int]"]:
    """A lane whose call has ended, and 1, who waits for its next one. Many wait for answers."""
    monkeypatch.setattr(patience, "crowded", lambda: True)
    monkeypatch.setattr(lanes, "SOON_S", soon_s)
    calls.go.clear()
    lane = Lane(calls.run, crowd=3, unhurried=True)
    first = asyncio.create_task(lane(0))
    await turn()
    second = asyncio.create_task(lane(1))
    await turn()
    calls.go.set()
    assert await first == 0
    await turn()
    assert calls.batches == [[0]]
    return lane, second


async def test_where_many_wait_few_wait_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """No call is begun for one; for a crowd it is."""
    calls = Calls()
    lane, rider = await paused(calls, monkeypatch)
    assert await asyncio.gather(rider, *map(lane, (2, 3))) == [2, 4, 6]
    assert calls.batches == [[0], [1, 2, 3]]


async def test_where_many_wait_few_do_not_wait_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether others come or not."""
    calls = Calls()
    _, rider = await paused(calls, monkeypatch, soon_s=0.2)
    assert await rider == 2


async def test_where_many_wait_nobody_waits_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who has waited for others while a call took long goes when it ends."""
    monkeypatch.setattr(patience, "crowded", lambda: True)
    calls = Calls()
    calls.go.clear()
    lane = Lane(calls.run, calls_max=1, crowd=3, unhurried=True)
    riders = [asyncio.create_task(lane(0))]
    await turn()
    riders.append(asyncio.create_task(lane(1)))
    await asyncio.sleep(2 * lanes.SOON_S)
    riders.append(asyncio.create_task(lane(2)))
    await turn()
    calls.go.set()
    assert await riders[0] == 0
    await turn()
    assert calls.batches[1:] == [[1, 2]]
    assert await asyncio.gather(*riders) == [0, 2, 4]


async def test_who_waits_for_others_was_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before a lane has finished, they are served."""
    calls = Calls()
    lane, rider = await paused(calls, monkeypatch)
    await lane.finish()
    assert calls.batches == [[0], [1]]
    assert await rider == 2


async def test_one_refusal_is_ones_own() -> None:
    """A result that is an exception is raised for its item; the neighbours get theirs."""
    lane = Lane(Calls().run)
    results = await asyncio.gather(*map(lane, [1, -2, 3]), return_exceptions=True)
    assert results[0::2] == [2, 6]
    assert isinstance(results[1], ValueError)


async def test_a_broken_call_fails_its_batch_only() -> None:
    """All who rode it get the error; the next batch runs."""
    calls = Calls()
    calls.go.clear()
    lane = Lane(calls.run, calls_max=1)
    first = asyncio.create_task(lane(1))
    await turn()
    second = [asyncio.create_task(lane(n)) for n in (13, 2)]
    await turn()
    calls.go.set()
    assert await first == 2
    failed = await asyncio.gather(*second, return_exceptions=True)
    assert all(isinstance(error, RuntimeError) for error in failed)
    assert await lane(3) == 6


async def test_whoever_leaves_takes_nobody_along() -> None:
    """A waiter that is cancelled, before its call or in it, changes nothing for others."""
    calls = Calls()
    calls.go.clear()
    lane = Lane(calls.run, calls_max=1)
    waiters = [asyncio.create_task(lane(n)) for n in range(3)]
    await turn()
    later = [asyncio.create_task(lane(n)) for n in range(3, 6)]
    await turn()
    waiters[1].cancel()
    later[1].cancel()
    await turn()
    calls.go.set()
    results = await asyncio.gather(*waiters, *later, return_exceptions=True)
    assert [results[n] for n in (0, 2, 3, 5)] == [0, 4, 6, 10]
    assert all(isinstance(results[n], asyncio.CancelledError) for n in (1, 4))


async def test_full_lane_refuses() -> None:
    """Beyond waiting_max: Unavailable at once, until there is room again."""
    calls = Calls()
    calls.go.clear()
    lane = Lane(calls.run, calls_max=1, waiting_max=3)
    running = asyncio.create_task(lane(0))
    await turn()
    waiting = [asyncio.create_task(lane(n)) for n in range(1, 4)]
    await turn()
    with pytest.raises(Unavailable) as refused:
        await lane(4)
    assert refused.value.retry_after_s == 1
    calls.go.set()
    assert await asyncio.gather(running, *waiting) == [0, 2, 4, 6]
    assert await lane(5) == 10


async def test_patience_ends() -> None:
    """Whoever waited for too long is refused, and never sent; whoever came later is served."""
    calls = Calls()
    calls.go.clear()
    lane = Lane(calls.run, calls_max=1, patience_s=0.2)
    running = asyncio.create_task(lane(0))
    await turn()
    with pytest.raises(Unavailable):
        await lane(1)
    later = asyncio.create_task(lane(2))
    await turn()
    calls.go.set()
    assert [await running, await later] == [0, 4]
    assert calls.batches == [[0], [2]]


async def test_patience_is_each_ones_own() -> None:
    """Also of those who were left over because they share no batch."""
    calls = Calls()
    calls.go.clear()
    lane = Lane(calls.run, calls_max=1, patience_s=0.2, apart=lambda _: ("all",))
    waiters = [asyncio.create_task(lane(n)) for n in range(3)]
    await free(calls)
    results = await asyncio.gather(*waiters, return_exceptions=True)
    assert results[0] == 0
    assert [type(result) for result in results[1:]] == [Unavailable] * 2
    assert len(calls.batches) == 1


async def test_long_queue_that_moves() -> None:
    """Nobody is refused while calls end in time, however long that takes for all of them."""
    calls = Calls()

    async def run(items: list[int]) -> Sequence[int | Exception]:
        await asyncio.sleep(0.02)
        return await calls.run(items)

    lane = Lane(run, calls_max=1, batch_max=1, patience_s=0.3)
    assert await asyncio.gather(*map(lane, range(20, 50))) == [n * 2 for n in range(20, 50)]


async def free(calls: Calls) -> None:
    """Let the call end after everybody's patience has."""
    await asyncio.sleep(0.5)
    calls.go.set()


async def test_endless_patience() -> None:
    """Some lanes refuse nobody."""
    calls = Calls()
    calls.go.clear()
    lane = Lane(calls.run, calls_max=1, patience_s=math.inf)
    waiters = [asyncio.create_task(lane(n)) for n in range(3)]
    await free(calls)
    assert await asyncio.gather(*waiters) == [0, 2, 4]


async def test_wrong_number_of_results() -> None:
    """A call that answers too few fails, rather than leave someone waiting for ever."""

    async def run(items: list[int]) -> list[int]:
        return items[:-1]

    lane = Lane(run)
    async with asyncio.timeout(2):
        results = await asyncio.gather(*map(lane, [1, 2]), return_exceptions=True)
    assert isinstance(results[1], Exception)
