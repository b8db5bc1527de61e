"""What the service says in each language: one file a language, in `languages/`."""

import tomllib
from functools import cache
from pathlib import Path
from typing import Any

FALLBACK = "en"

_FOLDER = Path(__file__).parent / "languages"
LANGUAGES = tuple(sorted(file.stem for file in _FOLDER.glob("*.toml")))


def known(language: str | None) -> str:
    """The language, or English where we do not speak it."""
    return language if language in LANGUAGES else FALLBACK


@cache
def texts(language: str, section: str) -> dict[str, Any]:
    """A section of a known language's file."""
    content = tomllib.loads((_FOLDER / f"{language}.toml").read_text("utf-8"))
    found: dict[str, Any] = content[section]
    return found
