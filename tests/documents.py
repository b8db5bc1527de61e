"""What the documents tell a reader to type, and what they say comes back."""

import json
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
GUIDES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^(#{1,6} [^\n]*)$|^```(\w*)\n(.*?)^```$", re.M | re.S)
HIDDEN = re.compile(r"^(?:[ \t>]+```|[ \t]*~~~).*", re.M)
COMMANDS, ANSWERS = {"sh", "sql"}, {"json", "http", "text"}
# Drawings, and what stands in files: nothing that one types or gets.
OTHERS = {"ini", "mermaid"}
HEAD = re.compile(r"HTTP/1\.1 (\d{3})[^\n]*\n((?:[\w-]+:[^\n]*\n?)*)")
START = re.compile(r"(?=HTTP/1|[{\[])")
LINE_START = re.compile(rf"^{START.pattern}", re.M)
# What is another each time, but looks alike.
VARIES = [
    r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}",
    r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z",
    r"\b[0-9a-f]{16,32}\b",
]


@dataclass
class Block:
    """Commands, and the answers that the document shows below them, in the same section."""

    language: str
    text: str
    answers: list[tuple[str, str]] = field(default_factory=list)


def blocks(document: str) -> list[Block]:
    """All that can be typed. Raises ValueError for a block of which nobody knows what it is."""
    if hidden := HIDDEN.search(document):
        raise ValueError(f"a block that is not found: {hidden[0]}")
    found: list[Block] = []
    current: Block | None = None
    for heading, language, text in FENCE.findall(document):
        if heading:
            current = None
        elif language in COMMANDS:
            current = Block(language, text)
            found.append(current)
        elif language in ANSWERS and current:
            current.answers.append((language, text))
        elif language not in OTHERS | ANSWERS:
            raise ValueError(f"a block in {language or 'no language'!r}: {text[:60]}")
    return found


def illustrations(document: str) -> list[str]:
    """JSON that no command above it gives."""
    alone, has_command = [], False
    for heading, language, text in FENCE.findall(document):
        has_command = not heading and (has_command or language in COMMANDS)
        if language == "json" and not has_command:
            alone.append(text)
    return alone


def commands(script: str) -> list[str]:
    """The commands of a script, of one or more lines each."""
    found, command = [], ""
    for line in script.splitlines():
        command += line
        try:
            shlex.split(command)
        except ValueError:  # within quotes, or the line goes on
            command += "\n"
            continue
        found += [command] if command.strip() else []
        command = ""
    return found


def parts(text: str) -> Iterator[Any]:
    """The heads and the JSON documents in a text: of what is shown, and of what came back."""
    text, at = text.replace("\r\n", "\n"), 0
    while match := START.match(text, at) or LINE_START.search(text, at):
        at = match.start()
        if head := HEAD.match(text, at):
            lines = [line.partition(":") for line in head[2].splitlines()]
            yield int(head[1]), {name.lower(): value.strip() for name, _, value in lines}
            at = head.end()
        else:
            document, at = json.JSONDecoder().raw_decode(text, at)
            yield document


def differs(shown: Any, real: Any, at: str = "") -> str | None:
    """Where an answer is not as it is shown, but for what is another each time.

    `…` in what is shown stands for any text, for further items, or for further fields.
    """
    if isinstance(shown, tuple) and isinstance(real, tuple):  # a head: some of the headers
        return differs(
            {"status": shown[0], **shown[1], "…": ""}, {"status": real[0], **real[1]}, at
        )
    if isinstance(shown, dict) and isinstance(real, dict):
        return _fields_differ(shown, real, at)
    if isinstance(shown, list) and isinstance(real, list):
        named = [each for each in shown if each != "…"]
        if len(named) > len(real) or (len(named) < len(real) and named == shown):
            return f"{at}: {len(real)} items"
        pairs = enumerate(zip(named, real, strict=False))
        found = (differs(a, b, f"{at}[{n}]") for n, (a, b) in pairs)
        return next(filter(None, found), None)
    if isinstance(shown, str) and isinstance(real, str):
        return None if re.fullmatch(_pattern(shown), _same(real), re.S) else f"{at}: {real}"
    return None if shown == real and type(shown) is type(real) else f"{at}: {real}"


def _fields_differ(shown: dict[str, Any], real: dict[str, Any], at: str) -> str | None:
    named = shown.keys() - {"…"}
    if named - real.keys() or (named != real.keys() and "…" not in shown):
        return f"{at}: the fields {sorted(real)}"
    return next(filter(None, (differs(shown[n], real[n], f"{at}.{n}") for n in named)), None)


def _same(text: str) -> str:
    """With the same in place of what is another each time."""
    for pattern in VARIES:
        text = re.sub(pattern, "~", text)
    return text


def _pattern(shown: str) -> str:
    return re.escape(_same(shown)).replace("…", ".*")
