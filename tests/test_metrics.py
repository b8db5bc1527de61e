"""What operators can measure: counted right, in one process and in several."""

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from seatsvc.app import every
from tests.conftest import Person, Service, until
from tests.test_races_workers import client_of, worker

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


async def read(client: httpx.AsyncClient) -> Samples:
    """All samples by name and labels."""
    answer = await client.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=")
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def value(samples: Samples, name: str, **labels: str) -> float:
    """One of them; 0 if nothing was counted yet."""
    return samples.get((f"seatsvc_{name}", tuple(sorted(labels.items()))), 0)


async def counted(service: Service, name: str, call: Any, **labels: str) -> float:
    """By how much a call changes a figure."""
    before = value(await read(service.client), name, **labels)
    await call
    return value(await read(service.client), name, **labels) - before


async def test_requests_by_route(shared: Service) -> None:
    """Each once, under its route's template, with how long it took."""
    venue = await shared.add_event()
    path, route = f"/events/{venue.event_id}/availability", "/events/{event_id}/availability"
    call = shared.client.get(path)
    labels = {"method": "GET", "route": route, "status": "200"}
    assert await counted(shared, "requests_total", call, **labels) == 1
    assert await counted(shared, "request_seconds_count", shared.client.get(path), route=route) == 1
    missing = {"method": "GET", "route": "unmatched", "status": "404"}
    assert await counted(shared, "requests_total", shared.client.get("/nope"), **missing) == 1


async def test_no_versions(shared: Service) -> None:
    """Nobody learns what could be attacked."""
    assert "python_info" not in (await shared.client.get("/metrics")).text


async def test_orders_by_outcome(shared: Service, ann: Person, ben: Person) -> None:
    """Done, and each refusal by its code."""
    venue = await shared.add_event()
    seat = venue.seats[0]
    booked = {"kind": "booking", "outcome": "done"}
    assert await counted(shared, "orders_total", ann.book(seat), **booked) == 1
    taken = {"kind": "booking", "outcome": "seat_taken"}
    assert await counted(shared, "orders_total", ben.book(seat), **taken) == 1
    hold = ann.call("POST", "/holds", json={"seat_id": venue.seats[1]})
    assert await counted(shared, "orders_total", hold, kind="hold", outcome="done") == 1


async def test_holds_that_become_bookings(shared: Service, ann: Person) -> None:
    """Each once."""
    venue = await shared.add_event()
    hold = await ann.call("POST", "/holds", json={"seat_id": venue.seats[0]})
    body = {"hold_id": hold.json()["id"]}
    call = ann.call("POST", "/bookings", json=body)
    assert await counted(shared, "holds_booked_total", call) == 1
    again = ann.call("POST", "/bookings", json=body)
    assert await counted(shared, "holds_booked_total", again) == 0


async def test_looks_and_locks(shared: Service, ann: Person) -> None:
    """A first look fills, a second finds the same; a batch is locked once."""
    venue = await shared.add_event()
    path = f"/events/{venue.event_id}/availability"
    assert await counted(shared, "cache_looks_total", shared.client.get(path), found="fill") == 1
    assert await counted(shared, "cache_looks_total", shared.client.get(path), found="same") == 1
    assert await counted(shared, "lock_seconds_count", ann.book(venue.seats[0])) == 1


async def test_contention(shared: Service, ann: Person) -> None:
    """An order that meets somebody else's lock."""
    venue = await shared.add_event()
    key = f"{{{venue.event_id}}}:lock:{venue.seats[0]}"
    await shared.state["redis"]._client.set(key, "somebody", px=5000)
    assert await counted(shared, "lock_contended_total", ann.book(venue.seats[0])) == 1


async def test_what_goes_up_and_down(shared: Service) -> None:
    """Is noted every second."""

    async def noted() -> bool:
        samples = await read(shared.client)
        return value(samples, "pool_connections", state="max") > 0

    await until(noted)
    samples = await read(shared.client)
    for lane in ("sessions", "bookings", "holds", "looks", "redis", "passwords"):
        assert ("seatsvc_lane_waiting", (("lane", lane),)) in samples
    assert value(samples, "breaker_open") == 0


BREAKS = {
    "taken_without_booking": "update seats set booking_id = gen_random_uuid() where id = 2",
    "booked_but_not_taken": "update seats set booking_id = null where id = 1",
    "half_cancelled": "update booking_seats set active = false where seat_id = 1",
    "miscounted_types": "update ticket_types set taken = taken + 1 where quantity is not null",
}


@pytest.mark.parametrize("invariant", BREAKS)
async def test_the_reconciler_sees_what_contradicts(
    service: Service, alice: Person, invariant: str
) -> None:
    """Nothing in good data; each kind of damage under its name."""
    await service.sql("update ticket_types set quantity = 40 where id = 1")
    await alice.book(1)
    await service.sql("update ticket_types set taken = (select count(*) from booking_seats"
                      " where ticket_type_id = 1) where id = 1")  # fmt: skip
    reconciler = service.state["reconciler"]
    await reconciler.check()
    samples = await read(service.client)
    found = {value(samples, "invariant_violations", invariant=name) for name in BREAKS}
    assert found == {0}
    await service.sql(BREAKS[invariant])

    async def seen() -> bool:  # unless another service of this process has just looked at its own
        await reconciler.check()
        samples = await read(service.client)
        return value(samples, "invariant_violations", invariant=invariant) > 0

    await until(seen)


async def test_lags(service: Service, alice: Person) -> None:
    """How long the oldest mail has been waiting, and how many were given up."""
    await service.sql(
        "insert into outbox (kind, user_id, created_at, next_try_at, dead_at)"
        " values ('verify_email', $1, now() - interval '5 s', now() + interval '1 hour', null),"
        " ('verify_email', $1, now(), now(), now())", alice.id,
    )  # fmt: skip

    async def told() -> bool:  # unless another service of this process has just told its own
        await service.state["reconciler"].measure()
        samples = await read(service.client)
        lag_s, dead = value(samples, "outbox_lag_seconds"), value(samples, "outbox_dead")
        return 5 <= lag_s < 60 and dead == 1

    await until(told)


@pytest.mark.slow
async def test_two_workers_count_together(service: Service, tmp_path: Path) -> None:
    """Whichever of them is asked."""
    with worker(service.settings, tmp_path, "--workers", "2") as url:
        async with client_of(url) as client:
            for _ in range(20):
                async with httpx.AsyncClient(base_url=url) as other:
                    assert (await other.get("/livez")).status_code == 200
            labels = {"method": "GET", "route": "/livez", "status": "200"}
            for _ in range(4):
                assert value(await read(client), "requests_total", **labels) == 20


async def test_a_chore_that_fails_is_repeated(caplog: pytest.LogCaptureFixture) -> None:
    """And told of."""
    calls: list[int] = []

    async def work() -> None:
        calls.append(1)
        raise ValueError

    chore = asyncio.create_task(every(0.01, work))

    async def repeated() -> bool:
        return len(calls) > 1

    await until(repeated)
    chore.cancel()
    assert "failed" in caplog.text
