"""Batching where requests meet.

Most of a call's cost is the client library's, not the server's, and one call can carry many
requests. A lane runs whatever requests wait at this moment as one call. An idle lane starts at
once, and while its calls run, the next batch gathers.
"""

import asyncio
import math
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Hashable, Sequence
from contextvars import Context, copy_context
from dataclasses import dataclass
from typing import Generic, TypeVar

from seatsvc import patience
from seatsvc.errors import Unavailable

# With what a batch may then take, the answer comes within three seconds.
PATIENCE_S = 0.7
SOON_S = 0.025  # how long fewer than `crowd` wait for others
CROWDED = "Too many requests wait already. Try again in a moment."

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(slots=True)
class _Waiting(Generic[Item, Result]):
    """What waits, who waits for it, in which context, and since when."""

    item: Item
    future: asyncio.Future[Result]
    context: Context
    since: float

    def refuse(self) -> None:
        """It was never sent."""
        if not self.future.done():
            self.future.set_exception(Unavailable(CROWDED))


class Lane(Generic[Item, Result]):
    """Calls `run` with the items that wait, in order; `run` returns one result for each.

    A result that is an exception is raised for its own item only; if `run` itself raises, all
    items of that batch fail with it. Whoever is cancelled while waiting cancels nobody else.
    A batch runs in the context of who has been waiting longest: its logs and its trace are theirs.
    Items for which `apart` names something in common never share a batch.
    Beside a call under way another one begins for a `crowd` that waits, or once someone has waited
    for 25 ms: small batches take more from everybody than they save who is in them. In an
    `unhurried` lane the same holds for the next call, while many requests wait for answers.
    Refused is whoever has waited longer than a request may, and whoever waits for `patience_s` in
    which no batch has ended; with endless patience nobody.
    """

    def __init__(
        self,
        run: Callable[[list[Item]], Awaitable[Sequence[Result | Exception]]],
        *,
        calls_max: int = 2,
        batch_max: int = 64,
        crowd: int = 1,
        unhurried: bool = False,
        waiting_max: int = 2000,
        patience_s: float = PATIENCE_S,
        apart: Callable[[Item], Collection[Hashable]] = lambda _: (),
    ) -> None:
        self._run = run
        self._calls_max = calls_max
        self._batch_max = batch_max
        self._crowd = crowd
        self._unhurried = unhurried
        self._waiting_max = math.inf if patience_s == math.inf else waiting_max
        self._patience_s = patience_s
        self._apart = apart
        self._waiting: deque[_Waiting[Item, Result]] = deque()  # in the order of their coming
        self._alarm: asyncio.TimerHandle | None = None
        self._soon: asyncio.TimerHandle | None = None
        self._patient_until = 0.0  # so long as calls end in time, it is only a long queue
        self._calls = 0
        self._tasks: set[asyncio.Task[None]] = set()  # so that none is collected while it runs

    async def __call__(self, item: Item) -> Result:
        """Ride the next batch.

        Raises Unavailable when too many wait already, or this one has waited for too long.
        """
        if len(self._waiting) >= self._waiting_max:
            raise Unavailable(CROWDED)
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Result] = loop.create_future()
        self._waiting.append(_Waiting(item, future, copy_context(), loop.time()))
        alone = self._calls == 0 and len(self._waiting) == 1
        if alone or len(self._waiting) >= self._crowd:
            self._begin_another()
        elif self._soon is None:
            self._soon = loop.call_later(SOON_S, self._begin_another)
        if self._alarm is None:
            self._set_alarm()
        return await future

    def __len__(self) -> int:
        """How many wait for a batch."""
        return len(self._waiting)

    async def finish(self) -> None:
        """Let what was begun end."""
        while self._waiting or self._tasks:
            self._begin_another()
            await asyncio.wait(self._tasks)

    def _set_alarm(self) -> None:
        """For whoever waits longest: one alarm for all, so that patience costs nothing."""
        self._alarm = None
        if self._waiting and self._patience_s < math.inf:
            self._alarm = asyncio.get_running_loop().call_at(self._late_at(), self._refuse_late)

    def _refuse_late(self) -> None:
        now = asyncio.get_running_loop().time()
        while self._waiting and self._late_at() <= now:
            self._waiting.popleft().refuse()
        self._set_alarm()

    def _late_at(self) -> float:
        return max(self._waiting[0].since + self._patience_s, self._patient_until)

    def _begin_another(self) -> None:
        if self._soon is not None:
            self._soon.cancel()
            self._soon = None
        if self._waiting and self._calls < self._calls_max:
            self._calls += 1
            self._begin()

    def _begin(self) -> None:
        task = asyncio.create_task(self._drain(), context=self._waiting[0].context)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _drain(self) -> None:
        going_on = False
        try:
            batch = self._next_batch()
            patience.lift()  # only now: this is the context of one of them
            if batch:
                await self._call(batch)
            going_on = bool(self._waiting)
        finally:
            # In the same breath as the last look: a task that is as good as done starts no batch.
            if going_on and not self._lingers():
                self._begin()
            else:
                self._calls -= 1

    def _lingers(self) -> bool:
        few = len(self._waiting) < self._crowd
        soon_at = self._waiting[0].since + SOON_S
        loop = asyncio.get_running_loop()
        if not (self._unhurried and few and patience.crowded()) or soon_at <= loop.time():
            return False
        if self._soon is not None:
            self._soon.cancel()
        self._soon = loop.call_at(soon_at, self._begin_another)
        return True

    def _next_batch(self) -> list[_Waiting[Item, Result]]:
        batch: list[_Waiting[Item, Result]] = []
        later: list[_Waiting[Item, Result]] = []
        named: set[Hashable] = set()
        while self._waiting and len(batch) < self._batch_max:
            waiting = self._waiting.popleft()
            if self._patience_s < math.inf and patience.is_over(waiting.context):
                waiting.refuse()
                continue
            names = self._apart(waiting.item)
            if named.isdisjoint(names):
                batch.append(waiting)
                named.update(names)
            else:
                later.append(waiting)
        self._waiting.extendleft(reversed(later))
        return batch

    async def _call(self, batch: list[_Waiting[Item, Result]]) -> None:
        results: Sequence[Result | Exception]
        loop = asyncio.get_running_loop()
        late_at = loop.time() + self._patience_s
        try:
            results = await self._run([waiting.item for waiting in batch])
            if len(results) != len(batch):
                raise RuntimeError(f"{len(results)} results for {len(batch)} items")
        except asyncio.CancelledError:
            for waiting in batch:
                waiting.future.cancel()
            raise
        except Exception as error:
            results = [error] * len(batch)
        if loop.time() < late_at:
            self._patient_until = loop.time() + self._patience_s
        for waiting, result in zip(batch, results, strict=True):
            if waiting.future.done():
                continue
            if isinstance(result, Exception):
                waiting.future.set_exception(result)
            else:
                waiting.future.set_result(result)
