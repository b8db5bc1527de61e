"""Too many at once: who is refused, and when it ends."""

import asyncio
import math
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from starlette.types import Message, Receive, Scope, Send

from seatsvc import patience
from seatsvc.api import crowd
from seatsvc.errors import Unavailable
from seatsvc.lanes import Lane

LIMIT_S = 10


class House:
    """An app behind its `Crowd`, which answers when it is let."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.bodies = asyncio.Event()
        self.bodies.set()
        self.app = crowd.Crowd(self._app)

    async def _app(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/stream":
            await send({"type": "http.response.start", "status": 200})
        if scope["method"] == "POST":
            while (await receive()).get("more_body"):
                pass
        await self.open.wait()
        if scope["path"] != "/stream":
            await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body"})

    async def ask(self, path: str = "/seats", method: str = "GET") -> int:
        """The status; what the test's end leaves without one is nobody's matter."""
        heads: list[Message] = []

        async def send(message: Message) -> None:
            if message["type"] == "http.response.start":
                heads.append(message)

        await self.app({"type": "http", "path": path, "method": method}, self._hear, send)
        [head] = heads
        if head["status"] == 503:
            assert dict(head["headers"])[b"retry-after"] == b"1"
        return int(head["status"])

    async def _hear(self) -> Message:
        await self.bodies.wait()
        return {"type": "http.request", "body": b"{}"}

    @asynccontextmanager
    async def asking(
        self, count: int, path: str = "/seats", method: str = "GET"
    ) -> AsyncIterator[Counter[int]]:
        """So many wait for their answers inside the block, and have them after it."""
        statuses: Counter[int] = Counter()
        async with asyncio.timeout(LIMIT_S), asyncio.TaskGroup() as group:
            tasks = [group.create_task(self.ask(path, method)) for _ in range(count)]
            await asyncio.sleep(0)
            yield statuses
            self.open.set()
        statuses.update(task.result() for task in tasks)
        self.open.clear()


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few are many."""
    monkeypatch.setattr(patience, "FEW", 5)
    for name, value in {"MANY": 20, "PAUSE_S": 0.01, "CALM_S": 0.2}.items():
        monkeypatch.setattr(crowd, name, value)


async def test_the_surplus_is_refused() -> None:
    """All that are few enough are answered, however often there were too many before."""
    house = House()
    for _ in range(3):
        async with house.asking(30) as statuses:
            pass
        assert statuses == {200: 20, 503: 10}
    async with house.asking(20) as statuses:
        pass
    assert statuses == {200: 20}


async def test_probes_are_answered() -> None:
    """Nobody must take a busy process for a dead one."""
    house = House()
    async with house.asking(25), house.asking(4, "/livez") as statuses:
        pass
    assert statuses == {200: 4}


async def test_bodies_that_do_not_come() -> None:
    """Slow clients keep nobody out; with their bodies they are a crowd as any other."""
    house = House()
    house.bodies.clear()
    async with house.asking(40, method="POST") as slow_ones:
        async with house.asking(20) as others:
            pass
        house.bodies.set()
        house.open.set()
    assert (slow_ones, others) == ({200: 40}, {200: 20})
    async with house.asking(30, method="POST") as statuses:
        pass
    assert statuses == {200: 20, 503: 10}


async def test_late_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without Redis each is late on purpose: that is no reason to refuse others."""
    house = House()
    monkeypatch.setattr(crowd, "LATE_S", -1)
    for _ in range(2):
        async with house.asking(20, method="POST") as statuses:
            pass
        assert statuses == {200: 20}


async def test_streams_wait_for_nothing() -> None:
    """Once they began, they are no part of the crowd."""
    house = House()
    async with house.asking(40, "/stream") as streams:
        async with house.asking(20) as others:
            pass
        house.open.set()
    assert (streams, others) == ({200: 40}, {200: 20})


async def test_while_answers_are_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few are let in, until there is calm. A login is late because of its hash."""
    house = House()
    monkeypatch.setattr(crowd, "LATE_S", -1)
    async with house.asking(1, "/auth/login", "POST"):
        pass
    async with house.asking(20) as statuses:
        pass
    assert statuses == {200: 20}
    async with house.asking(20) as statuses:
        pass
    assert statuses == {200: 5, 503: 15}
    monkeypatch.setattr(crowd, "LATE_S", 1)
    await asyncio.sleep(0.3)
    async with house.asking(20) as statuses:
        pass
    assert statuses == {200: 20}


async def test_an_app_that_fails_is_no_crowd() -> None:
    """Who was never answered is not waited for."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise ZeroDivisionError

    house = House()
    house.app = crowd.Crowd(app)
    for _ in range(30):
        with pytest.raises(ZeroDivisionError):
            await house.ask()
    house.app._app = house._app
    house.open.set()
    assert await house.ask() == 200


async def slow(items: list[int]) -> list[int]:
    """A call that takes its time."""
    await asyncio.sleep(0.05)
    return items


@pytest.mark.parametrize("patience_s", [1, math.inf])
async def test_who_waits_too_long_for_a_batch(
    monkeypatch: pytest.MonkeyPatch, patience_s: float
) -> None:
    """Is refused where the lane may refuse; those who came later are served."""
    monkeypatch.setattr(patience, "TURN_S", 0.03)
    lane = Lane(slow, calls_max=1, batch_max=1, patience_s=patience_s)

    async def ask(item: int) -> int:
        patience.begin()
        return await lane(item)

    answers = await asyncio.gather(ask(1), ask(2), ask(3), return_exceptions=True)
    kinds = [type(answer) for answer in answers]
    assert kinds == ([int] * 3 if patience_s == math.inf else [int, Unavailable, Unavailable])
    assert await ask(4) == 4


async def test_a_batch_has_time_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """It serves many: the one that waited longest does not cut it short."""
    monkeypatch.setattr(patience, "TURN_S", 1)

    async def run(items: list[int]) -> list[float]:
        return [patience.turn_by(9.0) - asyncio.get_running_loop().time()] * len(items)

    patience.begin()
    assert patience.turn_by(9.0) - asyncio.get_running_loop().time() < 2
    assert await Lane(run)(1) > 8
    patience.lift()
