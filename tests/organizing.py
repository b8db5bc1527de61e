"""What organizers do, for the tests."""

import json
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import httpx

from seatsvc import db
from seatsvc.orders import Order
from tests.conftest import Person, Service, buyer

HALL: dict[str, Any] = {"name": "A", "rows": [{"name": "1", "seats": 10}]}


async def organizer(service: Service, role: str = "organizer") -> Person:
    """A new one."""
    return await service.sign_up(f"org-{uuid4().hex}", role)


async def post(person: Person, path: str, body: object) -> httpx.Response:
    """Any JSON, such as only a careless client makes."""
    headers = {"Content-Type": "application/json"}
    return await person.call("POST", path, content=json.dumps(body), headers=headers)


async def create(person: Person, **body: Any) -> dict[str, Any]:
    """An event that is accepted; ten numbered seats, unless the body says otherwise."""
    hall = {} if {"capacity", "sections"} & set(body) else {"sections": [HALL]}
    answer = await post(person, "/events", {"name": "Event", **hall, **body})
    assert answer.status_code == 201, answer.text
    event: dict[str, Any] = answer.json()
    return event


def in_hours(hours: float) -> str:
    """An RFC 3339 time, from now on."""
    return (datetime.now(UTC) + timedelta(hours=hours)).isoformat()


async def seats_of(service: Service, event: dict[str, Any]) -> list[int]:
    """The ids of the event's places."""
    rows = await service.sql("select id from seats where event_id = $1 order by id", event["id"])
    return [row["id"] for row in rows]


@asynccontextmanager
async def half_done(service: Service, noun: str, query: str, *args: object) -> AsyncIterator[None]:
    """A write by another worker that has done its work, and commits when the block ends."""
    async with service.pool.acquire() as connection, connection.transaction():
        await connection.fetch(db.queries(noun)[query], *args)
        yield


def half_booked(
    service: Service, person: Person, event: dict[str, Any], seat: int
) -> AbstractAsyncContextManager[None]:
    """A booking whose commit is still to come."""
    token = buyer(service, person)
    order = Order(uuid4(), token.user_id, token.session_id, event["id"], (seat,))
    return half_done(service, "bookings", "book", 1, json.dumps([order.as_json()]))
