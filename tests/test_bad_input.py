"""Bad input of every kind, for every operation: refused with a stable code, and nothing is done."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import count, cycle, islice
from typing import Any

import pytest

from tests import bad_values as bad
from tests.calls import Call, Document, Operation, Slot, World
from tests.conftest import Service
from tests.wire import all_refused

CASES_MIN = 20  # of each kind
EACH_MIN = 6  # for each operation
INVALID = {"invalid_request", "malformed_body"}
# Where any text may be tried: it is nobody's name, password or token.
NOBODYS = INVALID | {"invalid_credentials", "invalid_token"}
Wrong = Callable[[Slot, str], bool]
Fault = tuple[Slot, str]
Cases = Callable[[World, Operation], Iterator[Call]]


@pytest.fixture
async def world(shared: Service) -> World:
    """One of each thing, and all an admin's."""
    return await World.create(shared)


@pytest.fixture(scope="module")
async def document(shared: Service) -> Document:
    """What the service says that it takes."""
    return await Document.of(shared)


def json_type(text: str) -> str:
    """The type of a JSON text, as schemas name it."""
    kinds = {dict: "object", list: "array", str: "string", bool: "boolean", int: "integer"}
    value = json.loads(text)
    return "null" if value is None else kinds.get(type(value), "number")


def is_type(slot: Slot, text: str) -> bool:
    """Is this JSON of a type that the place takes?"""
    kind = json_type(text)
    return kind in slot.types or (kind == "integer" and "number" in slot.types)


def is_free_text(slot: Slot) -> bool:
    """May it be any text, as far as its letters go?"""
    form = slot.schema.get("format", "password")
    return "string" in slot.types and form == "password" and "enum" not in slot.schema


def is_number(slot: Slot) -> bool:
    """Is it a number?"""
    return bool({"integer", "number"} & slot.types)


def spread(values: list[str], wrong: Wrong, least: int) -> Callable[[list[Slot]], Iterator[Fault]]:
    """For one operation after the other: all its places, each with the next of the values."""
    turn = count()

    def faults(slots: list[Slot]) -> Iterator[Fault]:
        places = [slot for slot in slots if any(wrong(slot, value) for value in values)]
        for n in range(max(len(places), least) if places else 0):
            slot = places[n % len(places)]
            found = [value for value in values if wrong(slot, value)]
            yield slot, found[next(turn) % len(found)]

    return faults


def in_bodies(values: list[str], wrong: Wrong) -> Cases:
    """These JSON texts in the fields of bodies."""
    faults = spread(values, wrong, EACH_MIN)

    def cases(world: World, operation: Operation) -> Iterator[Call]:
        if operation.takes_json:
            for slot, value in faults(operation.slots_of("body")):
                yield world.call(operation, slot, value)

    return cases


def in_urls(values: list[str], wrong: Wrong, least: int = EACH_MIN) -> Cases:
    """These texts in paths and queries."""
    faults = spread(values, wrong, least)

    def cases(world: World, operation: Operation) -> Iterator[Call]:
        for slot, value in faults(operation.slots_of("path", "query")):
            yield world.call(operation, slot, value)

    return cases


def as_whole_bodies(values: list[str]) -> Cases:
    """These JSON texts in the place of an object."""
    turn = cycle(values)

    def cases(world: World, operation: Operation) -> Iterator[Call]:
        for value in islice(turn, EACH_MIN if operation.takes_json else 0):
            call = world.call(operation, what=f"body: {value[:60]}")
            yield replace(call, content=value.encode())

    return cases


def strings(slot: Slot, value: str) -> bool:
    """Text in a place for text."""
    return "string" in slot.types


def any_place(slot: Slot, value: str) -> bool:
    """It is wrong wherever it is."""
    return True


def too_large(slot: Slot, value: str) -> bool:
    """A number beyond the place's limits."""
    return is_number(slot)


def not_text(slot: Slot, value: str) -> bool:
    """What no number, id, date or word of a list can be."""
    return not is_free_text(slot)


