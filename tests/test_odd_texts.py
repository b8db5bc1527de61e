"""Text that looks like a command: it is kept and shown as it is, or is nobody's."""

import pytest

from tests import bad_values as bad
from tests.conftest import PASSWORD, Person, Service, problem_of
from tests.organizing import create, organizer

TEXTS = [
    *(text for text in (*bad.SQL, *bad.REDIS) if text.isprintable()),
    "Grüße", "Ünïcödé", "日本語", "🎟 Tickets", "a\u00a0b", "e\u0301", "Bob\u2019s \u201cbest\u201d",
    "\U0001f468\u200d\U0001f469\u200d\U0001f467 family", "<script>alert(1)</script>", "{{7*7}}",
    "${jndi:ldap://x}", "../../etc/passwd", "=1+1", "\\u0000", "%00", "&amp;", "true",
]  # fmt: skip


@pytest.fixture
async def olga(shared: Service) -> Person:
    """An organizer."""
    return await organizer(shared)


async def test_names_come_back(shared: Service, olga: Person) -> None:
    """As names, venues, descriptions and ticket types they are stored, shown, and found."""
    assert len(set(TEXTS)) >= 40
    for text in TEXTS:
        kept = text.strip()
        types = [{"name": text, "price": 1, "currency": "EUR"}]
        fields = {"name": text, "venue": text, "description": text}
        event = await create(olga, **fields, ticket_types=types)
        got = (await shared.client.get(f"/events/{event['id']}")).json()
        assert (got["name"], got["venue"], got["description"]) == (kept, kept, text)
        listed = (await shared.client.get(f"/events/{event['id']}/ticket-types")).json()
        assert [each["name"] for each in listed["items"]] == [kept]
        found = await shared.client.get("/events", params={"q": kept, "limit": 100})
        assert event["id"] in [each["id"] for each in found.json()["items"]]


async def test_labels_come_back(shared: Service, olga: Person) -> None:
    """As sections, rows and seats, too."""
    labels = list(dict.fromkeys(text.strip() for text in TEXTS))
    rows = [{"name": labels[0], "seats": labels}]
    event = await create(olga, sections=[{"name": label, "rows": rows} for label in labels])
    plan = (await shared.client.get(f"/events/{event['id']}/layout")).json()
    assert [section["name"] for section in plan["sections"]] == labels
    [row] = plan["sections"][-1]["rows"]
    assert row["name"] == labels[0]
    assert [seat["number"] for seat in row["seats"]] == labels
    for label in labels:
        free = await shared.client.get("/seats", params={"event_id": event["id"], "section": label})
        assert {seat["section"] for seat in free.json()["items"]} == {label}


async def test_logins_of_nobody(shared: Service) -> None:
    """As a name or a password they open nothing, and break nothing."""
    for text in (*bad.SQL, *bad.REDIS, *bad.NULS):
        for body in ({"username": text, "password": PASSWORD}, {"username": "x", "password": text}):
            answer = await shared.client.post("/auth/login", json=body)
            problem_of(answer, 401, "invalid_credentials")


async def test_keys_of_their_own(shared: Service, olga: Person) -> None:
    """As idempotency keys they are each another one, and the same one the second time."""
    keys = [text for text in TEXTS if text.isascii() and " " not in text]
    event = await create(olga, capacity=len(keys))
    body = {"event_id": event["id"], "quantity": 1}
    seats = set()
    for key in keys:
        headers = {"Idempotency-Key": key}
        first = await olga.call("POST", "/bookings", json=body, headers=headers)
        again = await olga.call("POST", "/bookings", json=body, headers=headers)
        assert first.status_code == 201, first.text
        assert again.content == first.content
        seats.add(first.json()["seats"][0]["id"])
    assert len(seats) == len(keys) >= 20
