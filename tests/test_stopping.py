"""Told to stop under load: who was heard is answered, and nobody waits long."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from itertools import cycle
from pathlib import Path

import httpx
import pytest

from seatsvc.settings import Settings
from tests.conftest import Person, Service, until
from tests.test_races_workers import client_of, environment

EXIT_S = 10
DRAIN_MS = 1500
CLIENTS, WATCHERS = 16, 4


@contextmanager
def process(settings: Settings, folder: Path, port: int, *options: str) -> Iterator[int]:
    """A service of its own; its process id."""
    with (folder / "serve.log").open("wb") as log:
        running = subprocess.Popen(
            [sys.executable, "-m", "seatsvc", "serve", "--port", str(port), *options],
            env=os.environ | environment(settings) | {"SEATSVC_DRAIN_MS": str(DRAIN_MS)},
            cwd=folder, stdout=log, stderr=log,
        )  # fmt: skip
    try:
        yield running.pid
        assert running.wait(EXIT_S) in (0, -signal.SIGTERM)
    finally:
        running.kill()
        running.wait()


async def ask_on(
    client: httpx.AsyncClient, person: Person, answers: list[int], broken: list[str]
) -> None:
    """Look and book, as a proxy does: over a kept connection, until an answer closes it."""
    try:
        for seat in cycle(range(1, 81)):
            answer = await client.get("/seats")
            if answer.headers.get("connection") != "close":
                answers.append(answer.status_code)
                answer = await client.post(
                    "/bookings", json={"seat_id": seat}, headers=person.headers
                )
            answers.append(answer.status_code)
            if answer.headers.get("connection") == "close":
                return
    except httpx.TransportError as error:
        broken.append(repr(error))


async def watch(client: httpx.AsyncClient, ended: list[int], broken: list[str]) -> None:
    """Watch until the stream ends; an incomplete body would raise."""
    try:
        async with client.stream("GET", "/events/1/stream") as answer:
            async for _ in answer.aiter_lines():
                pass
            ended.append(answer.status_code)
    except httpx.TransportError as error:
        broken.append(repr(error))


async def busy(answers: list[int]) -> bool:
    """Everybody was answered more than once."""
    return len(answers) > 3 * CLIENTS


async def turned_away(url: str) -> bool:
    """Not ready any more, though still serving; connections end with their answers."""
    async with httpx.AsyncClient(base_url=url) as other:
        # At once, since a connection of its own for the second could come after the end.
        ready, alive = await asyncio.gather(other.get("/readyz"), other.get("/livez"))
        assert alive.status_code == 200
        if ready.status_code == 200:
            return False
        assert (ready.status_code, ready.headers["connection"]) == (503, "close")
        return True


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize("times", [1, pytest.param(20, marks=pytest.mark.slow)])
async def test_accepted_requests_are_answered(
    service: Service, tmp_path: Path, unused_tcp_port: int, workers: str, times: int
) -> None:
    """/readyz turns 503 first; then connections end between two requests, and streams whole."""
    url = f"http://127.0.0.1:{unused_tcp_port}"
    persons = await service.sign_up_many(CLIENTS)
    for _ in range(times):
        answers: list[int] = []
        ended: list[int] = []
        broken: list[str] = []
        with process(service.settings, tmp_path, unused_tcp_port, "--workers", workers) as pid:
            async with client_of(url) as client:
                asking = [
                    asyncio.create_task(ask_on(client, person, answers, broken))
                    for person in persons
                ]
                watching = [
                    asyncio.create_task(watch(client, ended, broken)) for _ in range(WATCHERS)
                ]
                await until(partial(busy, answers), 30)
                os.kill(pid, signal.SIGTERM)
                stopped_at = time.monotonic()
                await until(partial(turned_away, url))
                await asyncio.gather(*asking, *watching)
                assert time.monotonic() - stopped_at < EXIT_S
        assert broken == []
        assert set(answers) <= {200, 201, 409}
        assert ended == [200] * WATCHERS
