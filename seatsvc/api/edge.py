"""The edge: what every request meets first, and every answer last."""

import re
import secrets
import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from seatsvc import metrics, patience
from seatsvc.api.headers import PAGES, page_sender, protected
from seatsvc.api.rates import SPENT, quotas
from seatsvc.rates import Spent
from seatsvc.telemetry import Trace, log_request, request_id, trace

SEND = "seatsvc.send"  # the way to the client past all that wraps it, for what comes after a head
REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
# Version, trace, parent, flags, as W3C's Trace Context has them. All zeros are no id, and ff is no
# version; versions to come may say more behind a hyphen.
TRACEPARENT = re.compile(
    rb"(?:(00)|(?!00|ff)[0-9a-f]{2})"
    rb"-((?!0{32})[0-9a-f]{32})-((?!0{16})[0-9a-f]{16})-[0-9a-f]{2}(?(1)|(?:-.*)?)"
)


class Edge:
    """Gives each request an id and a line in the log, and each answer the headers it lacks."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started_at, status = time.perf_counter(), 500
        own_id, found = _identify(scope["headers"])
        request_id.set(own_id)
        patience.begin()
        trace.set(found)  # None, too: a connection's next request may begin in this one's context
        stopping = scope.get("state", {}).get("draining")
        spent: list[Spent] = []
        scope[SPENT] = spent
        scope[SEND] = send

        async def send_complete(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = protected(message["headers"], scope["scheme"])
                headers.append((b"x-request-id", own_id.encode()))
                if stopping and stopping.is_set():
                    headers.append((b"connection", b"close"))
                message["headers"] = headers + quotas(spent) if spent else headers
            await send(message)

        sender = page_sender(send_complete) if scope["path"] in PAGES else send_complete
        try:
            await self._app(scope, receive, sender)
        finally:
            del scope[SEND]  # it leads back to the scope
            route = getattr(scope.get("route"), "path", None) or "unmatched"
            seconds = time.perf_counter() - started_at
            metrics.requests(scope["method"], route, status).inc()
            metrics.latency(route).observe(seconds)
            log_request(scope["method"], route, status, seconds, scope.get("user_id"))


def _identify(headers: list[tuple[bytes, bytes]]) -> tuple[str, Trace | None]:
    """The request's id, and the trace that it says it belongs to."""
    own_id, parents, states = "", [], []
    for name, value in headers:
        if name == b"x-request-id":
            if not own_id and REQUEST_ID.fullmatch(value):
                own_id = str(value, "ascii")
        elif name == b"traceparent":
            parents.append(value)
        elif name == b"tracestate":
            states.append(value)
    return own_id or secrets.token_hex(8), _trace(parents, states) if parents else None


def _trace(parents: list[bytes], states: list[bytes]) -> Trace | None:
    """None unless there is one `traceparent`, and a valid one."""
    traceparent = parents[0].strip(b" \t")
    match = TRACEPARENT.fullmatch(traceparent) if len(parents) == 1 else None
    if match is None:
        return None
    _, trace_id, parent_id = match.groups()
    tracestate = b",".join(states)
    return Trace(*(str(each, "latin-1") for each in (trace_id, parent_id, traceparent, tracestate)))
