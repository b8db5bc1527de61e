"""Batching where requests meet.

Most of a call's cost is the client library's, not the server's, and one call can carry many
requests. A lane runs whatever requests wait at this moment as one call. There is no timer: an
idle lane starts at once, and while its calls run, the next batch gathers.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Iterable, Sequence
from contextvars import Context, copy_context
from typing import Any, Generic, TypeVar

from seatsvc import patience
from seatsvc.errors import Unavailable

Item = TypeVar("Item")
Result = TypeVar("Result")
CROWDED = "Too many requests wait already. Try again in a moment."


class Lane(Generic[Item, Result]):
    """Calls `run` with the items that wait, in order; `run` returns one result for each.

    A result that is an exception is raised for its own item only; if `run` itself raises, all
    items of that batch fail with it. Whoever is cancelled while waiting cancels nobody else.
    A batch runs in the context of who has been waiting longest: its logs and its trace are theirs.
    Items for which `apart` names something in common never share a batch.
    Whoever has waited longer than a request may is refused, unless the lane is patient.
    """

    def __init__(
        self,
        run: Callable[[list[Item]], Awaitable[Sequence[Result | Exception]]],
        *,
        calls_max: int = 2,
        batch_max: int = 64,
        waiting_max: int = 2000,
        patient: bool = False,
        apart: Callable[[Item], Iterable[Hashable]] = lambda _: (),
    ) -> None:
        self._run = run
        self._calls_max = calls_max
        self._batch_max = batch_max
        self._waiting_max = waiting_max
        self._patient = patient
        self._apart = apart
        self._waiting: deque[tuple[Item, asyncio.Future[Result], Context]] = deque()
        self._calls = 0
        self._tasks: set[asyncio.Task[None]] = set()  # so that none is collected while it runs

    async def __call__(self, item: Item) -> Result:
        """Ride the next batch.

        Raises Unavailable when too many wait already, or for too long.
        """
        if len(self._waiting) >= self._waiting_max and not self._patient:
            raise Unavailable(CROWDED)
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future, copy_context()))
        if self._calls < self._calls_max:
            self._calls += 1
            self._begin()
        return await future

    def __len__(self) -> int:
        """How many wait for a batch."""
        return len(self._waiting)

    async def finish(self) -> None:
        """Let what was begun end."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    def _begin(self) -> None:
        task = asyncio.create_task(self._drain(), context=self._waiting[0][2])
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
            if going_on:
                self._begin()
            else:
                self._calls -= 1

    def _next_batch(self) -> list[tuple[Item, asyncio.Future[Result]]]:
        batch: list[tuple[Item, asyncio.Future[Result]]] = []
        later: list[tuple[Item, asyncio.Future[Result], Context]] = []
        named: set[Hashable] = set()
        while self._waiting and len(batch) < self._batch_max:
            waiting = self._waiting.popleft()
            if patience.is_over(waiting[2]) and not self._patient:
                _refuse(waiting[1])
                continue
            names = set(self._apart(waiting[0]))
            if named.isdisjoint(names):
                batch.append(waiting[:2])
                named |= names
            else:
                later.append(waiting)
        self._waiting.extendleft(reversed(later))
        return batch

    async def _call(self, batch: list[tuple[Item, asyncio.Future[Result]]]) -> None:
        results: Sequence[Result | Exception]
        try:
            results = await self._run([item for item, _ in batch])
            if len(results) != len(batch):
                raise RuntimeError(f"{len(results)} results for {len(batch)} items")
        except asyncio.CancelledError:
            for _, future in batch:
                future.cancel()
            raise
        except Exception as error:
            results = [error] * len(batch)
        for (_, future), result in zip(batch, results, strict=True):
            if future.done():
                continue
            if isinstance(result, Exception):
                future.set_exception(result)
            else:
                future.set_result(result)


def _refuse(future: asyncio.Future[Any]) -> None:
    if not future.done():
        future.set_exception(Unavailable(CROWDED))
