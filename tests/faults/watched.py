"""How late an event loop is: `python -m tests.faults.watched ARGUMENTS` serves, and writes it down.

`python -m tests.faults.watched idle SECONDS` does nothing but be woken, and prints the worst delay
in ms: what the machine itself costs.
"""

import asyncio
import json
import logging
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

import pytest

from seatsvc import app, cli

TICK_S = 0.010
NOTED_MS = 10.0
LINE = "the event loop was late"

log = logging.getLogger("tests.faults.watched")


async def late_ms() -> float:
    """Sleep for a moment; how much longer that took than it should."""
    loop = asyncio.get_running_loop()
    due_at = loop.time() + TICK_S
    await asyncio.sleep(TICK_S)
    return 1000 * (loop.time() - due_at)


async def watch() -> None:
    """Write down every delay that is worth it."""
    while True:
        if (late := await late_ms()) >= NOTED_MS:
            log.warning("%s by %.1f ms", LINE, late)


def install(patches: pytest.MonkeyPatch) -> None:
    """Have the service watch itself, as soon as it runs."""
    draining = app._draining

    @asynccontextmanager
    async def watched(state: Any) -> AsyncIterator[None]:
        async with draining(state):
            task = asyncio.create_task(watch())
            yield
            task.cancel()

    patches.setattr(app, "_draining", watched)


def latest_ms(text: str, since: float, until: float) -> float:
    """The worst delay that a worker's log tells of, of those in this stretch of time."""
    worst = NOTED_MS
    for line in text.splitlines():
        if LINE in line:
            entry = json.loads(line)
            at = datetime.fromisoformat(entry["time"]).timestamp()
            late = float(entry["message"].removeprefix(LINE).split()[1])
            worst = max(worst, late if since <= at <= until else 0)
    return worst


def idle(seconds: float) -> "subprocess.Popen[bytes]":
    """A process that is only woken, for so long."""
    command = [sys.executable, "-m", "tests.faults.watched", "idle", str(seconds)]
    return subprocess.Popen(command, stdout=subprocess.PIPE)


async def worst_ms(seconds: float) -> float:
    """The worst delay of an idle loop."""
    until = asyncio.get_running_loop().time() + seconds
    worst = 0.0
    while asyncio.get_running_loop().time() < until:
        worst = max(worst, await late_ms())
    return worst


def main() -> None:
    """Serve, or be idle."""
    if sys.argv[1] == "idle":
        print(asyncio.run(worst_ms(float(sys.argv[2]))))
        return
    install(pytest.MonkeyPatch())
    cli.main(["serve", *sys.argv[1:]])


if __name__ == "__main__":
    main()
