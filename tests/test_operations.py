"""What operators and documentation readers see."""

import importlib
import pkgutil
from collections.abc import AsyncIterator, Iterator
from typing import Any

import asyncpg
import httpx
import pytest
from fastapi.routing import APIRoute

from seatsvc import __version__, api, local
from seatsvc.settings import Settings
from tests.conftest import PASSWORD, Service, make_settings, problem_of, serve
from tests.gate import Gate, gate

NOBODY_HERE = "redis://127.0.0.1:1/0"
POOL_FIELDS = {"open", "idle", "max"}


@pytest.fixture
async def postgres(test_settings: Settings) -> AsyncIterator[Gate]:
    """The way to PostgreSQL."""
    async with gate(test_settings.database_url.get_secret_value()) as way:
        yield way


@pytest.fixture
async def service(servers: local.Servers, postgres: Gate) -> AsyncIterator[Service]:
    """A service behind the gate."""
    async with serve(make_settings(servers, "test", database_url=postgres.url)) as running:
        yield running


@pytest.fixture
async def no_redis(servers: local.Servers, test_settings: Settings) -> AsyncIterator[Service]:
    """A service whose Redis is gone."""
    name = test_settings.database_url.get_secret_value().rpartition("/")[2]
    async with serve(make_settings(servers, name, redis_url=NOBODY_HERE)) as running:
        yield running


async def health(service: Service) -> tuple[int, dict[str, Any]]:
    """The status and the document."""
    answer = await service.client.get("/health")
    assert answer.headers["content-type"] == "application/health+json"
    assert answer.headers["cache-control"] == "no-store"
    document: dict[str, Any] = answer.json()
    assert document["version"] == __version__
    for [check] in document["checks"].values():
        assert check["observedUnit"] == "ms"
        assert check["observedValue"] >= 0
    return answer.status_code, document


def statuses(document: dict[str, Any]) -> dict[str, str]:
    """Of each dependency."""
    return {name: check["status"] for name, [check] in document["checks"].items()}


async def test_all_is_well(shared: Service) -> None:
    """livez, readyz and health say so."""
    assert (await shared.client.get("/livez")).json() == {"status": "pass"}
    assert (await shared.client.get("/readyz")).json() == {"status": "pass"}
    status, document = await health(shared)
    assert (status, document["status"]) == (200, "pass")
    assert statuses(document) == {"postgresql": "pass", "redis": "pass"}
    pool = document["checks"]["postgresql"][0]["pool"]
    assert set(pool) == POOL_FIELDS
    assert 0 <= pool["idle"] <= pool["open"] <= pool["max"] == shared.settings.pool_size


async def test_redis_down_is_a_warning(no_redis: Service) -> None:
    """The service is still alive and ready."""
    status, document = await health(no_redis)
    assert (status, document["status"]) == (200, "warn")
    assert statuses(document) == {"postgresql": "pass", "redis": "warn"}
    assert (await no_redis.client.get("/livez")).status_code == 200
    assert (await no_redis.client.get("/readyz")).status_code == 200


async def test_breaker_shows(no_redis: Service) -> None:
    """Health says whether the service still asks Redis."""
    _, document = await health(no_redis)
    assert document["checks"]["redis"][0]["breaker"] == "closed"
    for _ in range(3):
        await no_redis.free()
    _, document = await health(no_redis)
    assert document["checks"]["redis"][0]["breaker"] == "open"


async def test_postgresql_away(service: Service, postgres: Gate) -> None:
    """Alive, but neither ready nor healthy; afterwards both again."""
    assert (await health(service))[0] == 200
    await postgres.cut()
    assert (await service.client.get("/livez")).status_code == 200
    problem_of(await service.client.get("/readyz"), 503, "unavailable")
    status, document = await health(service)
    assert (status, document["status"]) == (503, "fail")
    assert statuses(document) == {"postgresql": "fail", "redis": "pass"}
    await postgres.open()
    assert (await service.client.get("/readyz")).status_code == 200
    assert (await health(service))[0] == 200


async def test_everything_else_while_postgresql_is_away(service: Service, postgres: Gate) -> None:
    """503 that asks to come back, whatever the call; then each works again."""
    alice = await service.newcomer()
    login = {"username": alice.username, "password": PASSWORD}
    calls: list[tuple[str, str, Any]] = [
        ("GET", "/seats", None),
        ("GET", "/me", None),
        ("GET", "/bookings", None),
        ("POST", "/bookings", {"seat_id": 1}),
        ("POST", "/auth/login", login),
        ("POST", "/auth/register", {"username": "somebody", "password": PASSWORD}),
    ]
    await postgres.cut()
    for method, path, body in calls:
        answer = await alice.call(method, path, json=body)
        problem_of(answer, 503, "unavailable")
        assert int(answer.headers["retry-after"]) >= 1
    await postgres.open()
    for method, path, body in calls:
        assert (await alice.call(method, path, json=body)).is_success, path


