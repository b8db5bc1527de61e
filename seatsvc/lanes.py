"""Batching where requests meet.

Most of a call's cost is the client library's, not the server's, and one call can carry many
requests. A lane runs whatever requests wait at this moment as one call. There is no timer: an
idle lane starts at once, and while its calls run, the next batch gathers.
"""

import asyncio
import math
from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Iterable, Sequence
from typing import Generic, TypeVar

from seatsvc.errors import Unavailable

# With what a batch may then take, the answer comes within three seconds.
PATIENCE_S = 0.7

Item = TypeVar("Item")
Result = TypeVar("Result")
# What waits, who waits for it, and until when.
_Waiting = tuple[Item, asyncio.Future[Result], float]


class Lane(Generic[Item, Result]):
    """Calls `run` with the items that wait, in order; `run` returns one result for each.

    A result that is an exception is raised for its own item only; if `run` itself raises, all
    items of that batch fail with it. Whoever is cancelled while waiting cancels nobody else.
    Items for which `apart` names something in common never share a batch. When no call
    has ended in that time, whoever waits for `patience_s` is told to come again; it was never sent.
    """

    def __init__(
        self,
        run: Callable[[list[Item]], Awaitable[Sequence[Result | Exception]]],
        *,
        calls_max: int = 2,
        batch_max: int = 64,
        waiting_max: int = 2000,
        patience_s: float = PATIENCE_S,
        apart: Callable[[Item], Iterable[Hashable]] = lambda _: (),
    ) -> None:
        self._run = run
        self._calls_max = calls_max
        self._batch_max = batch_max
        self._waiting_max = waiting_max
        self._patience_s = patience_s
        self._apart = apart
        self._waiting: deque[_Waiting[Item, Result]] = deque()  # in the order of their deadlines
        self._alarm: asyncio.TimerHandle | None = None
        self._patient_until = 0.0  # so long as calls end in time, it is only a long queue
        self._calls = 0
        self._tasks: set[asyncio.Task[None]] = set()  # so that none is collected while it runs

    async def __call__(self, item: Item) -> Result:
        """Ride the next batch.

        Raises Unavailable when too many wait already, or this one has waited for too long.
        """
        if len(self._waiting) >= self._waiting_max:
            raise Unavailable("Too many requests wait already. Try again in a moment.")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Result] = loop.create_future()
        self._waiting.append((item, future, loop.time() + self._patience_s))
        if self._calls < self._calls_max:
            self._calls += 1
            task = asyncio.create_task(self._drain())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        if self._alarm is None:
            self._set_alarm()
        return await future

    def __len__(self) -> int:
        """How many wait for a batch."""
        return len(self._waiting)

    async def finish(self) -> None:
        """Let what was begun end."""
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _set_alarm(self) -> None:
        """For whoever waits longest: one alarm for all, so that patience costs nothing."""
        self._alarm = None
        if self._waiting and self._patience_s < math.inf:
            due_at = max(self._waiting[0][2], self._patient_until)
            self._alarm = asyncio.get_running_loop().call_at(due_at, self._refuse_late)

    def _refuse_late(self) -> None:
        now = asyncio.get_running_loop().time()
        while self._waiting and max(self._waiting[0][2], self._patient_until) <= now:
            _, future, _ = self._waiting.popleft()
            if not future.done():
                future.set_exception(Unavailable("This takes too long. Try again in a moment."))
        self._set_alarm()

    async def _drain(self) -> None:
        try:
            while self._waiting:
                await self._call(self._next_batch())
        finally:
            # In the same breath as the last look: a task that is as good as done starts no batch.
            self._calls -= 1

    def _next_batch(self) -> list[_Waiting[Item, Result]]:
        batch: list[_Waiting[Item, Result]] = []
        later: list[_Waiting[Item, Result]] = []
        named: set[Hashable] = set()
        while self._waiting and len(batch) < self._batch_max:
            waiting = self._waiting.popleft()
            names = set(self._apart(waiting[0]))
            if named.isdisjoint(names):
                batch.append(waiting)
                named |= names
            else:
                later.append(waiting)
        self._waiting.extendleft(reversed(later))
        return batch

    async def _call(self, batch: list[_Waiting[Item, Result]]) -> None:
        results: Sequence[Result | Exception]
        loop = asyncio.get_running_loop()
        late_at = loop.time() + self._patience_s
        try:
            results = await self._run([item for item, _, _ in batch])
            if len(results) != len(batch):
                raise RuntimeError(f"{len(results)} results for {len(batch)} items")
        except asyncio.CancelledError:
            for _, future, _ in batch:
                future.cancel()
            raise
        except Exception as error:
            results = [error] * len(batch)
        if loop.time() < late_at:
            self._patient_until = loop.time() + self._patience_s
        for (_, future, _), result in zip(batch, results, strict=True):
            if future.done():
                continue
            if isinstance(result, Exception):
                future.set_exception(result)
            else:
                future.set_result(result)
