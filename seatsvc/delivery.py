"""Ways out for mails: a mail server, or a folder."""

import asyncio
import os
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from datetime import UTC, datetime
from email.message import EmailMessage
from email.policy import SMTPUTF8
from functools import cached_property
from pathlib import Path
from typing import Protocol
from urllib.parse import SplitResult, unquote, urlsplit

import aiosmtplib

from seatsvc.settings import Settings, SettingsError

STEP_TIMEOUT_S = 10
MAIL_TIMEOUT_S = 20  # connecting included
GOODBYE_TIMEOUT_S = 1
PORTS = {"smtp": 587, "smtps": 465}

Send = Callable[[EmailMessage], Awaitable[None]]
Show = Callable[[str], None]


class DeliveryError(Exception):
    """A mail was not taken. The text is safe: no address, nothing that the server said.

    `permanent`: it never will be. `server_failed`: nor would any other be, right now.
    """

    def __init__(self, reason: str, *, permanent: bool = False, server_failed: bool = False):
        super().__init__(reason)
        self.permanent = permanent
        self.server_failed = server_failed


class Transport(Protocol):
    """A way out."""

    def session(self) -> AbstractAsyncContextManager[Send]:
        """Mails are sent one after another within it; each raises DeliveryError."""


def open_transport(settings: Settings, show: Show | None = None) -> Transport | None:
    """What SEATSVC_SMTP_URL names; None where it is not set.

    A folder's mails are also shown. Raises SettingsError.
    """
    if settings.smtp_url is None:
        return None
    url = urlsplit(settings.smtp_url.get_secret_value())
    if url.query or url.fragment:
        raise SettingsError("SEATSVC_SMTP_URL must have ? and # in a password as %3F and %23")
    return Folder(_path(url), show) if url.scheme == "file" else MailServer(url)


def _path(url: SplitResult) -> Path:
    if url.netloc or not url.path.startswith("/"):
        raise SettingsError("SEATSVC_SMTP_URL must name a folder as file:///its/whole/path")
    return Path(unquote(url.path))


class MailServer:
    """`smtp://`, with STARTTLS where the server has it, and always with a password; `smtps://`."""

    def __init__(self, url: SplitResult) -> None:
        if not url.hostname:
            raise SettingsError("SEATSVC_SMTP_URL names no host")
        if (url.username is None) != (url.password is None):
            raise SettingsError("SEATSVC_SMTP_URL needs both a user and a password, or neither")
        self._host = url.hostname
        self._port = url.port or PORTS[url.scheme]
        self._tls = url.scheme == "smtps"
        self._user = url.username and unquote(url.username)
        self._password = url.password and unquote(url.password)

    @asynccontextmanager
    async def session(self) -> AsyncIterator[Send]:
        """One connection, made for the first mail."""
        client = self._client()

        async def send(message: EmailMessage) -> None:
            try:
                await _send(client, message)
            except (aiosmtplib.SMTPException, OSError, ValueError) as error:
                failure = _failure(error, client.is_connected)
                if failure.server_failed:
                    client.close()
                raise failure from None

        try:
            yield send
            await _say_goodbye(client)
        finally:
            client.close()

    def _client(self) -> aiosmtplib.SMTP:
        return aiosmtplib.SMTP(
            hostname=self._host,
            port=self._port,
            username=self._user,
            password=self._password,
            local_hostname=_own_name(),
            timeout=STEP_TIMEOUT_S,
            use_tls=self._tls,
            start_tls=False if self._tls else True if self._password else None,
            tls_context=self._tls_context,
        )

    @cached_property
    def _tls_context(self) -> ssl.SSLContext:
        return ssl.create_default_context()


async def _send(client: aiosmtplib.SMTP, message: EmailMessage) -> None:
    try:
        async with asyncio.timeout(MAIL_TIMEOUT_S):
            if not client.is_connected:
                await client.connect()
            await client.send_message(message)
    except TimeoutError:
        # Whatever it still answers would be taken for the answer to the next command.
        client.close()
        raise


def _failure(error: Exception, connected: bool) -> DeliveryError:
    """What went wrong, without the server's words, which may hold addresses."""
    if isinstance(error, aiosmtplib.SMTPRecipientsRefused):
        error = error.recipients[0]
    code = error.code if isinstance(error, aiosmtplib.SMTPResponseException) else None
    reason = type(error).__name__ + (f" {code}" if code else "")
    if cause := error.__cause__:
        reason += f" ({type(cause).__name__})"
    if not connected or isinstance(error, aiosmtplib.SMTPSenderRefused):
        return DeliveryError(reason, server_failed=True)
    refused = isinstance(error, aiosmtplib.SMTPNotSupported | ValueError)
    return DeliveryError(reason, permanent=refused or (code is not None and 500 <= code < 600))


async def _say_goodbye(client: aiosmtplib.SMTP) -> None:
    if client.is_connected:
        with suppress(aiosmtplib.SMTPException, OSError):
            await client.quit(timeout=GOODBYE_TIMEOUT_S)


def _own_name() -> str:
    """As the standard library has it, but without asking a name server, which can take long."""
    name = socket.gethostname()
    return name if "." in name else "[127.0.0.1]"


class Folder:
    """Keeps each mail as a file of its own, for its owner's eyes only."""

    def __init__(self, folder: Path, show: Show | None) -> None:
        self._folder = folder
        self._show = show

    @asynccontextmanager
    async def session(self) -> AsyncIterator[Send]:
        """Nothing to open."""
        yield self._send

    async def _send(self, message: EmailMessage) -> None:
        try:
            await asyncio.to_thread(self._keep, message)
        except OSError as error:
            raise DeliveryError(type(error).__name__, server_failed=True) from None
        if self._show:
            self._show(_shown(message))

    def _keep(self, message: EmailMessage) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        number = message["Message-ID"].strip("<>").partition("@")[0]
        name = f"{datetime.now(UTC):%Y%m%dT%H%M%S.%f}-{number}.eml"
        half_made = (
            self._folder / f".{name}.part"
        )  # or whoever looks for mails might find half of one
        descriptor = os.open(half_made, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(message.as_bytes(policy=SMTPUTF8))
        half_made.rename(self._folder / name)


def _shown(message: EmailMessage) -> str:
    rule = "-" * 72
    return f"{rule}\nTo: {message['To']}\nSubject: {message['Subject']}\n\n{_text(message)}{rule}"


def _text(message: EmailMessage) -> str:
    return str(message.get_content())
