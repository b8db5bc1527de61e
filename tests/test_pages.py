"""The seat-map page, as a browser fetches it."""

import re
from pathlib import Path
from typing import Any

import pytest

import seatsvc
from seatsvc.api.pages import POLICY, WEB
from seatsvc.errors import BY_CODE
from seatsvc.mail import MINOR_DIGITS
from seatsvc.texts import LANGUAGES, texts
from tests.conftest import Service, problem_of
from tests.test_mail import leaves

FILES = sorted(WEB.iterdir())
SCRIPTS = [file for file in FILES if file.suffix == ".js"]
TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}
PAGE: dict[str, Any] = texts("en", "page")
# Ways to read data as markup or as a script.
UNSAFE = re.compile(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function")


def name_of(file: Path) -> str:
    """For the test's name."""
    return file.name


def content_of(file: Path) -> bytes:
    """As it lies in the folder."""
    return file.read_bytes()


async def test_page_runs_its_own_scripts_only(shared: Service) -> None:
    """Nothing inline, nothing from elsewhere."""
    answer = await shared.client.get("/")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers.get_list("content-security-policy") == [POLICY]
    assert "unsafe" not in POLICY
    assert not re.search(r"<script(?![^>]* src=\"/assets/)|<style|style=|\son\w+=", answer.text)
    assert not re.search(r"(?:src|href)=\"(?!/assets/|data:)", answer.text)


@pytest.mark.parametrize("file", [file for file in FILES if file.suffix != ".html"], ids=name_of)
async def test_assets(shared: Service, file: Path) -> None:
    """Each with its type, and asked for again each time it is needed, for nothing if unchanged."""
    answer = await shared.client.get(f"/assets/{file.name}")
    assert answer.status_code == 200
    assert answer.content == content_of(file)
    assert answer.headers["content-type"] == f"{TYPES[file.suffix]}; charset=utf-8"
    assert answer.headers["cache-control"] == "no-cache"
    headers = {"If-None-Match": answer.headers["etag"]}
    again = await shared.client.get(f"/assets/{file.name}", headers=headers)
    assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize(
    "path",
    [
        "nope.js",
        "index.html",
        "..%2fapp.py",
        "%2e%2e/app.py",
        "app.js%00",
        "texts/xx.json",
        "App.js",
    ],
)
async def test_other_assets_are_not_there(shared: Service, path: str) -> None:
    """Nor is anything outside of the folder."""
    problem_of(await shared.client.get(f"/assets/{path}"), 404, "not_found")


async def test_page_is_not_in_the_document(shared: Service) -> None:
    """It is no part of the API."""
    paths = (await shared.client.get("/openapi.json")).json()["paths"]
    assert not [path for path in paths if path == "/" or path.startswith("/assets")]


@pytest.mark.parametrize("language", LANGUAGES)
async def test_texts(shared: Service, language: str) -> None:
    """All languages say the same things."""
    answer = await shared.client.get(f"/assets/texts/{language}.json")
    said = answer.json()
    assert said.pop("minor_digits") == MINOR_DIGITS
    assert dict(leaves(said)) == dict(leaves(PAGE))


def test_every_refusal_has_a_text() -> None:
    """And so has a server that cannot be reached."""
    assert set(PAGE["problems"]) == {*BY_CODE, "network"}


@pytest.mark.parametrize("file", SCRIPTS, ids=name_of)
def test_every_text_that_is_shown_exists(file: Path) -> None:
    """Keys that a script names in full."""
    keys = dict(leaves(PAGE))
    script = file.read_text()
    for key in re.findall(r"\bt\(\s*\"([\w.]+)\"", script):
        assert key in keys, key
    for key in re.findall(r"\bt\.n\(\s*\"([\w.]+)\"", script):
        assert {f"{key}_one", f"{key}_other"} <= set(keys), key


@pytest.mark.parametrize("file", SCRIPTS, ids=name_of)
def test_scripts_are_short_and_safe(file: Path) -> None:
    """No data becomes markup, nothing comes from elsewhere, and a file has under 300 lines."""
    script = file.read_text()
    assert len(script.splitlines()) < 300
    assert not UNSAFE.search(script)
    assert set(re.findall(r"https?://[^\s\"']+", script)) <= {"http://www.w3.org/2000/svg"}
    used = re.findall(r"(?:from|import\()\s*\"\./([\w.]+)\"", script)
    assert set(used) <= {each.name for each in FILES}


def test_page_is_part_of_the_package() -> None:
    """Beside the code, so that it is installed with it."""
    assert WEB.is_relative_to(Path(seatsvc.__path__[0]))
    assert {"index.html", "app.js", "style.css"} <= {file.name for file in FILES}
