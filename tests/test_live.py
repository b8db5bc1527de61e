"""Watching an event: what is told, to whom, and that nothing is missed."""

import asyncio
from contextlib import AbstractAsyncContextManager, AsyncExitStack

import httpx
import pytest

from seatsvc import live, patience
from seatsvc.settings import Settings
from tests.conftest import Person, Service, Venue, problem_of, serve, until
from tests.gate import gate
from tests.organizing import create, organizer, seats_of
from tests.test_availability import availability, shown
from tests.watching import Stream, watching

SOON_S = 1.0


def watch(
    service: Service, venue: Venue, last_id: str | None = None
) -> AbstractAsyncContextManager[Stream]:
    """Watch this event."""
    return watching(service.client, venue.event_id, venue.seats[0], last_id)


async def book(person: Person, seat: int) -> str:
    """The path of a booking that succeeds."""
    answer = await person.book(seat)
    assert answer.status_code == 201, answer.text
    return str(answer.headers["location"])


async def test_first_a_snapshot(shared: Service) -> None:
    """It is the availability; the answer is not to be stored, and has no length."""
    venue = await shared.add_event()
    async with watch(shared, venue) as stream:
        told = await stream.next()
        assert stream.answer.headers["content-type"].startswith("text/event-stream")
        assert stream.answer.headers["cache-control"] == "no-store"
        assert "content-length" not in stream.answer.headers
    assert (told.name, told.data) == ("snapshot", await availability(shared, venue))


async def test_then_each_change(shared: Service, ann: Person) -> None:
    """Bookings, holds, cancellations and blocks: the places, the counts and the version."""
    boss = await organizer(shared)
    event = await create(boss)
    venue = Venue(event["id"], await seats_of(shared, event))
    one, two, three, *_ = venue.seats
    async with watch(shared, venue) as stream:
        await stream.next()
        path = await book(ann, one)
        told = await stream.next()
        assert (told.name, told.data["seats"]) == ("change", [{"id": one, "state": "b"}])
        now = await availability(shared, venue)
        assert (told.id, told.data["counts"]) == (now["version"], now["counts"])
        for change, states in (
            (ann.call("POST", "/holds", json={"seat_ids": [two, three]}), {two: "h", three: "h"}),
            (ann.call("DELETE", path), {one: "f"}),
            (
                boss.call("POST", f"/events/{event['id']}/blocks", json={"seat_ids": [one]}),
                {one: "x"},
            ),
        ):
            assert (await change).status_code < 300
            told = await stream.next()
            assert {seat["id"]: seat["state"] for seat in told.data["seats"]} == states
        assert "".join(stream.states.values()) == await shown(shared, venue)


async def test_an_expired_hold_is_told(shared: Service, ann: Person) -> None:
    """Its places are free again within two seconds."""
    venue = await shared.add_event(hold_seconds=5)
    await ann.call("POST", "/holds", json={"seat_ids": [venue.seats[0]]})
    await shared.sql(
        "update seats set held_until = now(), changed = pg_current_xact_id()"
        " where event_id = $1 and hold_id is not null",
        venue.event_id,
    )
    await shared.sql("update holds set expires_at = now() where event_id = $1", venue.event_id)
    async with watch(shared, venue) as stream, asyncio.timeout(2 + SOON_S):
        await stream.until(**{f"s{venue.seats[0]}": "f"})


async def test_come_back_without_a_gap(shared: Service, ann: Person) -> None:
    """Whoever names the last version they had is told exactly what they missed."""
    venue = await shared.add_event(seats=6)
    async with watch(shared, venue) as stayed:
        async with watch(shared, venue) as left:
            version = (await left.next()).id
        for seat in venue.seats[:3]:
            await book(ann, seat)
            await stayed.until(**{f"s{seat}": "b"})
        async with watch(shared, venue, version) as back:
            missed = [await back.next() for _ in range(3)]
            assert [told.name for told in missed] == ["change"] * 3
            assert [told.data["seats"][0]["id"] for told in missed] == venue.seats[:3]
            await book(ann, venue.seats[3])
            assert (await back.next()).data["seats"] == [{"id": venue.seats[3], "state": "b"}]


