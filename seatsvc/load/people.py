"""The users of a run: registered, logged in, and kept in a file for the next run if wanted."""

import asyncio
import json
import os
import secrets
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

from seatsvc.load.client import Answer, Client, Connection, LoadError

AT_ONCE = 4
WAITS_MAX = 30
WAIT_S = 1.0
EARLY_S = 30
KEPT = ("username", "password", "refresh_token", "id")
Report = Callable[[int, int], None]


@dataclass(slots=True)
class User:
    """An account, and its tokens once it is logged in."""

    username: str
    password: str
    refresh_token: str = ""
    id: str = ""
    access_token: str = ""
    ends_at: float = 0.0  # the access token, by the clock of perf_counter


class People:
    """Makes users, and keeps them logged in. Hashing passwords takes the service long."""

    def __init__(self, client: Client, file: Path | None) -> None:
        self._client, self._file = client, file
        self._kept: list[User] = []

    async def make(self, count: int, report: Report) -> list[User]:
        """So many users, those of the file first.

        Raises LoadError.
        """
        self._kept = self._read()
        while len(self._kept) < count:
            name = f"load-{secrets.token_hex(8)}"
            self._kept.append(User(name, secrets.token_urlsafe(16)))
        users = self._kept[:count]
        try:
            await self._each(users, self._enter, report)
        finally:
            self._write()
        return users

    async def ready(self, users: Sequence[User], seconds: float) -> None:
        """Renew the tokens that would end before that.

        Raises LoadError.
        """
        until = perf_counter() + seconds + EARLY_S
        late = [user for user in users if user.ends_at < until]
        await self._each(late, self._renew, lambda _done, _of: None)
        self._write()

    async def log_in(self, username: str, password: str) -> User:
        """An account that is there already.

        Raises LoadError.
        """
        user = User(username, password)
        async with self._client.connections(1) as [connection]:
            await self._log_in(connection, user)
        return user

    async def _each(
        self,
        users: Sequence[User],
        do: Callable[[Connection, User], Awaitable[None]],
        report: Report,
    ) -> None:
        todo, done = iter(users), 0

        async def work(connection: Connection) -> None:
            nonlocal done
            for user in todo:
                await do(connection, user)
                done += 1
                report(done, len(users))

        async with self._client.connections(AT_ONCE) as connections:
            await asyncio.gather(*map(work, connections))

    async def _enter(self, connection: Connection, user: User) -> None:
        if user.refresh_token:
            with suppress(LoadError):  # The service may have forgotten whom the file remembers.
                await self._renew(connection, user)
                return
        body = {"username": user.username, "password": user.password}
        await patiently(connection, "POST", "/auth/register", 201, body=body)
        await self._log_in(connection, user)

    async def _renew(self, connection: Connection, user: User) -> None:
        began, body = perf_counter(), {"refresh_token": user.refresh_token}
        answer = await connection.ask("POST", "/auth/refresh", body=body)
        if answer.status == 200:
            _take(user, answer, began)
        else:
            await self._log_in(connection, user)

    async def _log_in(self, connection: Connection, user: User) -> None:
        body = {"username": user.username, "password": user.password}
        began = perf_counter()
        _take(user, await patiently(connection, "POST", "/auth/login", 200, body=body), began)
        me = await patiently(connection, "GET", "/me", 200, token=user.access_token)
        user.id = str(me.json()["id"])

    def _read(self) -> list[User]:
        if self._file is None or not self._file.exists():
            return []
        try:
            return [User(**each) for each in json.loads(self._file.read_text())]
        except (ValueError, TypeError):
            raise LoadError(f"{self._file} is no file of users.") from None

    def _write(self) -> None:
        """What is in the file nobody else may read."""
        if self._file is None:
            return
        kept = [{name: getattr(user, name) for name in KEPT} for user in self._kept if user.id]
        new = self._file.with_name(f"{self._file.name}.new")
        new.unlink(missing_ok=True)
        with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            json.dump(kept, file)
        new.replace(self._file)


def _take(user: User, answer: Answer, began: float) -> None:
    pair = answer.json()
    try:
        user.access_token, user.refresh_token = pair["access_token"], pair["refresh_token"]
        user.ends_at = began + float(pair["expires_in"])
    except (KeyError, TypeError, ValueError):
        raise LoadError("This does not answer a log-in as seatsvc does.") from None


async def patiently(
    connection: Connection, method: str, path: str, status: int, **more: Any
) -> Answer:
    """Ask again while the service says so, or cannot answer now.

    Raises LoadError for any other answer.
    """
    for _ in range(WAITS_MAX):
        answer = await connection.ask(method, path, **more)
        if answer.status == status:
            return answer
        if answer.status not in (0, 409, 429, 503) or answer.code == "username_taken":
            break
        await asyncio.sleep(answer.retry_after_s or WAIT_S)
    raise LoadError(f"{method} {path} was answered {answer.status} {answer.code}")
