"""The documents say what the code says."""

import re
from pathlib import Path

import pytest
from annotated_types import Ge, Gt, Le, Lt
from pydantic.fields import FieldInfo

from seatsvc.app import create_app
from seatsvc.cli import SCREEN, USER
from seatsvc.errors import BY_CODE
from seatsvc.settings import Settings, load
from tests.conftest import SECRET
from tests.documents import GUIDES

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
DECISIONS = sorted((ROOT / "docs" / "decisions").glob("*.md"))
DOCUMENTS = [*GUIDES, ROOT / "CHANGELOG.md", *DECISIONS]
# Of Mermaid's sequence diagrams, as much as is used.
SEQUENCE = re.compile(
    r"participant \w+ as [\w ]+|(\w+)-{1,2}>>(\w+): [^;#]+|Note over (\w+): [^;#]+"
    r"|(?:alt|else|opt|break) [^;#]+|end"
)
PREFIX = str(Settings.model_config["env_prefix"])


def table(heading: str) -> list[list[str]]:
    """The cells of README's only table whose first column has this heading."""
    found = re.findall(rf"^\| {heading} \|.*\n\|[-|]+\|\n((?:\|.*\|\n)+)", README, re.M)
    assert len(found) == 1, f"README has {len(found)} tables headed {heading}"
    return [[cell.strip() for cell in row[1:-1].split("|")] for row in found[0].splitlines()]


def variable(name: str, setting: FieldInfo) -> str:
    return str(setting.validation_alias or f"{PREFIX}{name}".upper())


def default(setting: FieldInfo) -> str:
    if setting.is_required():
        return "required"
    value = setting.get_default()
    if value in (None, ()):
        return "none"
    return f"`{int(value) if isinstance(value, bool) else value}`"


def bounds(setting: FieldInfo) -> set[int]:
    """The least and the greatest value allowed."""
    found = set()
    for limit in setting.metadata:
        match limit:
            case Ge(ge=int(value)) | Le(le=int(value)):
                found.add(value)
            case Gt(gt=int(value)):
                found.add(value + 1)
            case Lt(lt=int(value)):
                found.add(value - 1)
    return found


def test_settings_table() -> None:
    rows = table("Variable")
    said = [(name.strip("`"), value) for name, _, value, _ in rows]
    settings = {variable(*each): each[1] for each in Settings.model_fields.items()}
    assert sorted(said) == sorted((name, default(each)) for name, each in settings.items())
    for name, unit, _, _ in rows:
        numbers = {int(number) for number in re.findall(r"\d+", unit)}
        assert bounds(settings[name.strip("`")]) <= numbers, name


def test_codes_table() -> None:
    said = [(code.strip("`"), int(status)) for code, status, _ in table("Code")]
    assert sorted(said) == sorted((code, error.status) for code, error in BY_CODE.items())


def test_first_booking_is_the_screen() -> None:
    parts = {"version": "", "user": USER, "data": "", "mails": "", "admin": ""}
    screen = SCREEN.format(url="http://127.0.0.1:8000", **parts)
    section = README.partition("## The first booking")[2].partition("\n## ")[0]
    commands = re.compile(r"^ *((?:curl|TOKEN=).*)", re.M)
    printed, said = (commands.findall(text) for text in (screen, section))
    assert len(printed) == 3
    assert said == printed


def test_named_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    named = set(re.findall(r"(?:^|`)make ([a-z.-]+)", README, re.M))
    assert {"run", "test", "up"} <= named
    assert named <= set(re.findall(r"^([a-z.-]+):", makefile, re.M))


def called(document: Path) -> set[str]:
    """The calls of ours that it names, without names and values: GET /events/{}."""
    text = document.read_text()
    if document.name == "coming-from.md":  # the first column is theirs
        text = re.sub(r"^\|[^|]*\|", "|", text, flags=re.M)
    calls = re.findall(r"`((?:GET|POST|PUT|PATCH|DELETE) /[^`?\s]*)", text)
    return {re.sub(r"/(\{\w+\}|\d+)(?=/|$)", "/{}", call) for call in calls}


def test_named_calls_exist() -> None:
    urls = {"database_url": "postgresql://postgres/seatsvc", "redis_url": "redis://redis"}
    app = create_app(load(**urls, jwt_secret=SECRET, _env_file=None))
    ours = {
        f"{method.upper()} {re.sub(r'{[^}]*}', '{}', path)}"
        for path, methods in app.openapi()["paths"].items()
        for method in methods
    }
    wrong = {document.name: called(document) - ours for document in DOCUMENTS}
    assert {name: calls for name, calls in wrong.items() if calls} == {}
    assert len(called(ROOT / "docs" / "coming-from.md")) > 15


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_drawings_are_sequences(document: Path) -> None:
    """What Mermaid would not draw: a word that it does not know, a `;`, a block without its end."""
    for drawing in re.findall(r"^```mermaid\n(.*?)^```$", document.read_text(), re.M | re.S):
        first, *lines = [line.strip() for line in drawing.splitlines()]
        assert first == "sequenceDiagram"
        people = {line.split()[1] for line in lines if line.startswith("participant ")}
        depth = 0
        for line in lines:
            known = SEQUENCE.fullmatch(line)
            assert known, line
            assert {name for name in known.groups() if name} <= people, line
            depth += line.startswith(("alt ", "opt ", "break ")) - (line == "end")
            assert depth >= (1 if line.startswith("else ") else 0), line
        assert depth == 0


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", document.read_text())
    relative = [link for link in links if not re.match(r"[a-z]+:", link)]
    assert not [link for link in relative if not (document.parent / link).exists()]


def test_decisions_are_numbered_and_whole() -> None:
    headings = ["## Context", "## Decision", "## Consequences", "## Alternatives"]
    for number, document in enumerate(DECISIONS, start=1):
        text = document.read_text()
        assert document.name.startswith(f"{number:04}-")
        assert text.startswith(f"# {number:04} ")
        assert re.findall(r"^## .*", text, re.M) == headings, document.name