def bounded(slot: Slot, value: str) -> bool:
    """Text where its length has a limit, in characters or by its form."""
    return not is_free_text(slot) or "maxLength" in slot.schema


def not_empty(slot: Slot, value: str) -> bool:
    """No array at all, or one that must hold something."""
    return "array" not in slot.types or "minItems" in slot.schema


NO_OBJECTS = [text for text in bad.WRONG_TYPES if json_type(text) != "object"]
NUMBERS = bad.as_json(bad.OVERFLOWS[:13] + bad.OVERFLOWS[15:21])
LONG = [json.dumps("x" * length) for length in bad.LENGTHS]
# Every kind: how many cases it has, how they are tried, and the codes that may answer.
KINDS: dict[str, tuple[list[Any], list[Cases], set[str]]] = {
    "wrong types": (
        bad.WRONG_TYPES,
        [
            in_bodies(bad.WRONG_TYPES, lambda slot, text: not is_type(slot, text)),
            as_whole_bodies(NO_OBJECTS),
        ],
        INVALID,
    ),
    "wrong texts": (bad.WRONG_TEXTS, [in_urls(bad.WRONG_TEXTS, not_text)], INVALID),
    "overflows": (
        bad.OVERFLOWS,
        [
            in_bodies(list(map(str, bad.OVERFLOWS[:14] + bad.OVERFLOWS[15:])), too_large),
            in_urls(list(map(str, bad.OVERFLOWS[:14])), too_large),
        ],
        INVALID,
    ),
    "no numbers": (
        bad.NO_NUMBERS,
        [in_bodies(bad.NO_NUMBERS, too_large), in_urls(bad.NO_NUMBERS, too_large)],
        INVALID,
    ),
    "NUL": (
        bad.NULS,
        [in_bodies(bad.as_json(bad.NULS), strings), in_urls(bad.NULS, any_place)],
        NOBODYS,
    ),
    "lone surrogates": (
        bad.SURROGATES,
        [in_bodies(bad.as_json(bad.SURROGATES), strings), in_urls(bad.SURROGATES, not_text)],
        NOBODYS,
    ),
    "over-length": (
        bad.LENGTHS,
        [
            in_bodies(LONG, any_place),
            in_urls(["x" * length for length in bad.URL_LENGTHS], bounded),
        ],
        INVALID,
    ),
    "arrays": (
        bad.ARRAYS,
        [in_bodies(bad.ARRAYS, any_place), in_bodies(["[]"], not_empty)],
        INVALID,
    ),
    "nesting": (
        bad.NESTED,
        [in_bodies(bad.NESTED, any_place), as_whole_bodies(bad.NESTED)],
        INVALID,
    ),
    "bad ids": (
        bad.BAD_IDS,
        [in_urls(bad.BAD_IDS, lambda slot, _: str(slot.at[0]).endswith("_id"))],
        INVALID | {"not_found"},
    ),
    "SQL": (
        bad.SQL,
        [in_bodies(bad.as_json(bad.SQL), not_text), in_urls(bad.SQL, not_text)],
        INVALID | {"not_found"},
    ),
    "Redis": (
        bad.REDIS,
        [in_bodies(bad.as_json(bad.REDIS), not_text), in_urls(bad.REDIS, not_text)],
        INVALID | {"not_found"},
    ),
    "bad cursors": (
        bad.BAD_CURSORS,
        [in_urls(bad.BAD_CURSORS, lambda slot, _: slot.at == ("cursor",), len(bad.BAD_CURSORS))],
        INVALID,
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
async def test_bad_values(shared: Service, world: World, document: Document, kind: str) -> None:
    """Refused in each place of each operation where they are wrong."""
    values, cases, codes = KINDS[kind]
    assert len(set(map(str, values))) >= CASES_MIN
    calls = [
        call
        for operation in document.operations
        for each in cases
        for call in each(world, operation)
    ]
    assert len(calls) >= CASES_MIN
    await all_refused(shared, calls, codes)
