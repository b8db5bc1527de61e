"""Mails of `seatsvc local`: kept in its folder, shown, with links that lead to it."""

import os
import re
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import httpx
import pytest

from seatsvc.cli import _mails_line, _with_mails
from seatsvc.settings import load
from tests.conftest import PASSWORD, SECRET
from tests.mailing import inbox, text

SERVERS = {"database_url": "postgresql://nowhere/none", "redis_url": "redis://nowhere"}
LIMIT_S = 60


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment that says nothing of mails."""
    for name in ("SMTP_URL", "PUBLIC_URL", "MAIL_FROM"):
        monkeypatch.delenv(f"SEATSVC_{name}", raising=False)


@pytest.mark.usefixtures("bare")
def test_folder_by_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever it was started, whatever the path holds."""
    monkeypatch.chdir(tmp_path)
    current = load(**SERVERS, jwt_secret=SECRET, _env_file=None)
    local = _with_mails(current, Path("my data#1"), "http://127.0.0.1:1234")
    assert local.smtp_url is not None
    assert local.smtp_url.get_secret_value() == f"file://{tmp_path}/my%20data%231/mails"
    assert local.public_url == "http://127.0.0.1:1234"
    assert _mails_line(local).split(maxsplit=1) == ["Mails", f"{tmp_path}/my data#1/mails\n"]


@pytest.mark.usefixtures("bare")
def test_environment_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEATSVC_SMTP_URL", "smtp://user:secret@mail.example.org")
    monkeypatch.setenv("SEATSVC_MAIL_FROM", "box@example.org")
    monkeypatch.setenv("SEATSVC_PUBLIC_URL", "https://tickets.example.org")
    current = load(**SERVERS, jwt_secret=SECRET, _env_file=None)
    assert _with_mails(current, tmp_path, "http://127.0.0.1:1234") == current
    assert _mails_line(current) == ""


@contextmanager
def seatsvc_local(folder: Path) -> Iterator[IO[str]]:
    """What it prints."""
    environment = {name: value for name, value in os.environ.items() if "SEATSVC" not in name}
    command = [sys.executable, "-m", "seatsvc", "local", "--port", "0", "--die-with-parent"]
    with subprocess.Popen(
        [*command, "--data", "data"],
        cwd=folder, env=environment, stdout=subprocess.PIPE, text=True, bufsize=1,
    ) as child:  # fmt: skip
        assert child.stdout is not None
        try:
            yield child.stdout
        finally:
            child.terminate()
            child.wait(LIMIT_S)


@pytest.mark.slow
def test_local_run(tmp_path: Path) -> None:
    """Whoever registers finds the mail in the terminal, and it stays in the folder."""
    folder = tmp_path / "data" / "mails"
    with seatsvc_local(tmp_path) as printed:
        screen = read_until(printed, r"bookings -H")
        assert str(folder) in screen
        [url] = re.findall(r"(http://[\d.:]+)/docs", screen)
        person = {"username": "ann", "password": PASSWORD, "email": "ann@example.org"}
        httpx.post(f"{url}/auth/register", json=person).raise_for_status()
        shown = read_until(printed, r"^Sent by ")
    [mail] = inbox(folder)
    assert text(mail) in shown
    assert "To: ann@example.org\nSubject: Please confirm" in shown
    assert f"\n{url}/#/verify?token=" in text(mail)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def read_until(printed: IO[str], pattern: str) -> str:
    """All lines up to the one that matches."""
    seen = ""
    for line in printed:
        seen += line
        if re.search(pattern, line):
            return seen
    pytest.fail(seen)