@pytest.mark.parametrize("keeps_open", [False, True])
async def test_connections_end_while_they_are_idle(
    keeps_open: bool, service: Service, postgres: Gate
) -> None:
    """PostgreSQL ends our connections, as in a restart: nobody is told anything but 503.

    What it says reaches us a little before the connection's end, or very much before it.
    """
    postgres.keeps_open = keeps_open
    await service.client.get("/seats")
    await service.sql(
        "select pg_terminate_backend(pid) from pg_stat_activity"
        " where application_name = 'seatsvc' and datname = current_database()"
    )
    answers = [await service.client.get("/seats") for _ in range(3)]
    assert {answer.status_code for answer in answers[:2]} <= {200, 503}
    assert answers[2].status_code == 200
    postgres.keeps_open = False  # for us, too


async def test_dropped_database(servers: local.Servers, service: Service) -> None:
    """A database that is gone is an unreachable one: fail and 503, not an error of ours."""
    connection = await asyncpg.connect(servers.database_url)
    await connection.execute("drop database test with (force)")
    try:
        assert (await health(service))[0] == 503
        problem_of(await service.client.get("/readyz"), 503, "unavailable")
        problem_of(await service.client.get("/seats"), 503, "unavailable")
    finally:
        await connection.execute("create database test")
        await connection.close()


@pytest.mark.parametrize(
    "statement",
    [
        "delete from schema_migrations where version = '0001'",
        "drop table schema_migrations",
        "update schema_migrations set checksum = 'another'",
    ],
)
async def test_not_ready_without_its_migrations(service: Service, statement: str) -> None:
    """A migration that is missing, or is not this version's, keeps the traffic away."""
    assert (await service.client.get("/readyz")).status_code == 200
    await service.sql(statement)
    answer = await service.client.get("/readyz")
    assert "migrat" in problem_of(answer, 503, "unavailable")["detail"].lower()
    assert (await service.client.get("/livez")).status_code == 200


@pytest.mark.parametrize("path", ["/docs", "/redoc"])
async def test_documentation_pages(shared: Service, path: str) -> None:
    """HTML that loads the document."""
    answer = await shared.client.get(path)
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/html")
    assert "/openapi.json" in answer.text


@pytest.fixture
async def document(shared: Service) -> dict[str, Any]:
    """The OpenAPI document."""
    answer: httpx.Response = await shared.client.get("/openapi.json")
    assert answer.status_code == 200
    found: dict[str, Any] = answer.json()
    return found


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Each method, path and operation."""
    for path, item in document["paths"].items():
        for method, operation in item.items():
            yield method.upper(), path, operation


def routes() -> Iterator[APIRoute]:
    """All routes of all nouns."""
    for module in pkgutil.iter_modules(api.__path__, f"{api.__name__}."):
        router = getattr(importlib.import_module(module.name), "router", None)
        for route in router.routes if router else ():
            assert isinstance(route, APIRoute)
            yield route


def test_operation_ids(document: dict[str, Any]) -> None:
    """Every route is documented, under its function's name."""
    written = {(method, path): op["operationId"] for method, path, op in operations(document)}
    made = {
        (method, route.path): route.endpoint.__name__
        for route in routes()
        for method in route.methods or ()
        if route.include_in_schema
    }
    assert written == made
    assert len(set(made.values())) == len(made)


def test_documented_errors_are_problems(document: dict[str, Any]) -> None:
    """Each error status of each route has the one shape; but for /health, whose body is its own."""
    for method, path, operation in operations(document):
        for status, answer in operation["responses"].items():
            if int(status) < 400 or path == "/health":
                continue
            where = f"{method} {path} {status}"
            schema = answer["content"]["application/problem+json"]["schema"]
            assert schema == {"$ref": "#/components/schemas/Problem"}, where
            assert set(answer["content"]) == {"application/problem+json"}, where
            assert answer["description"], where
    schemas = document["components"]["schemas"]
    assert set(schemas["Problem"]["properties"]) == {
        "type", "title", "status", "detail", "code", "request_id", "seats", "allowance", "errors",
    }  # fmt: skip
    assert "HTTPValidationError" not in schemas


def test_every_operation_documents_its_usual_errors(document: dict[str, Any]) -> None:
    """What needs a login says 401, what takes anything 422, what takes a body 413."""
    for method, path, operation in operations(document):
        written, where = set(operation["responses"]), f"{method} {path}"
        assert "security" not in operation or "401" in written, where
        assert "parameters" not in operation or "422" in written, where
        assert "requestBody" not in operation or {"413", "422"} <= written, where


def test_references_lead_somewhere(document: dict[str, Any]) -> None:
    """No dangling $ref."""
    schemas = document["components"]["schemas"]
    for name in references(document):
        assert name.removeprefix("#/components/schemas/") in schemas


def references(node: Any) -> Iterator[str]:
    """All $ref below a node."""
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        node = list(node.values())
    if isinstance(node, list):
        for child in node:
            yield from references(child)
