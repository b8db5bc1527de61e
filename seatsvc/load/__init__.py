"""The load tester: knows only HTTP, and ends by checking the invariants from outside."""

import argparse
import asyncio
import getpass
import os
import sys
from collections.abc import Callable
from pathlib import Path

import uvloop

from seatsvc.load import plot, summary
from seatsvc.load.client import LoadError
from seatsvc.load.rehearsal import Options, measure
from seatsvc.load.scenarios import SCENARIOS
from seatsvc.load.screen import Screen

__all__ = ["PASSWORD_VARIABLE", "LoadError", "add_arguments", "run"]

PASSWORD_VARIABLE = "SEATSVC_LOAD_PASSWORD"
NO_EVENT = (
    "Say who makes the event for it, as in --organizer admin, or name one that may be filled, as "
    "in --event 1."
)


def _number(least: int, most: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not text.isdecimal() or not least <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"{text}: give {least:,} to {most:,}")
        return int(text)

    return parse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Those of the command line."""
    add, many = parser.add_argument, _number(1, 100_000)
    told = "; ".join(f"{name}: {each.says}" for name, each in SCENARIOS.items())
    add("scenario", choices=list(SCENARIOS), metavar="SCENARIO", help=told)
    add("--url", default="http://127.0.0.1:8000", help="the service (%(default)s)")
    add("--organizer", metavar="NAME", help="organizer or admin who makes the event; the password "
        f"is asked for, or taken from {PASSWORD_VARIABLE}")  # fmt: skip
    add("--event", type=_number(1, 2**63 - 1), metavar="ID", help="fill this event instead")
    add("--users", type=many, default=50, help="(%(default)s); each costs half a second to make")
    add("--connections", type=_number(1, 20_000), default=100, help="(%(default)s); at least one "
        "for each user")  # fmt: skip
    add("--seats", type=many, help="of the event: 1000; for last-seat 20")
    add("--seconds", type=_number(1, 3600), help="at most: 60; browse lasts 10")
    add("--limit", type=many, help="seats for each user; else enough to want twice what there is")
    add("--users-file", type=Path, metavar="FILE", help="keep the users here, and use them again")
    add("--seed", type=int, help="make the same choices again")
    add("--keep", action="store_true", help="leave the event on sale; else it is cancelled")
    add("--json", action="store_true", help="print JSON instead of tables")
    add("--plot", type=Path, metavar="FILE", help="draw a picture, as in --plot out.png")


def run(arguments: argparse.Namespace) -> None:
    """Do it, and exit with status 1 if an invariant is broken.

    Raises LoadError.
    """
    if arguments.plot:
        plot.find_plotter()
    options = _options(arguments)
    screen = Screen()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        result = runner.run(measure(options, screen))
    if arguments.plot:
        plot.draw(result, arguments.plot)
    print(summary.as_json(result) if arguments.json else summary.as_table(result))
    if result.broken:
        sys.exit(1)


def _options(given: argparse.Namespace) -> Options:
    scenario = SCENARIOS[given.scenario]
    if given.organizer is None and given.event is None:
        raise LoadError(NO_EVENT)
    seats = given.seats or scenario.seats
    return Options(
        given.url,
        given.scenario,
        given.users,
        max(given.connections, given.users),
        seats,
        given.seconds or scenario.seconds,
        given.limit or (-(-2 * seats // given.users) if scenario.limited else None),
        given.organizer,
        _password() if given.organizer else "",
        given.event,
        given.users_file,
        given.keep,
        given.seed,
    )


def _password() -> str:
    if given := os.environ.get(PASSWORD_VARIABLE):
        return given
    if not sys.stdin.isatty():
        raise LoadError(
            f"The organizer's password is asked for, or taken from {PASSWORD_VARIABLE}."
        )
    return getpass.getpass("The organizer's password: ")
