"""Sign-up, login, the caller's own profile, and everyone's for admins."""

from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Depends, Request, Response
from fastapi.security import OAuth2PasswordRequestForm
from pydantic import (
    AfterValidator,
    BaseModel,
    EmailStr,
    Field,
    JsonValue,
    StrictBool,
    WithJsonSchema,
)

from seatsvc.accounts import (
    PASSWORD_MIN_LENGTH,
    TokenPair,
    User,
    valid_password,
    valid_username,
)
from seatsvc.api.deps import (
    AdminDep,
    CallerDep,
    Cursor,
    Limit,
    Line,
    Patch,
    StateDep,
    decode_cursor,
    encode_cursor,
    link_next,
    unset,
)
from seatsvc.api.problems import answers
from seatsvc.errors import (
    BadCursor,
    EmailTaken,
    Forbidden,
    Invalid,
    InvalidCredentials,
    InvalidToken,
    LastAdmin,
    NotAuthenticated,
    NotFound,
    PayloadTooLarge,
    Unavailable,
    UsernameTaken,
)

router = APIRouter()


Username = Annotated[
    str,
    AfterValidator(valid_username),
    WithJsonSchema({"type": "string", "minLength": 3, "maxLength": 64, "pattern": r"^[\w.\-]+$"}),
    Field(description="Letters, digits, `.`, `_` and `-`; upper and lower case are the same."),
]
NewPassword = Annotated[
    str,
    AfterValidator(valid_password),
    WithJsonSchema({"type": "string", "minLength": PASSWORD_MIN_LENGTH, "format": "password"}),
    Field(description="8 characters to 72 bytes."),
]


class Registration(BaseModel, extra="forbid"):
    """A new account."""

    username: Username = Field(examples=["alice"])
    password: NewPassword = Field(examples=["correct horse battery"])
    email: Annotated[EmailStr, Field(max_length=254)] | None = Field(
        default=None, examples=["alice@example.org"]
    )
    name: Annotated[Line, Field(min_length=1, max_length=200)] | None = Field(
        default=None, examples=["Alice Example"]
    )


class Login(BaseModel, extra="forbid"):
    """Who wants to log in."""

    username: str = Field(
        min_length=1, max_length=254, description="Or the e-mail address.", examples=["alice"]
    )
    password: str = Field(min_length=1, max_length=1024, examples=["correct horse battery"])


@router.post(
    "/auth/register",
    status_code=201,
    responses=answers(UsernameTaken, EmailTaken, Invalid, PayloadTooLarge, Unavailable),
)
async def register(body: Registration, parts: StateDep) -> User:
    """Create an account, as an attendee."""
    return await parts["accounts"].register(
        body.username, body.password, email=body.email, name=body.name
    )


@router.post(
    "/auth/login",
    responses=answers(InvalidCredentials, Invalid, PayloadTooLarge, Unavailable),
)
async def login(body: Login, parts: StateDep) -> TokenPair:
    """Log in with a username or an e-mail address."""
    return await parts["accounts"].login(body.username, body.password)


@router.post(
    "/auth/token",
    responses=answers(InvalidCredentials, Invalid, PayloadTooLarge, Unavailable),
)
async def token(
    form: Annotated[OAuth2PasswordRequestForm, Depends()], parts: StateDep
) -> TokenPair:
    """Log in with the OAuth2 password form, as the Authorize button does."""
    return await parts["accounts"].login(form.username, form.password)


@router.get(
    "/me",
    responses=answers(NotAuthenticated, InvalidToken, Unavailable),
)
async def get_me(caller: CallerDep, parts: StateDep) -> User:
    """My own account."""
    return await parts["accounts"].get(caller.user_id)


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
async def update_user(user_id: UUID, body: UserPatch, _: AdminDep, parts: StateDep) -> User:
    """Change a user's role, or deactivate the account, which logs it out. For admins."""
    return await parts["accounts"].change_user(user_id, role=body.role, active=body.active)


def _after(cursor: str | None) -> str:
    match decode_cursor(cursor) if cursor else [""]:
        case [str(username)] if username.isprintable():
            return username
    raise BadCursor()
