"""The service keeps what its OpenAPI document says, whoever calls: schemathesis tries it all."""

import asyncio
import json
import os
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import PASSWORD, Person, Service

pytestmark = pytest.mark.slow

CASES_MIN = 100
# For a longer run, or another: FUZZ_SECONDS=600 FUZZ_SEED=2 make test-slow ARGS="-k schemathesis"
SECONDS = int(os.environ.get("FUZZ_SECONDS", "20"))
SEED = int(os.environ.get("FUZZ_SEED", "20270501"))
HOOKS = Path(__file__).with_name("fuzzing.py")
# All checks are on: hooks stand in for these two, and know the rules that a schema cannot state.
# A version that is no longer current (412) is valid data, too.
SETTINGS = """
hooks = {hooks}

[auth]
auto-signup = false
{auth}
[checks.ensure_resource_availability]
enabled = false
[checks.positive_data_acceptance]
enabled = false
expected-statuses = ["2xx", "3xx", 401, 403, 404, 409, 412]
"""
ROLES = ["nobody", "attendee", "organizer", "admin"]


def identity(person: Person) -> dict[str, Any]:
    """How to log in as this user: again whenever a token does not work any longer."""
    return {
        "name": person.username,
        "loginEndpointAuth": {
            "endpoint": "/auth/login",
            "verb": "POST",
            "contentType": "application/json",
            "payloadUserPwd": {
                "username": person.username,
                "usernameField": "username",
                "password": PASSWORD,
                "passwordField": "password",
            },
            "token": {
                "extractFrom": "body",
                "extractSelector": "/access_token",
                "sendIn": "header",
                "sendName": "Authorization",
                "sendTemplate": "Bearer {token}",
            },
        },
    }


def authentication(folder: Path, people: list[Person]) -> str:
    """Log in as the first of them; the others must not see what is the first one's."""
    if not people:
        return ""
    file = folder / "people.json"
    file.write_text(json.dumps({"auth": [identity(person) for person in people]}))
    names = [person.username for person in people]
    peers = f"peers = {json.dumps(names)}\n" if len(names) > 1 else ""
    return f"[auth.wfc]\npath = {json.dumps(str(file))}\nuser = {json.dumps(names[0])}\n{peers}"


async def people_of(service: Service, role: str) -> list[Person]:
    """Two of the role; of the admins one, since one may see what is another's."""
    if role == "nobody":
        return []
    names = ["first"] if role == "admin" else ["first", "second"]
    return [await service.sign_up(name, role) for name in names]


async def furnish(service: Service) -> None:
    """The demo event for any number of bookings."""
    await service.sql("update events set max_bookings_per_user_per_day = null")


@pytest.mark.parametrize("role", ROLES)
async def test_document_and_service_agree(service: Service, tmp_path: Path, role: str) -> None:
    """Every operation, with valid and invalid data, alone and in the order of links."""
    await furnish(service)
    people, other = await people_of(service, role), await service.sign_up("other")
    auth = authentication(tmp_path, people)
    config = tmp_path / "schemathesis.toml"
    config.write_text(SETTINGS.format(hooks=json.dumps(str(HOOKS)), auth=auth))
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "schemathesis.cli", "--config-file", str(config),
        "run", f"{service.url}/openapi.json",
        f"--seed={SEED}", f"--max-time={SECONDS}", "--continue-on-failure", "--no-color",
        "--generation-database=none",
        "--exclude-operation-id=stream_event",  # whose answer has no end
        cwd=tmp_path,
        env=os.environ | {
            "FUZZ_URL": service.url,
            "FUZZ_USERS": " ".join(person.id for person in people),
            "FUZZ_OTHER_USER": other.id,
        },
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    output = (await process.communicate())[0].decode()
    print(output)
    assert process.returncode == 0, f"schemathesis found something, with seed {SEED}"
    [cases] = re.findall(r"(\d+) generated", output)
    assert int(cases) >= CASES_MIN, "there was no time to try anything"
