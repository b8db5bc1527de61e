"""Everyone's accounts, for admins."""

from typing import Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, JsonValue, StrictBool

from seatsvc.accounts import User
from seatsvc.api.deps import (
    AdminDep,
    Cursor,
    Limit,
    Patch,
    StateDep,
    Uuid,
    decode_cursor,
    encode_cursor,
    link_next,
    unset,
)
from seatsvc.api.problems import answers
from seatsvc.errors import (
    BadCursor,
    Forbidden,
    Invalid,
    InvalidToken,
    LastAdmin,
    NotAuthenticated,
    NotFound,
    PayloadTooLarge,
    Unavailable,
)

router = APIRouter()

Role = Literal["attendee", "organizer", "admin"]
USER_EXAMPLES: list[JsonValue] = [{"role": "organizer"}, {"active": False}]


class UserPatch(Patch, json_schema_extra={"examples": USER_EXAMPLES}):
    """What an admin may change of an account."""

    role: Role = unset()
    active: StrictBool = unset()


class UserPage(BaseModel):
    """Users, by their names."""

    items: list[User]
    next_cursor: str | None


@router.get(
    "/users",
    responses=answers(NotAuthenticated, InvalidToken, Forbidden, Invalid, Unavailable),
)
async def list_users(
    request: Request,
    response: Response,
    _: AdminDep,
    parts: StateDep,
    role: Role | None = None,
    active: bool | None = None,
    limit: Limit = 20,
    cursor: Cursor = None,
) -> UserPage:
    """Everyone, by their names. For admins."""
    found = await parts["accounts"].list_users(
        role=role, active=active, after=_after(cursor), limit=limit + 1
    )
    following = encode_cursor(found[limit - 1].username) if len(found) > limit else None
    response.headers.update(link_next(request, following))
    return UserPage(items=found[:limit], next_cursor=following)


@router.patch(
    "/users/{user_id}",
    responses=answers(
        NotAuthenticated, InvalidToken, Forbidden, NotFound, LastAdmin, Invalid, PayloadTooLarge,
        Unavailable,
    ),
)  # fmt: skip
async def update_user(user_id: Uuid, body: UserPatch, _: AdminDep, parts: StateDep) -> User:
    """Change a user's role, or deactivate the account, which logs it out. For admins."""
    return await parts["accounts"].change_user(user_id, role=body.role, active=body.active)


def _after(cursor: str | None) -> str:
    match decode_cursor(cursor) if cursor else [""]:
        case [str(username)] if username.isprintable():
            return username
    raise BadCursor()
