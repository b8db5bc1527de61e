"""Every operation of the OpenAPI document, called well: what tests then call badly."""

import json
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass, field, replace
from typing import Any, cast
from urllib.parse import quote, urlencode

from tests.conftest import Person, Service
from tests.organizing import create, organizer, seats_of

JSON = "application/json"
FORM = "application/x-www-form-urlencoded"
MARK = "the value to be replaced"
Schema = dict[str, Any]
Place = tuple[str | int, ...]


@dataclass(frozen=True)
class Slot:
    """Where a value goes: `path`, `query`, `header`, or a field of the `body`."""

    where: str
    at: Place
    schema: Schema
    types: frozenset[str]

    def __str__(self) -> str:
        return ".".join(map(str, (self.where, *self.at)))


@dataclass(frozen=True)
class Operation:
    """One of the service's calls, and a body that it takes."""

    id: str
    method: str
    path: str
    secured: bool
    media_type: str
    body: Any
    statuses: frozenset[int]
    slots: list[Slot] = field(repr=False)

    def slots_of(self, *where: str) -> list[Slot]:
        """Those places for values."""
        return [slot for slot in self.slots if slot.where in where]

    @property
    def takes_json(self) -> bool:
        """Does it have a JSON body?"""
        return self.media_type == JSON


@dataclass(frozen=True)
class Call:
    """A request, what is wrong with it, and how the document says that it may be answered."""

    what: str
    method: str
    url: str
    content: bytes = b""
    headers: tuple[tuple[bytes, bytes], ...] = ()
    statuses: frozenset[int] = frozenset()

    def __str__(self) -> str:
        return f"{self.method} {self.url[:100]} {self.content[:200]!r} ({self.what[:100]})"


class Document:
    """The OpenAPI document of a running service."""

    def __init__(self, document: dict[str, Any]) -> None:
        self._document = document
        self.operations = list(self._operations())

    @staticmethod
    async def of(service: Service) -> "Document":
        """As any client reads it."""
        return Document((await service.client.get("/openapi.json")).json())

    def plain(self, schema: Schema) -> Schema:
        """Without `$ref`, and without the `null` beside what a value may be."""
        if reference := schema.get("$ref"):
            found = self._document
            for part in reference.removeprefix("#/").split("/"):
                found = found[part]
            return self.plain(found)
        kinds = schema.get("anyOf") or schema.get("oneOf", [])
        if "properties" in schema or not kinds:
            return schema
        [kind, *_] = [kind for kind in kinds if kind.get("type") != "null"]
        return self.plain({**schema, "anyOf": None, "oneOf": None, **kind})

    def types(self, schema: Schema) -> frozenset[str]:
        """The JSON types that a value may have."""
        if reference := schema.get("$ref"):
            return self.types(self.plain({"$ref": reference}))
        if "type" in schema:
            return frozenset({schema["type"]})
        kinds = schema.get("anyOf") or schema.get("oneOf") or []
        return frozenset().union(*(self.types(kind) for kind in kinds))

    def example(self, schema: Schema) -> Any:
        """A value that fits: the document's own example, or one of its type."""
        schema = self.plain(schema)
        if schema.get("examples"):
            return schema["examples"][0]
        if "enum" in schema or "const" in schema:
            return schema.get("enum", [schema.get("const")])[0]
        if schema["type"] == "object":
            fields = schema["properties"].items()
            return {name: self.example(value) for name, value in fields}
        return {"array": [], "integer": 1, "number": 1.5, "boolean": True}.get(
            schema["type"], "something"
        )

    def _operations(self) -> Iterator[Operation]:
        for path, methods in self._document["paths"].items():
            for method, said in methods.items():
                content = said.get("requestBody", {}).get("content", {})
                [media_type] = content or [""]
                schema = content[media_type]["schema"] if content else {}
                body = self.example(schema) if content else None
                slots = [*self._parameters(said), *self._fields(schema, body, ())]
                yield Operation(
                    said["operationId"], method.upper(), path, bool(said.get("security")),
                    media_type, body, frozenset(map(int, said["responses"])), slots,
                )  # fmt: skip

    def _parameters(self, said: dict[str, Any]) -> Iterator[Slot]:
        for each in said.get("parameters", []):
            schema = each["schema"]
            yield Slot(each["in"], (each["name"],), self.plain(schema), self.types(schema))

    def _fields(self, schema: Schema, value: Any, at: Place) -> Iterator[Slot]:
        if isinstance(value, dict):
            fields = self.plain(schema)["properties"]
            for name in fields:
                yield Slot("body", (*at, name), self.plain(fields[name]), self.types(fields[name]))
                if name in value:
                    yield from self._fields(fields[name], value[name], (*at, name))
        elif isinstance(value, list) and value:
            items = self.plain(schema)["items"]
            yield Slot("body", (*at, 0), self.plain(items), self.types(items))
            yield from self._fields(items, value[0], (*at, 0))


