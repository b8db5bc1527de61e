"""For admins: mails that wait, and mails that could not be sent."""

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel

from seatsvc.api.deps import (
    AdminDep,
    Cursor,
    Limit,
    PathId,
    StateDep,
    decode_cursor,
    encode_cursor,
    link_next,
)
from seatsvc.api.openapi import ID_MAX
from seatsvc.api.problems import answers
from seatsvc.errors import (
    BadCursor,
    Forbidden,
    Invalid,
    InvalidToken,
    NotAuthenticated,
    NotFound,
    Unavailable,
)
from seatsvc.outbox import QueuedMail, Status

router = APIRouter()


class MailPage(BaseModel):
    """Mails, newest first. Those that were sent are gone."""

    items: list[QueuedMail]
    next_cursor: str | None


@router.get(
    "/mails",
    responses=answers(NotAuthenticated, InvalidToken, Forbidden, Invalid, Unavailable),
)
async def list_mails(
    request: Request,
    response: Response,
    _: AdminDep,
    parts: StateDep,
    status: Status = "dead",
    limit: Limit = 20,
    cursor: Cursor = None,
) -> MailPage:
    """The mails that were given up, or those that wait. For admins."""
    found = await parts["outbox"].list_mails(status=status, before=_before(cursor), limit=limit + 1)
    items = found[:limit]
    following = encode_cursor(items[-1].id) if len(found) > limit else None
    response.headers.update(link_next(request, following))
    return MailPage(items=items, next_cursor=following)


@router.post(
    "/mails/{mail_id}/retry",
    responses=answers(NotAuthenticated, InvalidToken, Forbidden, NotFound, Invalid, Unavailable),
)
async def retry_mail(mail_id: PathId, _: AdminDep, parts: StateDep) -> QueuedMail:
    """Send a mail now, with all its attempts before it. For admins."""
    return await parts["outbox"].retry(mail_id)


def _before(cursor: str | None) -> int | None:
    match decode_cursor(cursor) if cursor else None:
        case None:
            return None
        case [int(mail_id)] if 0 < mail_id <= ID_MAX:
            return mail_id
    raise BadCursor()
