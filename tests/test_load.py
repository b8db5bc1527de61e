"""The load tester: its scenarios against the service, its arguments, its users' file."""

import json
import stat
from dataclasses import replace
from io import StringIO
from pathlib import Path
from uuid import uuid4

import pytest

from seatsvc import cli
from seatsvc.load import PASSWORD_VARIABLE, plot
from seatsvc.load.client import Client, LoadError
from seatsvc.load.history import Call
from seatsvc.load.invariants import Finding
from seatsvc.load.rehearsal import Options, measure
from seatsvc.load.screen import Screen
from seatsvc.load.summary import Result, as_json, as_table, percentile
from tests.conftest import PASSWORD, Person, Service

UNCHECKED = {
    "flash-sale": set(),
    "browse": {"free seats can be booked"},
    "groups": {"free seats can be booked"},
    "last-seat": {"limits hold"},
}
CONNECTIONS = 2000


@pytest.fixture
async def organizer(shared: Service, monkeypatch: pytest.MonkeyPatch) -> Person:
    """Who makes the events."""
    monkeypatch.setattr("seatsvc.load.rehearsal.FREED_S", 0.3)
    monkeypatch.setenv(PASSWORD_VARIABLE, PASSWORD)
    return await shared.sign_up(f"organizer-{uuid4().hex}", role="organizer")


@pytest.fixture
def options(shared: Service, organizer: Person) -> Options:
    """Few of everything."""
    return Options(
        shared.url,
        "flash-sale",
        users=3,
        connections=6,
        seats=12,
        seconds=20,
        limit=5,
        organizer=organizer.username,
        password=PASSWORD,
    )


def broken(result: Result) -> list[str]:
    """What was said of the invariants that do not hold."""
    return [example for finding in result.findings for example in finding.examples]


def unchecked(result: Result) -> set[str]:
    """The invariants of which there was nothing to check."""
    return {finding.name for finding in result.findings if not finding.checked}


async def booked(service: Service, event_id: int) -> int:
    """The places that the database has as sold."""
    rows = await service.sql(
        "select count(*) from booking_seats bs join bookings b on b.id = booking_id"
        " where b.event_id = $1 and b.status = 'active'",
        event_id,
    )
    return int(rows[0]["count"])


async def test_flash_sale_sells_out(shared: Service, options: Options) -> None:
    result = await measure(replace(options, keep=True), Screen())
    assert not broken(result)
    assert unchecked(result) == UNCHECKED["flash-sale"]
    assert (result.bookings, await booked(shared, result.event_id)) == (12, 12)
    assert result.outcomes()["book"]["201"] == 12


async def test_last_seat_has_one_winner_each(shared: Service, options: Options) -> None:
    last = replace(options, scenario="last-seat", seats=2, limit=None, keep=True)
    result = await measure(last, Screen())
    assert not broken(result)
    assert unchecked(result) == UNCHECKED["last-seat"]
    assert (result.bookings, await booked(shared, result.event_id)) == (2, 2)


async def test_browse_reads_while_some_write(options: Options) -> None:
    result = await measure(replace(options, scenario="browse", seconds=1), Screen())
    assert not broken(result)
    assert unchecked(result) == UNCHECKED["browse"]
    assert {"availability", "book", "cancel", "seats"} <= result.outcomes().keys()


async def test_groups_sit_in_rows_and_stand(options: Options) -> None:
    result = await measure(replace(options, scenario="groups", seats=40, limit=15), Screen())
    assert not broken(result)
    assert unchecked(result) == UNCHECKED["groups"]
    assert result.bookings


async def test_its_event_is_off_sale_afterwards(shared: Service, options: Options) -> None:
    result = await measure(replace(options, seats=2), Screen())
    event = (await shared.client.get(f"/events/{result.event_id}")).json()
    assert event["status"] == "cancelled"


async def test_an_event_that_is_there(shared: Service, options: Options) -> None:
    """Without an organizer, its list and its report are not to be seen; and seats are taken."""
    venue = await shared.add_event(seats=5, max_bookings_per_user_per_day=1)
    assert (await (await shared.newcomer()).book(venue.seats[0])).status_code == 201
    there = replace(options, organizer=None, event_id=venue.event_id)
    result = await measure(there, Screen())
    assert not broken(result)
    assert {"the report adds up", "freed seats return"} <= unchecked(result)
    assert result.bookings == 3
    assert len(await shared.booked(venue)) == 4
    event = (await shared.client.get(f"/events/{venue.event_id}")).json()
    assert event["status"] == "on_sale"


async def test_users_are_kept_and_used_again(
    shared: Service, options: Options, tmp_path: Path
) -> None:
    file = tmp_path / "users"
    again = replace(options, seats=2, users_file=file)
    await measure(again, Screen())
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    first = json.loads(file.read_text())
    await shared.sql("delete from sessions where user_id = $1", first[0]["id"])
    assert not broken(await measure(again, Screen()))
    second = json.loads(file.read_text())
    assert [each["username"] for each in second] == [each["username"] for each in first]
    assert all(
        new["refresh_token"] != old["refresh_token"] for new, old in zip(second, first, strict=True)
    )


