"""The edge: what every request meets first, and every answer last."""

import re
import secrets
import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from seatsvc import metrics
from seatsvc.api.headers import PAGES, page_sender, protected
from seatsvc.api.rates import SPENT, quotas
from seatsvc.rates import Spent
from seatsvc.telemetry import log_request, request_id

REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")


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
        own_id = _request_id(scope)
        request_id.set(own_id)
        stopping = scope.get("state", {}).get("draining")
        spent: list[Spent] = []
        scope[SPENT] = spent

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
            route = getattr(scope.get("route"), "path", None) or "unmatched"
            seconds = time.perf_counter() - started_at
            metrics.requests(scope["method"], route, status).inc()
            metrics.latency(route).observe(seconds)
            log_request(scope["method"], route, status, seconds, scope.get("user_id"))


def _request_id(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name == b"x-request-id" and REQUEST_ID.fullmatch(value):
            return str(value, "ascii")
    return secrets.token_hex(8)
