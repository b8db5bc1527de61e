"""What schemathesis cannot know of this service. Its own process loads this file."""

import os
import re
from typing import Any
from uuid import uuid4

import httpx
import schemathesis
from schemathesis import Case, CheckContext, HookContext, Response
from schemathesis.specs.openapi.checks import (
    ensure_resource_availability,
    positive_data_acceptance,
)

PASSWORD = "correct horse battery"
# These end the session or the account that calls them, so each call has an account of its own.
ENDING = {"logout", "change_password", "delete_me"}
OURS = "Bearer ey"  # and not what was generated to be refused
# What they ask for besides the token.
PROOF = {"change_password": "current_password", "delete_me": "password"}

# Refusals of valid bodies because of what there is, or was: another event, type or key.
OF_STATE = {"mixed_events", "ticket_type_not_allowed", "idempotency_key_reused"}
# Rules for which JSON Schema has no words.
UNSPOKEN = re.compile(
    # A cursor is opaque: only the service makes them.
    r"cursor: use the `next_cursor`"
    # Parts of a hall that refer to each other.
    r"|is there twice|has no seat|there is no ticket type|has at most 1,000,000 places"
    # Times and prices that belong together.
    r"|must not be before|must have one currency|must be that of the event's other ticket types"
    # No reader of JSON Schema has to tell the years of a date-time.
    r"|must be between the years"
    # Bytes are not characters; nor does a schema list the common passwords, or all of Unicode.
    r"|must have at most 72 bytes|is one of the most common|must be 3 to 64 letters"
    r"|must not be little more than the username"
    # `format: email` is laxer than any mail server.
    r"|not a valid email address"
)


@schemathesis.hook
def before_load_schema(context: HookContext, raw_schema: dict[str, Any]) -> None:
    """Call our tokens bearer tokens, which they are: `ignored_auth` looks at no OAuth2 scheme."""
    for scheme in raw_schema["components"]["securitySchemes"].values():
        scheme.clear()
        scheme.update(type="http", scheme="bearer")


@schemathesis.hook
def before_call(context: HookContext, case: Case[Any], kwargs: dict[str, Any]) -> None:
    """Let no call end the run's own sessions and accounts, and the good ones see some data."""
    if case.meta and case.meta.generation.mode.is_positive:
        case.query.pop("cursor", None)  # whatever fits the schema, it is none of ours
    operation = case.operation.definition.raw["operationId"]
    if operation in ENDING and str(case.headers.get("Authorization")).startswith(OURS):
        case.headers["Authorization"] = f"Bearer {_newcomer()}"
        if operation in PROOF and isinstance(case.body, dict) and PROOF[operation] in case.body:
            case.body[PROOF[operation]] = PASSWORD
    if operation == "update_user" and case.path_parameters["user_id"] in os.environ["FUZZ_USERS"]:
        case.path_parameters["user_id"] = os.environ["FUZZ_OTHER_USER"]


def _newcomer() -> str:
    credentials = {"username": f"newcomer-{uuid4().hex}", "password": PASSWORD}
    with httpx.Client(base_url=os.environ["FUZZ_URL"]) as client:
        client.post("/auth/register", json=credentials).raise_for_status()
        answer = client.post("/auth/login", json=credentials).raise_for_status()
    return str(answer.json()["access_token"])


@schemathesis.check
def valid_data_acceptance(ctx: CheckContext, response: Response, case: Case[Any]) -> None:
    """`positive_data_acceptance`, but for refusals by rules that the document cannot state."""
    # A link may lead from a seat of no ticket type to the ticket type `None`.
    linked_to_null = None in (case.path_parameters or {}).values()
    unspoken = response.status_code == 422 and _is_unspoken(response.json(), case)
    if not linked_to_null and not unspoken:
        positive_data_acceptance(ctx, response, case)


@schemathesis.check
def created_is_available(ctx: CheckContext, response: Response, case: Case[Any]) -> None:
    """`ensure_resource_availability`, but where a 404 says that the body's seats are not there."""
    if response.status_code != 404 or "seats" not in response.json():
        ensure_resource_availability(ctx, response, case)


def _is_unspoken(problem: dict[str, Any], case: Case[Any]) -> bool:
    if problem["code"] in OF_STATE:
        return True
    said = [error["message"] for error in problem.get("errors", [])] or [problem["detail"]]
    return all(UNSPOKEN.search(text) or _is_float(text, case) for text in said)


def _is_float(said: str, case: Case[Any]) -> bool:
    """To JSON Schema 2.0 is an integer. To us it is not: floats cannot count beyond 2**53."""
    return said == "Input should be a valid integer" and _holds_float(case.body)


def _holds_float(value: object) -> bool:
    if isinstance(value, dict):
        return any(map(_holds_float, value.values()))
    if isinstance(value, list):
        return any(map(_holds_float, value))
    return isinstance(value, float)
