"""The outermost edge: uvicorn's HTTP protocol, with limits for slow, fat and broken clients."""

import asyncio
import secrets
from typing import cast

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from seatsvc.api.headers import protected
from seatsvc.api.problems import problem
from seatsvc.errors import HeadersTooLarge, MalformedRequest, RequestTimeout, ServiceError
from seatsvc.telemetry import access_log, request_id

HEAD_MAX_BYTES = 32 * 1024
HEAD_MAX_FIELDS = 100
UPGRADE_FIELDS = {b"connection", b"upgrade", b"http2-settings"}


class Protocol(HttpToolsProtocol):
    """One connection.

    A request costs a few counters and comparisons. Time is watched by one timer a connection.
    """

    patience_s = 10.0  # for a request to arrive
    stall_s = 30.0  # for a client that reads nothing of an answer
    farewell_s = 0.2  # for a request that was sent when a stop was near
    linger_s = 1.0  # after a refusal, so that it is read before the connection ends

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start to watch."""
        super().connection_made(cast(asyncio.Transport, transport))
        # Bytes that ended neither a head nor a request, and were no body; a trailer's, too.
        self._unheard_bytes = 0
        self._fed_bytes = 0
        self._in_body = False
        self._deaf = False
        self._receiving_since: float | None = self.loop.time()
        self._unread_bytes, self._unread_since = 0, self.loop.time()
        self._timer = self.loop.call_later(self.patience_s, self._tick)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop it."""
        self._timer.cancel()
        super().connection_lost(exc)

    def shutdown(self) -> None:
        """As uvicorn's, but a request that is on its way is answered, and streams end."""
        if self._is_answering():
            super().shutdown()
        else:
            self.loop.call_later(self.farewell_s, super().shutdown)
        if "live" in self.app_state:
            self.app_state["live"].end()

    def data_received(self, data: bytes) -> None:
        """As uvicorn's, but counts, answers what is no HTTP, and never upgrades."""
        if self._deaf:
            return
        self._unset_keepalive_if_required()
        if self._receiving_since is None:
            self._receiving_since = self.loop.time()
        self._fed_bytes = len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._parse_without_upgrade(data[upgrade.args[0] :])
        except httptools.HttpParserError as error:
            cause = error.__context__
            self._refuse(cause if isinstance(cause, ServiceError) else MalformedRequest())
        else:
            self._unheard_bytes += self._fed_bytes
            if self._unheard_bytes > HEAD_MAX_BYTES:
                self._refuse(HeadersTooLarge())

    def on_headers_complete(self) -> None:
        """Check the head. Its bytes are only added up where they may be too many."""
        might_be_bytes = max(self._unheard_bytes, 0) + self._fed_bytes
        if len(self.headers) > HEAD_MAX_FIELDS or (
            might_be_bytes > HEAD_MAX_BYTES and self._head_bytes() > HEAD_MAX_BYTES
        ):
            raise HeadersTooLarge()
        if self.parser.should_upgrade():
            return
        super().on_headers_complete()
        self.headers = []  # A trailer must not become one of the request's headers.
        self._in_body = True
        self._unheard_bytes = -self._fed_bytes

    def _head_bytes(self) -> int:
        return len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)

    def on_body(self, body: bytes) -> None:
        """Count anew. How much body there may be is for the app to say."""
        self._unheard_bytes = -self._fed_bytes
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Count anew, for the next one."""
        if self.parser.should_upgrade():
            return
        super().on_message_complete()
        self._in_body = False
        self._receiving_since = None
        self._unheard_bytes = -self._fed_bytes

    def _parse_without_upgrade(self, rest: bytes) -> None:
        """A request to upgrade is answered as if it had not asked; the parser skipped its body."""
        method, version = self.parser.get_method(), self.parser.get_http_version().encode()
        if method == b"CONNECT":
            self._refuse(MalformedRequest())
            return
        kept = [pair for pair in self.headers if pair[0] not in UPGRADE_FIELDS]
        lines = b"".join(b"%s: %s\r\n" % pair for pair in [*kept, (b"connection", b"close")])
        self.parser = httptools.HttpRequestParser(self)
        self.data_received(b"%s %s HTTP/%s\r\n%s\r\n" % (method, self.url, version, lines) + rest)

    def _tick(self) -> None:
        now = self.loop.time()
        self._drop_if_stalled(now)
        since = self._receiving_since
        due = (now if since is None else since) + self.patience_s
        if due <= now and not self._deaf:
            self._late()
        pause_s = max(due - now, self.patience_s / 10)
        self._timer = self.loop.call_later(pause_s, self._tick)

    def _drop_if_stalled(self, now: float) -> None:
        unread = self.transport.get_write_buffer_size()
        if unread == 0 or unread != self._unread_bytes:
            self._unread_bytes, self._unread_since = unread, now
        elif now - self._unread_since >= self.stall_s:
            self.transport.abort()

    def _late(self) -> None:
        if self._is_answering():
            # Whoever waits for the body wakes up with nothing, and looks at the clock: BodyLimit.
            self.cycle.message_event.set()
        elif self._unheard_bytes == 0:
            self.transport.close()
        else:
            self._refuse(RequestTimeout("The request's headers did not arrive in time."))

    def _is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _refuse(self, error: ServiceError) -> None:
        """Read no more, and say why, unless that would fall into the midst of an answer."""
        self._deaf = True
        if not self._is_answering():
            if self._in_body:
                self.transport.close()
            else:
                self._write(error)
        elif self._in_body and not self.cycle.response_started and not self.pipeline:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
            self._write(error)
        else:
            self.cycle.keep_alive = False

    def _write(self, error: ServiceError) -> None:
        own = secrets.token_hex(8)
        previous = request_id.set(own)
        answer = problem(error, {"Connection": "close", "X-Request-Id": own})
        fields = {"status": error.status, "code": error.code}
        access_log.info("refused", extra={"fields": fields})
        request_id.reset(previous)
        headers = protected(answer.raw_headers, self.scheme or "http")
        lines = b"".join(b"%s: %s\r\n" % pair for pair in headers)
        self.transport.write(STATUS_LINE[error.status] + lines + b"\r\n" + bytes(answer.body))
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.loop.call_later(self.linger_s, self.transport.close)
