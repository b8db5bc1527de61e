"""A real Chromium, and a service for it to meet."""

import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser, BrowserContext, Page, async_playwright

from tests.conftest import PASSWORD, Person, Service

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
HERE = Path(__file__).parent
# As root it needs the first; in a container, whose shared memory is small, the second.
OPTIONS = ["--no-sandbox", "--disable-dev-shm-usage"]
# The browser's own words for an answer of 400 or more, or none: the tests provoke these.
EXPECTED = "Failed to load resource"
SIGN_IN = "([name, word]) => import('/assets/api.js').then((api) => api.session.signIn(name, word))"

OpenPage = Callable[..., Awaitable[Page]]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All tests of this folder need a browser."""
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker("browser")
            if CHROMIUM is None:
                item.add_marker(pytest.mark.skip(reason="there is no chromium on the PATH"))


@pytest.fixture(scope="session")
async def browser() -> AsyncIterator[Browser]:
    """One for all."""
    async with async_playwright() as playwright:
        chromium = playwright.chromium
        running = await chromium.launch(executable_path=CHROMIUM, args=OPTIONS)
        yield running
        await running.close()


@pytest.fixture(scope="module")
def site(shared: Service) -> Service:
    """The service whose page is tried; each test has users and events of its own."""
    return shared


@asynccontextmanager
async def pages(browser: Browser, **usual: Any) -> AsyncIterator[OpenPage]:
    """Opens addresses of the page, each in a browser profile of its own.

    At the end, no page may have had an error.
    """
    contexts: list[BrowserContext] = []
    errors: list[str] = []

    async def open_page(address: str = "#/", **options: Any) -> Page:
        context = await browser.new_context(**{"locale": "en-GB"} | usual | options)
        contexts.append(context)
        context.set_default_timeout(10_000)
        page = await context.new_page()
        page.on("pageerror", lambda error: errors.append(str(error.stack)))
        page.on("console", lambda line: errors.append(line.text) if line.type == "error" else None)
        await page.goto(f"/{address}")
        await page.locator("h1").wait_for()
        return page

    yield open_page
    for context in contexts:
        await context.close()
    assert not [error for error in errors if EXPECTED not in error]


@pytest.fixture
async def open_page(browser: Browser, site: Service) -> AsyncIterator[OpenPage]:
    """Opens an address of the page, such as "#/bookings"."""
    async with pages(browser, base_url=site.url) as opener:
        yield opener


async def sign_in(page: Page, person: Person) -> None:
    """Without the form."""
    await page.evaluate(SIGN_IN, [person.username, PASSWORD])
