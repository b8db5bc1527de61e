"""What style.md says of the code's shape, read from the code."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import seatsvc

PACKAGE = Path(seatsvc.__path__[0])
FILES = sorted(PACKAGE.rglob("*.py"))
LINES_MAX = 300
FUNCTION_LINES_MAX = 50

# The parts, lowest first: each may import what stands above it here, and of its own line only
# what `SIBLINGS` names. A new module is added to one of these.
BASE = {"settings", "errors", "metrics", "patience"}
TOOLS = {
    "db", "migrations", "hosts", "lanes", "pipe", "scripts", "sentinel", "locks", "rates",
    "sections", "halls", "orders", "passwords", "tokens", "texts", "mail", "delivery",
}  # fmt: skip
SERVICES = {
    "sessions", "accounts", "events", "ticket_types", "seats", "checkout", "holds", "bookings",
    "reports", "outbox", "live", "reconciler",
}  # fmt: skip
# A sale is a way through several services; a report is a view of one.
SIBLINGS = {
    "accounts": {"sessions"},
    "checkout": {"seats"},
    "holds": {"checkout", "seats"},
    "live": {"seats"},
    "bookings": {"checkout", "holds", "seats"},
    "reports": {"bookings"},
    "outbox": {"sessions"},
}
TOP = {"__init__", "__main__", "app", "cli"}
ALONE = {"telemetry", "local", "load"}
WEB = {"fastapi", "starlette"}


def may_import(part: str) -> set[str]:
    """The parts of ours that this one may import."""
    if part == "api":
        return BASE | TOOLS | SERVICES | {"api", "telemetry"}
    if part in SERVICES | TOOLS:
        return BASE | TOOLS | SIBLINGS.get(part, set())
    if part in TOP:
        return BASE | TOOLS | SERVICES | TOP | ALONE | {"api"}
    return set()


@cache
def tree_of(file: Path) -> ast.Module:
    """The file, parsed."""
    return ast.parse(file.read_text())


def part_of(file: Path) -> str:
    """The name of a module, or of the folder that it is in."""
    return file.relative_to(PACKAGE).with_suffix("").parts[0]


def imports(file: Path) -> Iterator[str]:
    """The dotted names that a file imports, wherever in it."""
    for node in ast.walk(tree_of(file)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: a relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def parts_imported(file: Path) -> set[str]:
    """The parts of ours that a file imports."""
    ours = {name.split(".")[1] for name in imports(file) if name.startswith("seatsvc.")}
    return ours - {"__version__"}


def name_of(file: Path) -> str:
    """For the test's name."""
    return str(file.relative_to(PACKAGE))


@pytest.mark.parametrize("file", FILES, ids=name_of)
def test_every_part_has_its_place(file: Path) -> None:
    """A new module says here which kind it is."""
    assert part_of(file) in BASE | TOOLS | SERVICES | TOP | ALONE | {"api"}


@pytest.mark.parametrize("file", FILES, ids=name_of)
def test_imports_run_one_way(file: Path) -> None:
    """api → services → db, locks, lanes, scripts → settings, errors."""
    part = part_of(file)
    assert parts_imported(file) - {part} <= may_import(part)


@pytest.mark.parametrize("file", FILES, ids=name_of)
def test_http_stays_outside(file: Path) -> None:
    """Only api/ and app.py know FastAPI."""
    frameworks = {name.split(".")[0] for name in imports(file)} & WEB
    allowed = {"api": WEB, "app": WEB}
    assert frameworks <= allowed.get(part_of(file), set())


@pytest.mark.parametrize("file", FILES, ids=name_of)
def test_files_are_short(file: Path) -> None:
    """Under 300 lines."""
    assert len(file.read_text().splitlines()) < LINES_MAX


@pytest.mark.parametrize("file", FILES, ids=name_of)
def test_functions_are_short(file: Path) -> None:
    """None over 50 lines."""
    for node in ast.walk(tree_of(file)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            lines = node.end_lineno - node.lineno + 1
            assert lines <= FUNCTION_LINES_MAX, f"{node.name} has {lines} lines"
