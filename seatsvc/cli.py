"""The command line: serve, local, migrate, create-admin, load."""

import argparse
import asyncio
import getpass
import os
import secrets
import signal
import socket
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

import uvicorn
from pydantic import SecretStr
from uvicorn.supervisors import Multiprocess

from seatsvc import __version__, app, load, local, metrics, settings, telemetry
from seatsvc.api.protocol import Protocol
from seatsvc.errors import ServiceError
from seatsvc.migrations import MigrationError
from seatsvc.settings import Settings, SettingsError

GRACE_S = 8
SECRET_BYTES = 48
SERVER_OPTIONS: dict[str, Any] = {
    "loop": "uvloop",
    "http": Protocol,
    "ws": "none",
    "log_config": None,
    "access_log": False,
    "server_header": False,
    # uvicorn would believe any neighbour's X-Forwarded-For. Whom to believe is a setting: app.py.
    "proxy_headers": False,
    "timeout_graceful_shutdown": GRACE_S,
}

SCREEN = """
seatsvc {version} is ready. Stop it with Ctrl-C; its data stays in {data}.

  Seat map           {url}/
  API documentation  {url}/docs
  Free seats         {url}/seats
  Health             {url}/health
{mails}{admin}
Register, log in, and book seat 1:

  curl -s {url}/auth/register -H 'Content-Type: application/json' -d '{user}'
  TOKEN=$(curl -s {url}/auth/login -H 'Content-Type: application/json' -d '{user}' | \
sed 's/.*"access_token":"\\([^"]*\\)".*/\\1/')
  curl -s {url}/bookings -H "Authorization: Bearer $TOKEN" \
-H 'Content-Type: application/json' -d '{{"seat_id": 1}}'
"""
USER = '{"username": "alice", "password": "correct horse battery"}'
FAILURES = (
    SettingsError, MigrationError, ServiceError, ValueError, local.LocalError, load.LoadError,
)  # fmt: skip


