"""Sign-up, login, and the caller's own profile."""

from typing import Annotated

from fastapi import APIRouter, Depends
from fastapi.security import OAuth2PasswordRequestForm
from pydantic import AfterValidator, BaseModel, EmailStr, Field

from seatsvc.accounts import PASSWORD_MAX_BYTES, PASSWORD_MIN_LENGTH, TokenPair, User
from seatsvc.api.deps import CallerDep, Line, StateDep
from seatsvc.api.problems import answers
from seatsvc.errors import (
    EmailTaken,
    Invalid,
    InvalidCredentials,
    InvalidToken,
    NotAuthenticated,
    PayloadTooLarge,
    Unavailable,
    UsernameTaken,
)

router = APIRouter()


def _fits_bcrypt(password: str) -> str:
    if len(password.encode()) > PASSWORD_MAX_BYTES:
        raise ValueError(f"must have at most {PASSWORD_MAX_BYTES} bytes in UTF-8")
    return password


Username = Annotated[
    str,
    Field(
        min_length=3,
        max_length=64,
        pattern=r"^[\w.\-]+$",
        description="Letters, digits, `.`, `_` and `-`; upper and lower case are the same.",
    ),
]
NewPassword = Annotated[
    str,
    Field(min_length=PASSWORD_MIN_LENGTH, description="8 characters to 72 bytes."),
    AfterValidator(_fits_bcrypt),
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