async def test_come_back_to_what_one_knows(shared: Service, ann: Person) -> None:
    """No snapshot for those who have the present version."""
    venue = await shared.add_event()
    version = (await availability(shared, venue))["version"]
    async with watch(shared, venue, version) as stream:
        await book(ann, venue.seats[0])
        assert (await stream.next()).name == "change"


@pytest.mark.parametrize("last_id", ["0123456789abcdef", "7-0", "x" * 64])
async def test_come_back_with_what_nobody_knows(shared: Service, last_id: str) -> None:
    """Starts anew."""
    venue = await shared.add_event()
    async with watch(shared, venue, last_id) as stream:
        assert (await stream.next()).name == "snapshot"


async def test_never_behind_an_answer(shared: Service, ann: Person) -> None:
    """Whoever begins to watch after a booking was answered is never shown the place free.

    A watcher is there already, so that the event is being told of, and perhaps not yet of this.
    """
    venue = await shared.add_event(seats=20)
    async with watch(shared, venue) as other:
        await other.next()
        for seat in venue.seats:
            await book(ann, seat)
            async with watch(shared, venue) as stream:
                await stream.next()
                assert stream.states[seat] == "b"


async def test_a_slow_watcher_gets_a_snapshot(
    shared: Service, ann: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is kept for them without end, and then they know all."""
    monkeypatch.setattr(live, "KEPT_MAX", 2)
    venue = await shared.add_event(seats=6)
    slow = await shared.state["live"].watch(venue.event_id)
    async with watch(shared, venue) as stream:
        assert b"event: snapshot" in await slow.next()
        for seat in venue.seats[:2]:
            await book(ann, seat)
            await stream.until(**{f"s{seat}": "b"})
        assert (await slow.next()).count(b"event: change") == 2
        for seat in venue.seats[2:5]:
            await book(ann, seat)
            await stream.until(**{f"s{seat}": "b"})
        text = await slow.next()
        assert text.startswith(b"event: snapshot")
        assert b"bbbbbf" in text
    slow.close()


async def test_great_changes_are_a_snapshot(
    shared: Service, ann: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which is shorter."""
    monkeypatch.setattr(live, "SEATS_MAX", 1)
    venue = await shared.add_event()
    async with watch(shared, venue) as stream:
        await stream.next()
        assert (await ann.book(*venue.seats[:2])).status_code == 201
        told = await stream.next()
        assert told.name == "snapshot"
        assert told.data == await availability(shared, venue)


async def test_silence_has_comments(shared: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that whoever stands between sees that somebody is there."""
    monkeypatch.setattr(live, "SILENCE_S", 0.1)
    monkeypatch.setattr(live, "LOOK_AGAIN_S", 0.1)
    venue = await shared.add_event()
    one = await shared.state["live"].watch(venue.event_id)
    async with asyncio.timeout(5):
        texts = [await one.next() for _ in range(3)]
    assert texts[1:] == [b":\n\n"] * 2
    one.close()


async def test_many_watchers_see_the_same(shared: Service, ann: Person) -> None:
    """In the same order, and none is missing."""
    venue = await shared.add_event(seats=10)
    async with AsyncExitStack() as stack:
        streams = [await stack.enter_async_context(watch(shared, venue)) for _ in range(50)]
        await asyncio.gather(*(stream.next() for stream in streams))
        await asyncio.gather(*(book(ann, seat) for seat in venue.seats))
        booked = {f"s{seat}": "b" for seat in venue.seats}
        await asyncio.gather(*(stream.until(**booked) for stream in streams))
        assert {stream.told[-1].id for stream in streams} == {streams[0].told[-1].id}


@pytest.mark.parametrize(("rest_s", "gives_way"), [(2.0, True), (0.05, False)])
async def test_answers_go_before_news(
    shared: Service,
    ann: Person,
    ben: Person,
    monkeypatch: pytest.MonkeyPatch,
    rest_s: float,
    gives_way: bool,
) -> None:
    """While somebody waits for an answer, so do watchers; but not for longer than they rest."""
    monkeypatch.setattr(live, "REST_MAX_S", rest_s)
    monkeypatch.setattr(live, "TOLD_PER_S", 0.01)
    monkeypatch.setattr(live, "AT_ONCE", 1)
    venue = await shared.add_event()
    watches = [await shared.state["live"].watch(venue.event_id) for _ in range(2)]
    for each in watches:
        await each.next()

    async def others_wait(watch: live.Watch) -> bool:
        await watch.next()
        return patience.unanswered > 0

    async with shared.pool.acquire() as connection, connection.transaction():
        await connection.execute("select from users where username = $1 for update", ben.username)
        answer = asyncio.create_task(ben.book(venue.seats[0]))
        news = [asyncio.create_task(others_wait(each)) for each in watches]
        await book(ann, venue.seats[1])
        assert await asyncio.gather(*news) == [True, not gives_way]
    await answer
    for each in watches:
        each.close()


async def test_other_workers_changes_are_told(service: Service, alice: Person) -> None:
    """At once, whoever wrote."""
    venue = Venue(1, list(range(1, 81)))
    async with serve(service.settings) as other, watch(other, venue) as stream:
        await stream.next()
        started_at = asyncio.get_running_loop().time()
        await book(alice, 7)
        await stream.until(s7="b")
        assert asyncio.get_running_loop().time() - started_at < SOON_S


async def test_without_redis(test_settings: Settings) -> None:
    """Changes are told a little later; and at once again when Redis is back."""
    async with gate(test_settings.redis_url.get_secret_value()) as way:
        settings = test_settings.model_copy(
            update={"redis_url": type(test_settings.redis_url)(way.url)}
        )
        async with serve(settings) as service, watch(service, Venue(1, [1])) as stream:
            person = await service.sign_up("alice")
            await stream.next()
            await way.cut()
            await service.sql("update events set max_bookings_per_user_per_day = null")
            await book(person, 1)
            await stream.until(s1="b")
            await way.open()
            await book(person, 2)
            await stream.until(s2="b")


async def test_end_of_an_event(shared: Service) -> None:
    """A deleted event's stream ends; there is none of an event that is not there."""
    boss = await organizer(shared)
    event = await create(boss)
    venue = Venue(event["id"], await seats_of(shared, event))
    async with watch(shared, venue) as stream:
        await stream.next()
        assert (await boss.call("DELETE", f"/events/{event['id']}")).status_code == 204
        with pytest.raises(StopAsyncIteration):
            await stream.next()
    problem_of(await shared.client.get(f"/events/{event['id']}/stream"), 404, "not_found")


async def test_whoever_leaves_leaves_nothing(shared: Service) -> None:
    """Neither a watcher, nor a task, nor a subscription."""
    venue = await shared.add_event()
    parts = shared.state["live"]
    name = f"{{{venue.event_id}}}:gen"
    async with watch(shared, venue) as stream:
        await stream.next()
        assert parts.watchers == 1

    async def gone() -> bool:
        return not (parts.watchers or parts._tasks or name in parts._subscription._names)

    await until(gone)


async def test_too_many_watchers(shared: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """503 before the worker chokes."""
    monkeypatch.setattr(live, "WATCHERS_MAX", 0)
    venue = await shared.add_event()
    answer = await shared.client.get(f"/events/{venue.event_id}/stream")
    assert problem_of(answer, 503, "unavailable")["detail"].startswith("Too many watch")


async def test_a_stop_ends_streams_cleanly(test_settings: Settings) -> None:
    """The body is complete, and the stop does not wait for anybody to leave."""
    loop = asyncio.get_running_loop()
    async with httpx.AsyncClient(timeout=30) as client:
        async with serve(test_settings) as service:
            url = f"{service.url}/events/1/stream"
            stream = await client.send(client.build_request("GET", url), stream=True)
            lines = stream.aiter_lines()
            assert await anext(lines) == "event: snapshot"
            stopped_at = loop.time()
        assert loop.time() - stopped_at < 5
        async for _ in lines:
            pass  # an incomplete body would raise
