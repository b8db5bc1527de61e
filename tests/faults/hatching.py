"""Workers that are there again in no time, for tests that kill many."""

import asyncio
import os
import signal
import subprocess
import sys
from dataclasses import dataclass, field

from seatsvc import local
from tests.faults.stage import STOP_S, Worker


@dataclass
class Hatched(Worker):
    """A worker that a nest forks; see nest.py."""

    nest: local.Process | None = field(init=False, default=None)
    pid: int = field(init=False, default=0)

    def start(self) -> None:
        """Begin; it answers a little later."""
        self.nest = self.nest or self._build()
        self.pid = int(self._ask("start"))

    @property
    def ended(self) -> bool:
        """It runs no more."""
        return self.pid == 0

    def kill(self) -> None:
        """At once."""
        os.kill(self.pid, signal.SIGKILL)
        self._ask(f"wait {self.pid}")
        self.pid = 0

    async def stop(self) -> float:
        """Ask it to end, and its nest; the seconds that it took."""
        loop = asyncio.get_running_loop()
        started_at = loop.time()
        if not self.ended:
            os.kill(self.pid, signal.SIGTERM)
            await asyncio.to_thread(self._ask, f"wait {self.pid}")
        if self.nest is not None:
            self.nest.terminate()
            await asyncio.to_thread(self.nest.communicate, timeout=STOP_S)
        return loop.time() - started_at

    def _build(self) -> local.Process:
        command = [sys.executable, "-m", "tests.faults.nest", "--port", str(self.port)]
        with self._log.open("ab") as output:
            return subprocess.Popen(
                [*command, *self.options],
                env=self.environment,
                cwd=self.folder,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=output,
                start_new_session=True,
                preexec_fn=local.die_with_parent,
            )

    def _ask(self, line: str) -> bytes:
        assert self.nest is not None
        assert self.nest.stdin is not None
        assert self.nest.stdout is not None
        self.nest.stdin.write(f"{line}\n".encode())
        self.nest.stdin.flush()
        return self.nest.stdout.readline()
