"""Sign-up, and one's own account: profile, password, address, end."""

from typing import Annotated

from fastapi import APIRouter, Request, Response
from pydantic import (
    AfterValidator,
    BaseModel,
    EmailStr,
    Field,
    JsonValue,
    WithJsonSchema,
)

from seatsvc import rates
from seatsvc.accounts import User, valid_username
from seatsvc.api.deps import CallerDep, Line, Patch, StateDep, unset
from seatsvc.api.problems import answers
from seatsvc.api.rates import address, spend
from seatsvc.errors import (
    EmailTaken,
    Invalid,
    InvalidCredentials,
    InvalidToken,
    LastAdmin,
    NoEmail,
    NotAuthenticated,
    PayloadTooLarge,
    RateLimited,
    Unavailable,
    UsernameTaken,
)
from seatsvc.passwords import MAX_BYTES, MIN_LENGTH, valid_password
from seatsvc.texts import LANGUAGES

router = APIRouter()


def _known_language(locale: str) -> str:
    if locale not in LANGUAGES:
        raise ValueError(f"must be one of {', '.join(LANGUAGES)}")
    return locale


Username = Annotated[
    str,
    AfterValidator(valid_username),
    WithJsonSchema({"type": "string", "minLength": 3, "maxLength": 64, "pattern": r"^[\w.\-]+$"}),
    Field(description="Letters, digits, `.`, `_` and `-`; upper and lower case are the same."),
]
NewPassword = Annotated[
    str,
    AfterValidator(valid_password),
    WithJsonSchema(
        {
            "type": "string",
            "format": "password",
            "minLength": MIN_LENGTH,
            "maxLength": MAX_BYTES,
            "pattern": r"^[^\x00]*$",
        }
    ),
    Field(description="8 characters to 72 bytes, and none of the most common ones."),
]
Password = Annotated[str, Field(min_length=1, max_length=1024)]
Email = Annotated[EmailStr, Field(max_length=254)]
FullName = Annotated[Line, Field(min_length=1, max_length=200)]
Locale = Annotated[
    str,
    AfterValidator(_known_language),
    WithJsonSchema({"type": "string", "enum": [*LANGUAGES]}),
]
MailToken = Annotated[str, Field(min_length=1, max_length=256)]


class Registration(BaseModel, extra="forbid"):
    """A new account."""

    username: Username = Field(examples=["alice"])
    password: NewPassword = Field(examples=["correct horse battery"])
    email: Email | None = Field(default=None, examples=["alice@example.org"])
    name: FullName | None = Field(default=None, examples=["Alice Example"])


PROFILE_EXAMPLES: list[JsonValue] = [{"name": "Alice Example"}, {"locale": "de"}, {"email": None}]


class Profile(Patch, json_schema_extra={"examples": PROFILE_EXAMPLES}):
    """What I may change of my account. A new address has to be verified anew."""

    name: FullName | None = None
    email: Email | None = None
    locale: Locale = unset()


class PasswordChange(BaseModel, extra="forbid"):
    """The present password, and the one that replaces it."""

    current_password: Password = Field(examples=["correct horse battery"])
    new_password: NewPassword = Field(examples=["staple of the wrong horse"])


class ResetRequest(BaseModel, extra="forbid"):
    """Whose password is forgotten."""

    email: Email = Field(examples=["alice@example.org"])


class Reset(BaseModel, extra="forbid"):
    """The token of a reset mail, and the new password."""

    token: MailToken
    new_password: NewPassword = Field(examples=["staple of the wrong horse"])


class Verification(BaseModel, extra="forbid"):
    """The token of a verification mail."""

    token: MailToken


class Confirmation(BaseModel, extra="forbid"):
    """The password, once more."""

    password: Password = Field(examples=["correct horse battery"])


@router.post(
    "/auth/register",
    status_code=201,
    responses=answers(
        UsernameTaken, EmailTaken, Invalid, PayloadTooLarge, RateLimited, Unavailable
    ),
)
async def register(body: Registration, request: Request, parts: StateDep) -> User:
    """Create an account, as an attendee. `Accept-Language` chooses the language of its mails."""
    await spend(request, rates.REGISTER, address(request))
    return await parts["accounts"].register(
        body.username, body.password, email=body.email, name=body.name, locale=_language(request)
    )


