"""The ReDoc page, which loads nothing from elsewhere."""

from functools import cache
from pathlib import Path

import fastapi_offline
from fastapi import APIRouter, Response
from fastapi.openapi.docs import get_redoc_html
from fastapi.responses import HTMLResponse

router = APIRouter(include_in_schema=False)

SCRIPT = Path(fastapi_offline.__file__).parent / "static" / "redoc.standalone.js"
# The script would fetch it each time. Without a picture it shows the words beside it alone.
LOGO = b"https://cdn.redoc.ly/redoc/logo-mini.svg"
NO_PICTURE = b"data:,"


@router.get("/redoc")
async def redoc_page() -> HTMLResponse:
    """The page."""
    return get_redoc_html(
        openapi_url="/openapi.json",
        title="seatsvc",
        redoc_js_url="/docs/redoc.js",
        redoc_favicon_url="/docs/assets/favicon.png",
        with_google_fonts=False,
    )


@router.get("/docs/redoc.js")
async def redoc_script() -> Response:
    """Its script."""
    return Response(_script(), 200, {"Cache-Control": "public, max-age=86400"}, "text/javascript")


@cache
def _script() -> bytes:
    return SCRIPT.read_bytes().replace(LOGO, NO_PICTURE)