async def test_users_that_the_service_forgot_are_made_anew(
    options: Options, tmp_path: Path
) -> None:
    file = tmp_path / "users"
    gone = {"username": f"gone-{uuid4().hex}", "password": PASSWORD, "refresh_token": "x"}
    file.write_text(json.dumps([{**gone, "id": str(uuid4())}]))
    result = await measure(replace(options, users=1, seats=2, users_file=file), Screen())
    assert not broken(result)
    assert result.bookings == 2


async def test_wrong_password_is_one_line(options: Options) -> None:
    with pytest.raises(LoadError, match="401 invalid_credentials"):
        await measure(replace(options, password="wrong password"), Screen())


async def test_nobody_answers(options: Options) -> None:
    with pytest.raises(LoadError, match=r"Cannot connect to .*:1: Connection refused"):
        await measure(replace(options, url="http://127.0.0.1:1"), Screen())


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["flash-sale"], "--organizer admin"),
        (["flash-sale", "--event", "1", "--url", "nowhere"], "nowhere is no address"),
        (["flash-sale", "--event", "0"], "0: give 1 to"),
        (["stampede", "--event", "1"], "invalid choice: 'stampede'"),
    ],
)
def test_wrong_arguments(
    arguments: list[str], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main(["load", *arguments])
    assert end.value.code == 2
    assert line in capsys.readouterr().err


def test_password_is_not_asked_for_without_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv(PASSWORD_VARIABLE, raising=False)
    monkeypatch.setattr("sys.stdin", StringIO())
    with pytest.raises(SystemExit):
        cli.main(["load", "browse", "--organizer", "admin"])
    assert PASSWORD_VARIABLE in capsys.readouterr().err


def test_plot_needs_matplotlib(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """And says so before anything is done."""
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    with pytest.raises(SystemExit) as end:
        cli.main(["load", "browse", "--event", "1", "--plot", "out.png"])
    assert end.value.code == 2
    assert "seatsvc[bench]" in capsys.readouterr().err


def result_of(*calls: Call, broken: int = 0) -> Result:
    """A result with these calls in two seconds, and one invariant."""
    finding = Finding("no seat is sold twice", 7, broken, ["seat 3 is in a and b"] * broken)
    return Result("browse", "http://x", 1, 5, 9, 0.0, 2.0, 1, [*calls], [finding], [])


def test_tables_and_json_say_what_was_measured() -> None:
    calls = [Call("book", 0, n / 1000, 201, "") for n in range(1, 101)]
    result = result_of(*calls, Call("book", 0, 9, 0, "connection_lost"), broken=1)
    assert result.broken
    book = json.loads(as_json(result))["calls"][0]
    assert [round(book[name], 6) for name in ("p50_ms", "p95_ms", "p99_ms")] == [50, 95, 99]
    assert (book["count"], book["per_second"]) == (101, 50.5)
    table = as_table(result)
    for part in ("connection_lost", "BROKEN 1 times", "seat 3 is in a and b", "7 checked"):
        assert part in table


def test_percentiles_of_few() -> None:
    assert percentile([], 50) == 0
    assert [percentile([1, 2, 3], percent) for percent in (1, 50, 99, 100)] == [1, 2, 3, 3]


def test_bar_is_only_drawn_on_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Screen().bar(0.5, "half")
    assert not capsys.readouterr().err
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    screen = Screen()
    screen.bar(1.7, "more than all")
    screen.line("done")
    assert "100%  more than all" in (said := capsys.readouterr().err)
    assert said.endswith("\x1b[Kdone\n")


@pytest.mark.slow
def test_picture(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    file = tmp_path / "out.png"
    plot.draw(result_of(Call("book", 0, 0.1, 201, ""), Call("seats", 0, 0.2, 200, "")), file)
    assert file.read_bytes().startswith(b"\x89PNG")


async def test_each_rate_limit_is_told_once() -> None:
    told: list[tuple[str, int, int]] = []
    client = Client("http://127.0.0.1", lambda *limit: told.append(limit))
    for _ in range(2):
        client.heard({"ratelimit-policy": '"login";q=10;w=60, "login-address";q=100;w=60'})
    assert told == [("login", 10, 60), ("login-address", 100, 60)]


@pytest.mark.slow
async def test_two_thousand_connections(options: Options) -> None:
    """All are open at once, and each gets its answer."""
    crowd = replace(options, users=20, connections=CONNECTIONS, seats=500, limit=50, seconds=120)
    result = await measure(crowd, Screen())
    assert not broken(result)
    assert result.connections == CONNECTIONS
    assert result.bookings == 500
    assert result.outcomes()["availability"]["200"] >= CONNECTIONS
    assert "connection_lost" not in result.outcomes()["book"]