@router.get("/me", responses=answers(NotAuthenticated, InvalidToken, Unavailable))
async def get_me(caller: CallerDep, parts: StateDep) -> User:
    """My own account."""
    return await parts["accounts"].get(caller.user_id)


@router.patch(
    "/me",
    responses=answers(
        NotAuthenticated, InvalidToken, EmailTaken, Invalid, PayloadTooLarge, RateLimited,
        Unavailable,
    ),
)  # fmt: skip
async def update_me(body: Profile, request: Request, caller: CallerDep, parts: StateDep) -> User:
    """Change my name, my address or my language. A new address gets a mail that verifies it."""
    changes = body.model_dump(exclude_unset=True)
    if "email" in changes:
        await spend(request, rates.MAIL, caller.user_id)
    return await parts["accounts"].change_profile(caller.user_id, changes)


@router.delete(
    "/me",
    status_code=204,
    responses=answers(
        NotAuthenticated, InvalidToken, InvalidCredentials, LastAdmin, Invalid, PayloadTooLarge,
        RateLimited, Unavailable,
    ),
)  # fmt: skip
async def delete_me(
    body: Confirmation, request: Request, caller: CallerDep, parts: StateDep
) -> None:
    """Close my account. Bookings still to come are cancelled, and personal data is erased."""
    await spend(request, rates.PASSWORD, caller.user_id)
    await parts["accounts"].erase(caller, body.password)


@router.post(
    "/auth/change-password",
    status_code=204,
    responses=answers(
        NotAuthenticated, InvalidToken, InvalidCredentials, Invalid, PayloadTooLarge, RateLimited,
        Unavailable,
    ),
)  # fmt: skip
async def change_password(
    body: PasswordChange, request: Request, caller: CallerDep, parts: StateDep
) -> None:
    """Replace my password. Every other session ends at once."""
    await spend(request, rates.PASSWORD, caller.user_id)
    await parts["accounts"].change_password(caller, body.current_password, body.new_password)


@router.post(
    "/auth/password-reset-request",
    status_code=202,
    response_class=Response,
    responses=answers(Invalid, PayloadTooLarge, RateLimited, Unavailable),
)
async def request_password_reset(body: ResetRequest, request: Request, parts: StateDep) -> Response:
    """Have a token mailed that resets the password. The answer never tells who has an account."""
    await spend(request, rates.RESET, address(request))
    await parts["accounts"].request_reset(body.email)
    return Response(status_code=202)


@router.post(
    "/auth/password-reset-confirm",
    status_code=204,
    responses=answers(InvalidToken, Invalid, PayloadTooLarge, RateLimited, Unavailable),
)
async def confirm_password_reset(body: Reset, request: Request, parts: StateDep) -> None:
    """Set a new password by a mailed token, once and within 30 minutes. Every session ends."""
    await spend(request, rates.RESET, address(request))
    await parts["accounts"].reset_password(body.token, body.new_password)


@router.post(
    "/auth/verify-email-request",
    status_code=202,
    response_class=Response,
    responses=answers(NotAuthenticated, InvalidToken, NoEmail, RateLimited, Unavailable),
)
async def request_email_verification(
    request: Request, caller: CallerDep, parts: StateDep
) -> Response:
    """Have a token mailed that verifies my address. Once it is verified, nothing is sent."""
    await spend(request, rates.MAIL, caller.user_id)
    await parts["accounts"].request_verification(caller.user_id)
    return Response(status_code=202)


@router.post(
    "/auth/verify-email",
    status_code=204,
    responses=answers(InvalidToken, Invalid, PayloadTooLarge, Unavailable),
)
async def verify_email(body: Verification, parts: StateDep) -> None:
    """Verify an address by a mailed token, once and within a day."""
    await parts["accounts"].verify_email(body.token)


def _language(request: Request) -> str:
    """The first that the client asks for and we speak."""
    wanted = request.headers.get("accept-language", "").lower().split(",")
    known = [tag.strip()[:2] for tag in wanted if tag.strip()[:2] in LANGUAGES]
    return known[0] if known else "en"
