"""Watching an event: Server-Sent Events."""

import asyncio
from typing import Annotated, Any, cast

from fastapi import APIRouter, Header, Response
from starlette.types import Receive, Scope, Send

from seatsvc.api.deps import PathId, StateDep
from seatsvc.api.edge import SEND
from seatsvc.api.problems import answers
from seatsvc.errors import Invalid, NotFound, Unavailable
from seatsvc.live import Watch

router = APIRouter()

EXAMPLE = """\
event: snapshot
id: 5d41402abc4b2a76
data: {"event_id":1,"version":"5d41402abc4b2a76","counts":{"free":2,…},"sections":[…]}

event: change
id: 7d793037a0760186
data: {"event_id":1,"version":"7d79…","counts":{"free":1,…},"seats":[{"id":1,"state":"b"}]}

"""
DESCRIPTION = """\
Server-Sent Events without an end. First a `snapshot`, which is the availability; then a `change` \
for each change: its `seats`, each with its `state` as in the availability, the new `counts` and \
the new `version`. Where much has changed, or a client was too slow to be told of each change, \
there is another `snapshot` instead. After 15 s of silence there is a comment. The `id` is the \
version.
"""
STREAM: dict[int | str, dict[str, Any]] = {
    200: {
        "description": DESCRIPTION,
        "content": {"text/event-stream": {"schema": {"type": "string"}, "example": EXAMPLE}},
    }
}
LastEventId = Annotated[
    str | None,
    Header(
        alias="Last-Event-ID",
        max_length=64,
        description="The version that the client has: it is told what has changed since, "
        "or given a new snapshot.",
    ),
]


class EventStream(Response):
    """What a watch says, until the client goes or the watch ends."""

    media_type = "text/event-stream"

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        super().__init__(headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        sending = cast(asyncio.Task[None], asyncio.current_task())

        def stop(_: object) -> None:
            sending.cancel()

        gone = asyncio.create_task(_gone(receive))
        gone.add_done_callback(stop)
        try:
            await self._send(send, scope[SEND])
        except asyncio.CancelledError:
            if not gone.done():
                raise
            sending.uncancel()
        finally:
            gone.remove_done_callback(stop)
            gone.cancel()
            self._watch.close()

    async def _send(self, send: Send, send_event: Send) -> None:
        await send(
            {"type": "http.response.start", "status": 200, "headers": list(self.raw_headers)}
        )
        while text := await self._watch.next():
            await send_event({"type": "http.response.body", "body": text, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


@router.get(
    "/events/{event_id}/stream",
    response_class=Response,
    responses=STREAM | answers(NotFound, Invalid, Unavailable),
)
async def stream_event(
    event_id: PathId, parts: StateDep, last_event_id: LastEventId = None
) -> Response:
    """Watch the states of an event's places change."""
    return EventStream(await parts["live"].watch(event_id, last_event_id))