def main(argv: list[str] | None = None) -> None:
    """Run a command; exits with 2 and one line when it cannot be done."""
    arguments = _parser().parse_args(argv)
    try:
        arguments.run(arguments)
    except FAILURES as error:
        print(f"seatsvc: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="seatsvc",
        description="The seat reservation service.",
        epilog="Settings come from the environment or from a .env file: see README.md.",
    )
    parser.add_argument("--version", action="version", version=f"seatsvc {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_local(_command(commands, "local", run_local, LOCAL_HELP))
    _add_serve(_command(commands, "serve", run_serve, SERVE_HELP))
    _command(commands, "migrate", run_migrate, MIGRATE_HELP)
    admin = _command(commands, "create-admin", run_create_admin, ADMIN_HELP)
    admin.add_argument("--username", default="admin", help="default: admin")
    load.add_arguments(_command(commands, "load", load.run, LOAD_HELP))
    return parser


LOCAL_HELP = "run everything here: a PostgreSQL and a Redis of its own, and a demo event"
SERVE_HELP = "run the service on the servers that DATABASE_URL and REDIS_URL name"
MIGRATE_HELP = "bring the database at DATABASE_URL up to date, and end"
LOAD_HELP = "put a running service under load, and check from outside that it keeps its promises"
ADMIN_HELP = "create an admin; asks for the password, or takes SEATSVC_ADMIN_PASSWORD"


def _command(
    commands: Any, name: str, run: Callable[[argparse.Namespace], None], text: str
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(name, help=text, description=text + ".")
    parser.set_defaults(run=run)
    return parser


def _add_address(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (%(default)s)")
    parser.add_argument(
        "--port", type=int, default=8000, help="port; 0 takes a free one (%(default)s)"
    )


def _add_serve(parser: argparse.ArgumentParser) -> None:
    _add_address(parser)
    parser.add_argument("--workers", type=int, default=1, help="processes (%(default)s)")


def _add_local(parser: argparse.ArgumentParser) -> None:
    _add_address(parser)
    parser.add_argument(
        "--data", type=Path, default=Path(".local"), help="where the data lives (%(default)s)"
    )
    parser.add_argument("--no-demo", action="store_true", help="make no demo event")
    parser.add_argument(
        "--die-with-parent", action="store_true", help="stop when the process that started it ends"
    )


def run_serve(arguments: argparse.Namespace) -> None:
    """Serve from the environment's PostgreSQL and Redis."""
    telemetry.configure_logging()
    asyncio.run(_prepare(settings.load()))
    address: dict[str, Any] = {"host": arguments.host, "port": arguments.port}
    if arguments.workers == 1:
        uvicorn.run("seatsvc.app:create_app", factory=True, **address, **SERVER_OPTIONS)
        return
    with tempfile.TemporaryDirectory(prefix="seatsvc-metrics-") as folder:
        os.environ.setdefault(metrics.FOLDER, folder)  # which the workers inherit
        options = {**address, **SERVER_OPTIONS, "workers": arguments.workers}
        config = uvicorn.Config("seatsvc.app:create_app", factory=True, **options)
        Workers(config, [config.bind_socket()]).run()


class Workers(Multiprocess):
    """Listens no longer once it was told to stop: the kernel would take clients for nobody."""

    def terminate_all(self) -> None:
        """As uvicorn's."""
        super().terminate_all()
        for listener in self.sockets:
            listener.close()


def run_migrate(_: argparse.Namespace) -> None:
    """Apply the pending migrations."""
    prepared = asyncio.run(_prepare(settings.load(demo=False)))
    print("Applied: " + ", ".join(prepared.migrations) if prepared.migrations else "Up to date.")


def run_create_admin(arguments: argparse.Namespace) -> None:
    """Create one more admin."""
    current = settings.load()
    given = current.admin_password
    password = given.get_secret_value() if given else getpass.getpass("Password: ")
    nobody_else = current.model_copy(update={"admin_username": None})
    asyncio.run(_create_admin(nobody_else, arguments.username, password))
    print(f"Created the admin {arguments.username}.")


def run_local(arguments: argparse.Namespace) -> None:
    """Serve from servers of our own, which end with us, however we end."""
    if arguments.die_with_parent:
        local.die_with_parent()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    listener = _listen(arguments.host, arguments.port)
    with local.servers(arguments.data, _report) as servers:
        password = secrets.token_urlsafe(16)
        current = settings.load(
            database_url=servers.database_url,
            redis_url=servers.redis_url,
            jwt_secret=_local_secret(arguments.data),
            demo=not arguments.no_demo,
            admin_username="admin",
            admin_password=password,
        )
        current = _with_mails(current, arguments.data, _url(listener))
        prepared = asyncio.run(_prepare(current))
        admin = f"\n  Admin: admin, password {password} (shown only now)\n"
        screen = SCREEN.format(
            version=__version__,
            url=_url(listener),
            user=USER,
            data=arguments.data,
            mails=_mails_line(current),
            admin=admin if prepared.admin_created else "",
        )
        config = uvicorn.Config(app.create_app(current, _report), **SERVER_OPTIONS)
        try:
            LocalServer(config, screen).run(sockets=[listener])
        except KeyboardInterrupt:
            _report("Stopping")


class LocalServer(uvicorn.Server):
    """Prints its screen once it answers."""

    def __init__(self, config: uvicorn.Config, screen: str) -> None:
        super().__init__(config)
        self._screen = screen

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then say so."""
        await super().startup(sockets)
        if self.started:
            print(self._screen, flush=True)


def _report(line: str) -> None:
    print(line, flush=True)


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        reason = error.strerror or str(error)
        raise local.LocalError(
            f"Cannot listen on {host}:{port}: {reason}. Does another seatsvc run already? If not, "
            "choose another port: make run PORT=8001, or seatsvc local --port 0 for a free one."
        ) from None
    return listener


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _with_mails(current: Settings, data: Path, url: str) -> Settings:
    """Mails go to a folder, and their links come here, where the environment does not say else."""
    changes: dict[str, Any] = {}
    if current.smtp_url is None:
        changes["smtp_url"] = SecretStr(f"file://{quote(str((data / 'mails').absolute()))}")
    if "public_url" not in current.model_fields_set:
        changes["public_url"] = url
    return current.model_copy(update=changes)


def _mails_line(current: Settings) -> str:
    url = urlsplit(current.smtp_url.get_secret_value() if current.smtp_url else "")
    return f"  Mails              {unquote(url.path)}\n" if url.scheme == "file" else ""


def _local_secret(data: Path) -> str:
    file = data / "jwt_secret"
    if not file.exists():
        half_made = data / "jwt_secret.new"
        half_made.touch(mode=0o600)
        half_made.write_text(secrets.token_urlsafe(SECRET_BYTES))
        half_made.rename(file)
    return file.read_text()


async def _prepare(current: Settings) -> app.Prepared:
    async with app.wired(current) as state:
        return await app.prepare(state)


async def _create_admin(current: Settings, username: str, password: str) -> None:
    async with app.wired(current) as state:
        await app.prepare(state)
        await state["accounts"].register(username, password, role="admin")
