"""The seat-map page: its files and its texts."""

import hashlib
import json
import re
from functools import lru_cache
from pathlib import Path

from fastapi import APIRouter, Request, Response

import seatsvc
from seatsvc.api.headers import matches
from seatsvc.errors import NotFound
from seatsvc.mail import MINOR_DIGITS
from seatsvc.texts import LANGUAGES, texts

router = APIRouter(include_in_schema=False)

WEB = Path(seatsvc.__path__[0]) / "web"
ASSET = re.compile(r"[a-z][a-z_]*\.(js|css)", re.ASCII)
TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}
# Scripts and styles come from files of ours alone, so that no data is ever read as one.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


@router.get("/")
async def page(request: Request) -> Response:
    """The page, which shows itself by its scripts."""
    return _file(request, "index.html", **{"Content-Security-Policy": POLICY})


@router.get("/assets/texts/{language}.json")
async def page_texts(language: str, request: Request) -> Response:
    """What the page says in a language, and the digits of amounts in minor units.

    Raises NotFound.
    """
    if language not in LANGUAGES:
        raise NotFound()
    said = {**texts(language, "page"), "minor_digits": MINOR_DIGITS}
    return _sent(request, json.dumps(said).encode(), "application/json", {})


@router.get("/assets/{name}")
async def asset(name: str, request: Request) -> Response:
    """A script or a style sheet.

    Raises NotFound.
    """
    if not ASSET.fullmatch(name):
        raise NotFound()
    return _file(request, name)


def _file(request: Request, name: str, **headers: str) -> Response:
    file = WEB / name
    try:
        body = _content(file, file.stat().st_mtime_ns)
    except FileNotFoundError:
        raise NotFound() from None
    return _sent(request, body, TYPES[file.suffix], headers)


@lru_cache(maxsize=100)
def _content(file: Path, _changed_ns: int) -> bytes:
    """Read once, and again when it was changed."""
    return file.read_bytes()


def _sent(request: Request, body: bytes, kind: str, headers: dict[str, str]) -> Response:
    """200, or 304 when the browser has this very version: it asks each time."""
    etag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    headers = {**headers, "ETag": etag, "Cache-Control": "no-cache"}
    if matches(request.headers.get("if-none-match"), etag):
        return Response(status_code=304, headers=headers)
    return Response(body, 200, headers, kind)
