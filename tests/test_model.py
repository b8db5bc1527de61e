"""Random calls, one after the other, against a simple model of what should be so."""

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any, TypeVar

import httpx
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from hypothesis.stateful import run_state_machine_as_test as run

from seatsvc.app import every
from tests.conftest import Person, Service, Venue
from tests.conftest import problem_of as check
from tests.model import (
    HALL,
    PRICES,
    USERS,
    Model,
    Sale,
    add_event,
    expire_now,
    sale_of,
    shown,
    states_of,
)
from tests.test_races import crowd

T = TypeVar("T")
CALL_S = 30
# What makes no sense in this hall at any time is refused before the key is looked up.
NEVER = {"not_found": 404, "ticket_type_not_allowed": 422}
users = st.integers(0, USERS - 1)
keys = st.sampled_from([None, None, None, "one", "two"])
paths = st.sampled_from(["bookings", "holds"])
types = st.sampled_from([None, None, None, None, *PRICES])
places = st.lists(st.integers(0, len(HALL) - 1), min_size=1, max_size=3, unique=True)
anything = st.integers(0, 1000)
GENERATE = [Phase.generate]
# Mostly their own.
strangers = st.sampled_from([0, 0, 0, 0, 1])


class Machine(RuleBasedStateMachine):
    """Calls the service, compares the answer with the model's, and then all that can be read."""

    service: Service
    loop: asyncio.AbstractEventLoop

    def __init__(self) -> None:
        super().__init__()
        self.model = Model()
        self.venue: Venue = self.wait(add_event(self.service))
        self.people: list[Person] = self.wait(crowd(self.service, count=USERS + 1))
        rows = self.sql(
            "select name, id from ticket_types where event_id = $1", self.venue.event_id
        )
        self.type_ids: dict[str | None, int | None] = {None: None, **dict(map(tuple, rows))}
        self.sql("update users set role = 'admin' where id::text = $1", self.people[-1].id)

    def wait(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of something that the service's loop does."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(CALL_S)

    def sql(self, query: str, *args: object) -> list[Any]:
        """What the database says."""
        return self.wait(self.service.sql(query, *args))

    def call(self, user: int, method: str, path: str, **more: Any) -> httpx.Response:
        """A call of this user."""
        return self.wait(self.people[user].call(method, path, **more))

    def ids(self, wanted: Iterable[int]) -> list[int]:
        """The ids of these places."""
        return [self.venue.seats[place] for place in wanted]

    def order(
        self,
        user: int,
        path: str,
        key: str | None,
        body: dict[str, Any],
        refusals: set[str | None],
    ) -> Sale | None:
        """Hold or book; the sale that the model must know from now on."""
        body = {name: value for name, value in body.items() if value is not None}
        headers = {"Idempotency-Key": key} if key else {}
        answer = self.call(user, "POST", f"/{path}", json=body, headers=headers)
        asked = (path, sorted(body.items(), key=str))
        known = self.model.answers.get((user, key)) if key else None
        if known is not None and not ("quantity" in body and refusals & NEVER.keys()):
            if known[0] == asked:
                assert answer.content == known[1], answer.text
                assert answer.headers["idempotency-replayed"] == "true"
            else:
                check(answer, 422, "idempotency_key_reused")
            return None
        assert "idempotency-replayed" not in answer.headers
        if answer.status_code != 201 or None not in refusals:
            code = answer.json().get("code")
            assert code in refusals, answer.text
            assert answer.status_code == NEVER.get(code, 409)
            return None
        if key:
            self.model.answers[user, key] = asked, answer.content
        return sale_of(self.venue, self.type_ids, path, user, answer.json())

    @rule(user=users, path=paths, wanted=places, kind=types, key=keys)
    def take(
        self, user: int, path: str, wanted: list[int], kind: str | None, key: str | None
    ) -> None:
        """Hold or book these places."""
        refusal = self.model.refusal(user, wanted, kind)
        body = {"seat_ids": self.ids(wanted), "ticket_type_id": self.type_ids[kind]}
        sale = self.order(user, path, key, body, {refusal})
        if sale:
            assert sale.types == self.model.types_of(sorted(wanted), kind)
            self.model.sales.append(sale)

    @rule(
        user=users,
        path=paths,
        quantity=st.integers(1, 3),
        section=st.sampled_from([None, None, None, None, "A", "B", "Field", "Nowhere"]),
        kind=types,
        key=keys,
    )
    def take_best(
        self,
        user: int,
        path: str,
        quantity: int,
        section: str | None,
        kind: str | None,
        key: str | None,
    ) -> None:
        """Hold or book so many places, whichever are best."""
        model = self.model
        refusals = model.refusals_of_best(user, quantity, section, kind)
        body = {
            "event_id": self.venue.event_id,
            "quantity": quantity,
            "section": section,
            "ticket_type_id": self.type_ids[kind],
        }
        sale = self.order(user, path, key, body, refusals)
        if sale:
            wanted = list(sale.types)
            assert len(wanted) == quantity
            assert model.refusal(user, wanted, kind) is None, (wanted, model.states())
            assert sale.types == model.types_of(wanted, kind)
            assert all(section in (None, HALL[place][0]) for place in wanted)
            model.sales.append(sale)

    @rule(stranger=strangers, which=anything, key=keys)
    def book_hold(self, stranger: int, which: int, key: str | None) -> None:
        """Book what is held, or was; or is another's; or is no hold at all."""
        hold = self.pick(which)
        if hold is None:
            return
        user = (hold.user + stranger) % USERS
        if hold.path != "holds" or hold.user != user:
            answer = self.call(user, "POST", "/bookings", json={"hold_id": hold.id})
            check(answer, 404, "not_found")
            return
        refusal = "hold_expired" if not hold.runs else self.model.limit(user, len(hold.types), hold)
        sale = self.order(user, "bookings", key, {"hold_id": hold.id}, {refusal})
        if sale:
            assert sale.types == hold.types
            hold.runs = False
            self.model.sales.append(sale)

    @rule(stranger=strangers, which=anything)
    def give_back(self, stranger: int, which: int) -> None:
        """Cancel or release something."""
        sale = self.pick(which)
        if sale is None:
            return
        user = (sale.user + stranger) % USERS
        answer = self.call(user, "DELETE", f"/{sale.path}/{sale.id}")
        if sale.user != user or (sale.path == "holds" and not sale.runs):
            check(answer, 404, "not_found")
        elif not sale.runs:
            check(answer, 409, "already_cancelled")
        else:
            assert answer.status_code == (200 if sale.path == "bookings" else 204)
            sale.runs = False

    @rule(stranger=strangers, which=anything)
    def extend(self, stranger: int, which: int) -> None:
        """Let a hold run longer."""
        hold = self.pick(which, "holds")
        if hold is None:
            return
        user = (hold.user + stranger) % USERS
        answer = self.call(user, "POST", f"/holds/{hold.id}/extend")
        if hold.user != user:
            check(answer, 404, "not_found")
        elif not hold.runs:
            check(answer, 409, "hold_expired")
        else:
            assert answer.status_code == 200, answer.text

    @rule(which=anything)
    def expire(self, which: int) -> None:
        """The time of a hold that runs is up."""
        hold = self.pick(which, "holds")
        if hold is None or not hold.runs:
            return
        hold.runs = False
        self.wait(expire_now(self.service, hold.id))
        self.wait(shown(self.service, self.venue, self.model.states()))

    @rule(wanted=places)
    def block(self, wanted: list[int]) -> None:
        """Take places off sale, or put back what is."""
        model = self.model
        if model.blocked:
            assert self.blocks("DELETE", {*wanted, *model.blocked}).status_code == 204
            model.blocked.clear()
            return
        answer = self.blocks("POST", wanted)
        owners = [owner for place in sorted(wanted) if (owner := model.owner(place))]
        if owners:
            check(answer, 409, "seat_taken" if owners[0].path == "bookings" else "seat_held")
        else:
            assert answer.status_code == 204, answer.text
            model.blocked.update(wanted)

    def blocks(self, method: str, wanted: Iterable[int]) -> httpx.Response:
        """A call of an admin."""
        body = {"seat_ids": self.ids(wanted)}
        return self.call(-1, method, f"/events/{self.venue.event_id}/blocks", json=body)

    def pick(self, which: int, path: str | None = None) -> Sale | None:
        """One of the sales. What there is depends on which places the service picked, so that no
        precondition may ask: it must be the same in every run."""
        some = [sale for sale in self.model.sales if path in (None, sale.path)]
        return some[which % len(some)] if some else None

    @invariant()
    def seen(self) -> None:
        """The hall, the free seats, the counts, and everybody's bookings are the model's."""
        states, event_id = self.model.states(), self.venue.event_id
        assert self.wait(states_of(self.service, self.venue)) == states
        free = {seat for seat, state in zip(self.venue.seats, states, strict=True) if state == "f"}
        assert self.wait(self.service.free(event_id=event_id)) == free
        event = self.call(0, "GET", f"/events/{event_id}").json()
        counts = [event["available"], event["held"], event["booked"]]
        assert counts == [states.count("f"), states.count("h"), states.count("b")]
        for user in range(USERS):
            items = self.call(user, "GET", "/bookings?limit=100").json()["items"]
            mine = [
                (sale.id, "active" if sale.runs else "cancelled", self.ids(sale.types))
                for sale in self.model.sales
                if sale.path == "bookings" and sale.user == user
            ]
            assert mine[::-1] == [
                (each["id"], each["status"], [seat["id"] for seat in each["seats"]])
                for each in items
            ]


async def play(shared: Service, **bounds: Any) -> None:
    """Run the machine in a thread, while this loop runs the service and looks for what expired."""
    expiry = asyncio.create_task(every(0.02, shared.state["holds"].expire))
    loop = asyncio.get_running_loop()
    machine = type("BoundMachine", (Machine,), {"service": shared, "loop": loop})
    checks = list(HealthCheck)
    bounded = settings(
        deadline=None,
        database=None,
        report_multiple_bugs=False,
        suppress_health_check=checks,
        **bounds,
    )
    try:
        await asyncio.to_thread(run, machine, settings=bounded)
    finally:
        expiry.cancel()


async def test_model(shared: Service) -> None:
    """Always the same sequences of calls."""
    await play(
        shared,
        max_examples=4,
        stateful_step_count=25,
        derandomize=True,
        phases=GENERATE,
    )
