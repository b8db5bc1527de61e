"""What the OpenAPI document says of bodies beyond what their types say."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pydantic import GetJsonSchemaHandler, JsonValue
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

ID_MAX = 2**63 - 1
# Control characters, line separators, what turns the reading direction, the byte order mark.
_UNSEEN = r"\x7f-\x9f\u2028-\u202e\u2066-\u2069\ufeff"
_BARRED = rf"\x00-\x1f{_UNSEEN}"
LINE = rf"^[^{_BARRED}]*$"
# A line with something in it to see.
NAME = rf"^[^{_BARRED}]*[^\s{_BARRED}][^{_BARRED}]*$"
# Several lines.
TEXT = rf"^[^\x00-\x08\x0b\x0c\x0e-\x1f{_UNSEEN}]*$"

HEADERS = {
    "X-Request-Id": "The request's, or a new one: its line in the log has it, too.",
    "WWW-Authenticate": "How to authenticate: `Bearer`.",
    "Retry-After": "When to try again, in seconds.",
    "ETag": "This version's tag, for `If-None-Match` and `If-Match`.",
    "Location": "Where the new thing is.",
    "Idempotency-Replayed": "`true` where this was answered before.",
    "Link": 'The next page, as `rel="next"`, where there is one.',
}
SOMETIMES = {("Idempotency-Replayed", 201), ("Link", 200), ("Retry-After", 409)}
OF_PROBLEMS = {
    "401": ["WWW-Authenticate"],
    "409": ["Retry-After"],
    "429": ["Retry-After"],
    "503": ["Retry-After"],
}


@dataclass(frozen=True)
class Says:
    """Among a type's annotations: the document says this of it, too."""

    keyword: str
    value: JsonValue

    def __get_pydantic_json_schema__(
        self, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """What the type says itself, and this."""
        return {**handler(core_schema), self.keyword: self.value}


def one_way(
    *ways: str, examples: list[JsonValue] | None = None
) -> Callable[[dict[str, Any]], None]:
    """For `json_schema_extra`: the ways to fill a body, as in "event_id quantity section?".

    A field of another way may be there, but must be null.
    """
    wanted = [way.split() for way in ways]
    named = {name.rstrip("?") for way in wanted for name in way}

    def extend(schema: dict[str, Any]) -> None:
        fields = schema["properties"]
        schema["oneOf"] = [
            {
                "required": [name for name in way if name in named],
                "properties": {name: _value(fields[name]) for name in way if name in named}
                | {name: {"type": "null"} for name in sorted(named - {n.rstrip("?") for n in way})},
            }
            for way in wanted
        ]
        if examples:
            schema["examples"] = examples

    return extend


def exact(part: Any) -> Any:
    """The document with its limits as the integers that they are: the framework rounds them."""
    if isinstance(part, float) and part.is_integer():
        return min(int(part), ID_MAX)
    if isinstance(part, dict):
        return {name: exact(value) for name, value in part.items()}
    return [exact(each) for each in part] if isinstance(part, list) else part


def completed(
    document: dict[str, Any], everywhere: dict[int | str, dict[str, Any]]
) -> dict[str, Any]:
    """The document with the answers and the headers that every operation may give."""
    for operations in document["paths"].values():
        for operation in operations.values():
            for status, answer in everywhere.items():
                operation["responses"].setdefault(str(status), {**answer})
            is_list = any(each["name"] == "cursor" for each in operation.get("parameters", []))
            for status, answer in operation["responses"].items():
                names = ["X-Request-Id"]
                if "application/problem+json" in answer.get("content", {}):
                    names += OF_PROBLEMS.get(status, [])
                elif is_list:
                    names.append("Link")
                said = {name: _header(name, int(status)) for name in names}
                answer["headers"] = {**answer.get("headers", {}), **said}
    return document


def with_headers(status: int, *names: str) -> dict[int | str, dict[str, Any]]:
    """What the document says of an answer's headers; `answers` says what else there is."""
    return {status: {"headers": {name: _header(name, status) for name in names}}}


def _header(name: str, status: int) -> dict[str, Any]:
    said = {"description": HEADERS[name], "schema": {"type": "string"}}
    return said if (name, status) in SOMETIMES else {**said, "required": True}


def _value(field: dict[str, Any]) -> dict[str, Any]:
    """The field's schema, without null."""
    [value] = [each for each in field["anyOf"] if each != {"type": "null"}]
    return dict(value)


# Of a read with an entity tag.
REVALIDATED: dict[int | str, dict[str, Any]] = {
    **with_headers(200, "ETag"),
    304: {"description": "You have this version.", "headers": {"ETag": _header("ETag", 304)}},
}
IF_NONE_MATCH: dict[str, Any] = {
    "parameters": [
        {
            "name": "If-None-Match",
            "in": "header",
            "description": "The `ETag` of the version that you have.",
            "schema": {"type": "string"},
        }
    ]
}