@dataclass(frozen=True)
class World:
    """An admin, and one of each thing that a path can name."""

    admin: Person
    ids: dict[str, str]

    @staticmethod
    async def create(service: Service, owner: Person | None = None) -> "World":
        """By a new admin, or by this user, who must be an organizer at least."""
        owner = owner or await organizer(service, "admin")
        await organizer(service, "admin")  # so that no call is refused because of the last one
        types = [{"name": "Seat", "price": 100, "currency": "EUR"}]
        event = await create(owner, ticket_types=types)
        seats = await seats_of(service, event)
        booking, hold = await owner.book(seats[0]), await hold_of(owner, seats[1])
        [kind] = await service.sql("select id from ticket_types where event_id = $1", event["id"])
        [mail] = await service.sql(
            "insert into outbox (kind, user_id, dead_at) values ('reset_password', $1, now())"
            " returning id",
            owner.id,
        )
        ids = {
            "event_id": event["id"],
            "ticket_type_id": kind["id"],
            "booking_id": booking.json()["id"],
            "hold_id": hold["id"],
            "mail_id": mail["id"],
            "user_id": owner.id,
        }
        return World(owner, {name: str(value) for name, value in ids.items()})

    def call(
        self,
        operation: Operation,
        slot: Slot | None = None,
        text: str = "",
        what: str = "",
    ) -> Call:
        """The operation called well, but for this text in this place: JSON, if it is the body."""
        call = self._call(operation)
        what = f"{operation.id}, {slot}: {what or text[:60]!r}"
        if slot is None:
            return replace(call, what=what)
        if slot.where == "body":
            body = put(operation.body, slot.at, MARK)
            content = json.dumps(body).replace(json.dumps(MARK), text)
            return replace(call, what=what, content=content.encode())
        value = quote(text.encode("utf-8", "surrogatepass"), safe="")
        name = str(slot.at[0])
        if slot.where == "path":
            return replace(call, what=what, url=self._path(operation, {name: value}))
        if slot.where == "query":
            return replace(call, what=what, url=f"{call.url}?{name}={value}")
        header = (name.encode(), text.encode("utf-8", "surrogatepass"))
        return replace(call, what=what, headers=(*call.headers, header))

    def _call(self, operation: Operation) -> Call:
        headers = [(k.encode(), v.encode()) for k, v in self.admin.headers.items()]
        content = b""
        if operation.media_type:
            headers.append((b"Content-Type", operation.media_type.encode()))
            fields = operation.body
            content = json.dumps(fields).encode() if operation.takes_json else form(fields)
        url = self._path(operation, {})
        return Call(
            operation.id, operation.method, url, content, tuple(headers), operation.statuses
        )

    def _path(self, operation: Operation, given: dict[str, str]) -> str:
        return operation.path.format_map(self.ids | given)


async def hold_of(person: Person, *seat_ids: int) -> dict[str, Any]:
    """A hold that is given."""
    answer = await person.call("POST", "/holds", json={"seat_ids": list(seat_ids)})
    assert answer.status_code == 201, answer.text
    return cast(dict[str, Any], answer.json())


def form(fields: dict[str, Any]) -> bytes:
    """As a page's form sends it."""
    return urlencode({name: value for name, value in fields.items() if value}).encode()


def put(body: Any, at: Place, value: object) -> Any:
    """A copy of the body with the value in this place."""
    changed = deepcopy(body)
    inside = changed
    for name in at[:-1]:
        inside = inside[name]
    inside[at[-1]] = value
    return changed
