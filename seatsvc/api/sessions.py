"""Logging in, renewing tokens, logging out."""

from typing import Annotated, Literal

from fastapi import APIRouter, Form, Request
from pydantic import BaseModel, Field

from seatsvc import rates
from seatsvc.accounts import fold
from seatsvc.api.deps import CallerDep, StateDep
from seatsvc.api.problems import answers
from seatsvc.api.rates import address, spend
from seatsvc.errors import (
    Invalid,
    InvalidCredentials,
    InvalidToken,
    NotAuthenticated,
    PayloadTooLarge,
    RateLimited,
    Unavailable,
)
from seatsvc.sessions import TokenPair

router = APIRouter()


class Login(BaseModel, extra="forbid"):
    """Who wants to log in."""

    username: str = Field(
        min_length=1, max_length=254, description="Or the e-mail address.", examples=["alice"]
    )
    password: str = Field(min_length=1, max_length=1024, examples=["correct horse battery"])


class LoginForm(Login, extra="forbid"):
    """The OAuth2 password form. Scopes and clients are not told apart."""

    grant_type: Literal["password"] = "password"
    scope: str = Field(default="", max_length=1024)
    client_id: str = Field(default="", max_length=1024)
    client_secret: str = Field(default="", max_length=1024)


class Refresh(BaseModel, extra="forbid"):
    """A refresh token that was not used yet."""

    refresh_token: str = Field(min_length=1, max_length=256)


LOGIN_ANSWERS = answers(InvalidCredentials, Invalid, PayloadTooLarge, RateLimited, Unavailable)


@router.post("/auth/login", responses=LOGIN_ANSWERS)
async def login(body: Login, request: Request, parts: StateDep) -> TokenPair:
    """Log in with a username or an e-mail address."""
    await _spend_login(request, body.username)
    return await parts["accounts"].login(body.username, body.password)


@router.post("/auth/token", responses=LOGIN_ANSWERS)
async def token(form: Annotated[LoginForm, Form()], request: Request, parts: StateDep) -> TokenPair:
    """Log in with the OAuth2 password form, as the Authorize button does."""
    await _spend_login(request, form.username)
    return await parts["accounts"].login(form.username, form.password)


@router.post(
    "/auth/refresh",
    responses=answers(InvalidToken, Invalid, PayloadTooLarge, Unavailable),
)
async def refresh(body: Refresh, parts: StateDep) -> TokenPair:
    """A new pair of tokens. The refresh token is spent; used again, it ends the session."""
    return await parts["sessions"].refresh(body.refresh_token)


@router.post(
    "/auth/logout",
    status_code=204,
    responses=answers(NotAuthenticated, InvalidToken, Unavailable),
)
async def logout(caller: CallerDep, parts: StateDep) -> None:
    """End this session: its access and refresh tokens stop working at once."""
    await parts["sessions"].end(caller)


async def _spend_login(request: Request, username: str) -> None:
    # Never an account alone, or anyone could lock its owner out.
    where = address(request)
    await spend(request, rates.LOGIN_ADDRESS, where)
    await spend(request, rates.LOGIN, f"{where} {fold(username)}")
