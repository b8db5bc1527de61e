"""A request's trace, as W3C's Trace Context carries it, and colours for those who watch."""

import json
import logging
import os
import pty
import subprocess
import sys
from io import StringIO

import pytest

from seatsvc.telemetry import JsonLines, PlainLines, Trace, trace
from tests.conftest import Service, until
from tests.connection import connected

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
VALID = f"00-{TRACE}-{PARENT}-01"
INVALID = [
    "", "junk", VALID[:-1], f"{VALID}0", f"{VALID}-more", f"-{VALID}", VALID.upper(),
    f"ff-{TRACE}-{PARENT}-01", f"0-{TRACE}-{PARENT}-01", f"0x-{TRACE}-{PARENT}-01",
    f"00-{'0' * 32}-{PARENT}-01", f"00-{TRACE}-{'0' * 16}-01", f"00-{TRACE[:-1]}g-{PARENT}-01",
    f"00-{TRACE}-{PARENT}-0G", f"00-{TRACE}-{PARENT}", f"01-{TRACE}-{PARENT}-01x",
    f"00_{TRACE}_{PARENT}_01", f"{VALID},{VALID}",
]  # fmt: skip
WAIT_S = 30


async def requests_in(log: StringIO, count: int = 1) -> list[dict[str, str]]:
    """The lines of so many requests; each is written after its answer."""

    def found() -> list[dict[str, str]]:
        lines = [json.loads(each) for each in log.getvalue().splitlines()]
        return [each for each in lines if each["message"] == "request"]

    async def written() -> bool:
        return len(found()) >= count

    await until(written)
    return found()


async def line(service: Service, log: StringIO, path: str = "/livez", **headers: str) -> object:
    """What the log says of one request."""
    log.truncate(log.seek(0))
    await service.client.get(path, headers=headers)
    [found] = await requests_in(log)
    return found.get("trace_id"), found.get("parent_id")


@pytest.mark.parametrize(
    "value", [VALID, f"00-{TRACE}-{PARENT}-ff", f"cc-{TRACE}-{PARENT}-00-what.ever"]
)
async def test_valid_ones_are_logged(shared: Service, log: StringIO, value: str) -> None:
    """Also of versions to come. Both ways through the service lead past the same edge."""
    assert await line(shared, log, traceparent=value) == (TRACE, PARENT)
    assert await line(shared, log, "/seats", traceparent=value) == (TRACE, PARENT)


@pytest.mark.parametrize("value", INVALID)
async def test_invalid_ones_are_ignored(shared: Service, log: StringIO, value: str) -> None:
    """As if there were none; the request is served."""
    assert await line(shared, log, traceparent=value) == (None, None)


async def test_a_state_alone_or_two_parents(shared: Service, log: StringIO) -> None:
    """Are no trace."""
    assert await line(shared, log, tracestate="vendor=1") == (None, None)
    async with connected(shared.url) as wire:
        log.truncate(log.seek(0))
        await wire.send(b"GET /livez HTTP/1.1\r\nHost: x\r\n")
        await wire.send(f"traceparent: {VALID}\r\n".encode() * 2 + b"\r\n")
        assert (await wire.answer()).status == 200
    [found] = await requests_in(log)
    assert "trace_id" not in found


async def test_the_next_request_has_its_own(shared: Service, log: StringIO) -> None:
    """On one connection, the second sent before the first was answered."""
    head = b"GET /livez HTTP/1.1\r\nHost: x\r\n"
    async with connected(shared.url) as wire:
        await wire.send(head + f"traceparent: {VALID}\r\n\r\n".encode() + head + b"\r\n")
        for _ in range(2):
            assert (await wire.answer()).status == 200
    first, second = await requests_in(log, 2)
    assert (first["trace_id"], "trace_id" in second) == (TRACE, False)


async def test_every_line_meanwhile(service: Service, log: StringIO) -> None:
    """What went wrong is found by the trace, too."""
    await service.sql("drop table users cascade")
    sent = {"username": "alice", "password": "correct horse battery"}
    answer = await service.client.post("/auth/login", json=sent, headers={"traceparent": VALID})
    assert answer.status_code == 500
    await requests_in(log)
    lines = [json.loads(each) for each in log.getvalue().splitlines()]
    told = [each for each in lines if each["message"] in ("unexpected error", "request")]
    assert {(each["trace_id"], each["parent_id"]) for each in told} == {(TRACE, PARENT)}
    assert len(told) == 2


def test_a_trace_that_began_here() -> None:
    """Has no parent."""
    before = trace.set(Trace(TRACE, ""))
    record = logging.LogRecord("x", logging.INFO, __file__, 1, "done", (), None)
    told = json.loads(JsonLines().format(record))
    trace.reset(before)
    assert (told["trace_id"], "parent_id" in told) == (TRACE, False)


@pytest.mark.parametrize(
    ("status", "color"), [(200, 32), (304, 36), (409, 33), (500, 31), (100, None)]
)
def test_colors_of_statuses(status: int, color: int | None) -> None:
    """Green, cyan, yellow, red; none where none are wanted."""
    expected = f"\x1b[{color}m{status}\x1b[0m" if color else str(status)
    assert PlainLines(colored=True).status(status) == expected
    assert PlainLines().status(status) == str(status)


# What a process does that logs a warning and serves one request badly.
SAYS = (
    "import logging; from seatsvc import telemetry; telemetry.configure_logging();"
    "logging.getLogger('x').warning('careful');"
    "telemetry.log_request('GET', '/seats', 503, 0.001, None)"
)


def said(terminal: bool, **variables: str) -> str:
    """It, on a terminal or into a pipe."""
    mine, its = pty.openpty() if terminal else os.pipe()
    kept = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "TERM")}
    with subprocess.Popen(
        [sys.executable, "-c", SAYS], env=kept | variables, stdout=its
    ) as process:
        assert process.wait(WAIT_S) == 0
    text = os.read(mine, 65536).decode()
    os.close(mine)
    os.close(its)
    return text


def test_colors_on_a_terminal() -> None:
    """The level's and the status'."""
    text = said(True, TERM="xterm-256color", NO_COLOR="")
    assert "\x1b[33mwarning\x1b[0m careful" in text
    assert "GET /seats \x1b[31m503\x1b[0m" in text


@pytest.mark.parametrize("variables", [{"TERM": "xterm", "NO_COLOR": "1"}, {"TERM": "dumb"}, {}])
def test_no_colors_where_none_are_wanted(variables: dict[str, str]) -> None:
    """Lines for people all the same."""
    text = said(True, **variables)
    assert "warning careful" in text
    assert "GET /seats 503" in text
    assert "\x1b" not in text


def test_no_terminal() -> None:
    """JSON, whatever the variables say."""
    first, second = said(False, TERM="xterm-256color").splitlines()
    assert json.loads(first)["message"] == "careful"
    assert json.loads(second)["status"] == 503
