"""Somebody who types into a shell all that a guide says."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing, suppress
from http.client import HTTPConnection
from pathlib import Path
from socket import create_server

from tests.documents import Block

SERVICE = re.compile(r"make run|seatsvc serve")
PASSWORD = re.compile(r"Admin: admin, password (\S+)")
READY = "is ready. Stop it with Ctrl-C"
START_S, BLOCK_S, STOP_S, POLL_S = 240, 90, 20, 0.02
# The same with less of it: how many there are is of no matter here.
SMALLER = {
    "--organizer admin": "--organizer admin --seats 60",
    "--users 200": "--users 4",
    "--users 50": "--users 4",
    "--connections 2000": "--connections 50",
}
# Without standard input, or a command would read what is typed next.
TYPED = "{{ {text}\n}} </dev/null\necho; echo '{done}'\n"
DONE = "-- this block is done --"
# However this process ends, the service ends with it.
TOGETHER = """
import os, sys
from seatsvc.local import die_with_parent
die_with_parent()
os.execvp("bash", ["bash", "-ec", sys.argv[1]])
"""


class Process:
    """A program that runs, and what it has printed since it was last asked."""

    def __init__(self, command: list[str], folder: Path, env: dict[str, str], log: Path) -> None:
        with log.open("w") as output, log.with_suffix(".errors").open("w") as errors:
            self._popen = subprocess.Popen(
                command, cwd=folder, env=env, text=True, start_new_session=True,
                stdin=subprocess.PIPE, stdout=output, stderr=errors,
            )  # fmt: skip
        self._output, self._errors = log.open(), log.with_suffix(".errors").open()

    def type(self, text: str) -> None:
        """Into its standard input."""
        assert self._popen.stdin is not None
        self._popen.stdin.write(text)
        self._popen.stdin.flush()

    def printed(self) -> tuple[str, str]:
        """To standard output and to standard error."""
        return self._output.read(), self._errors.read()

    def hear(self, told: Callable[[str], bool], limit_s: float) -> tuple[str, str]:
        """What it prints until it has told what is waited for.

        Raises RuntimeError when it ends before, or when that takes too long.
        """
        output = errors = ""
        deadline = time.monotonic() + limit_s
        while not told(output):
            ended = self._popen.poll() is not None or time.monotonic() > deadline
            more, worse = self.printed()
            output, errors = output + more, errors + worse
            if ended and not told(output):
                raise RuntimeError(f"status {self._popen.poll()}\n{output}\n{errors}")
            time.sleep(POLL_S)
        return output, errors + self.printed()[1]

    def stop(self) -> None:
        """It, and all that it started in its session."""
        with suppress(ProcessLookupError):
            os.killpg(self._popen.pid, signal.SIGTERM)
        deadline = time.monotonic() + STOP_S
        while self._lives() and time.monotonic() < deadline:
            time.sleep(POLL_S)
        with suppress(ProcessLookupError):
            os.killpg(self._popen.pid, signal.SIGKILL)
        for file in (self._popen.stdin, self._output, self._errors):
            assert file is not None
            file.close()

    def _lives(self) -> bool:
        self._popen.poll()
        try:
            os.killpg(self._popen.pid, 0)
        except ProcessLookupError:
            return False
        return True


class Reader:
    """One shell for a whole guide; a service beside it, once the guide starts one.

    The service listens on a free port, and whatever is typed says so.
    """

    def __init__(self, checkout: Path, environment: dict[str, str], logs: Path) -> None:
        self._checkout = checkout
        self._environment = environment
        self._logs = logs
        self._port = _free_port()
        self._password = ""
        self._service: Process | None = None

    def __enter__(self) -> "Reader":
        self._shell = self._start(["bash", "-e", "-s"], "shell")
        return self

    def __exit__(self, *_: object) -> None:
        self._shell.stop()
        if self._service:
            self._service.stop()

    def type(self, block: Block) -> tuple[str, str]:
        """What the block's commands print, to standard output and to standard error.

        Raises RuntimeError when one of them fails, or none is heard of any more.
        """
        text = self._adapted(block)
        if SERVICE.search(text):
            self._serve(text)
            return "", ""
        self._shell.type(TYPED.format(text=text, done=DONE))
        output, errors = self._shell.hear(lambda output: DONE in output, BLOCK_S)
        return output.partition(DONE)[0], errors

    def _adapted(self, block: Block) -> str:
        text = block.text.strip()
        for much, little in SMALLER.items():
            text = text.replace(much, little)
        text = text.replace("8000", str(self._port)).replace("THE_PASSWORD", self._password)
        text = text.replace("make run", f"make run PORT={self._port}")
        text = text.replace("seatsvc serve", f"seatsvc serve --port {self._port}")
        url = f"http://127.0.0.1:{self._port}"
        text = text.replace('make load ARGS="', f'make load ARGS="--url {url} ')
        text = text.replace("make load", f"SEATSVC_LOAD_PASSWORD={self._password} make load")
        if block.language == "sql":
            return f'psql "$DATABASE_URL" -q -v ON_ERROR_STOP=1 -c "{text}"'
        return text

    def _start(self, command: list[str], name: str) -> Process:
        return Process(command, self._checkout, self._environment, self._logs / name)

    def _serve(self, text: str) -> None:
        """Instead of the service that runs, if any. It goes on until the guide ends."""
        if self._service:
            self._service.stop()
        self._service = self._start([sys.executable, "-c", TOGETHER, text], "service")
        # The screen that says it is ready is what a reader waits for; `serve` shows none.
        on_screen = "make run" in text
        output, _ = self._service.hear(
            lambda output: READY in output if on_screen else _is_ready(self._port), START_S
        )
        if found := PASSWORD.search(output):
            self._password = found[1]


def _is_ready(port: int) -> bool:
    with closing(HTTPConnection("127.0.0.1", port, timeout=5)) as connection, suppress(OSError):
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    return False


def _free_port() -> int:
    with create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])
