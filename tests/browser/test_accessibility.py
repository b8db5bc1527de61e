"""What axe-core finds on each screen: nothing."""

import importlib.util
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Page, expect

from tests.browser.conftest import OpenPage, sign_in
from tests.browser.test_booking_page import button, hall, seat, visit
from tests.conftest import Service

TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
PACKAGE = importlib.util.find_spec("axe_playwright_python")
LOOKS: list[dict[str, Any]] = [
    {"color_scheme": "light", "viewport": {"width": 1280, "height": 900}},
    {"color_scheme": "dark", "viewport": {"width": 360, "height": 740}},
]


def axe_script() -> str:
    """axe-core itself."""
    assert PACKAGE
    assert PACKAGE.origin
    return (Path(PACKAGE.origin).parent / "axe.min.js").read_text()


async def assert_accessible(page: Page) -> None:
    """No violation of WCAG 2.2 AA, nor of what axe-core calls good practice."""
    # What fades in is half transparent for a moment.
    await page.wait_for_timeout(400)
    await page.evaluate(axe_script())
    found = await page.evaluate("(values) => axe.run({runOnly: values})", TAGS)
    problems = [
        f"{each['id']}: {node['html'][:200]} {node['failureSummary']}"
        for each in found["violations"]
        for node in each["nodes"][:3]
    ]
    assert not problems, "\n".join(problems)


@pytest.mark.parametrize("look", LOOKS, ids=["light", "dark and narrow"])
async def test_from_events_to_bookings(
    open_page: OpenPage, site: Service, look: dict[str, Any]
) -> None:
    """All that a buyer meets, in each of its states."""
    venue = await hall(site)
    other = await site.newcomer()
    assert (await other.book(venue.seats[1])).status_code == 201
    page = await visit(open_page, site, venue, **look)
    await assert_accessible(page)
    await seat(page, "A, row 1, seat 4").click()
    await assert_accessible(page)
    await button(page, "List").click()
    await page.locator(".steps").get_by_role("button", name="B").click()
    await page.locator(".steps").get_by_role("button", name="Row 2").click()
    await assert_accessible(page)
    await other.book(venue.seats[3])
    await expect(page.get_by_role("alert")).to_contain_text("somebody else")
    await assert_accessible(page)
    await page.get_by_role("alert").get_by_role("button").first.click()
    await button(page, "Hold this seat").click()
    await expect(button(page, "Book now")).to_be_visible()
    await assert_accessible(page)
    await button(page, "Book now").click()
    await expect(page.get_by_role("heading", name="Booked")).to_be_visible()
    await assert_accessible(page)
    await page.goto("/#/bookings")
    await button(page, "Cancel the booking").click()
    await assert_accessible(page)
    await page.keyboard.press("Escape")
    await page.goto("/#/")
    await expect(page.get_by_role("heading", name="Events")).to_be_visible()
    await assert_accessible(page)


@pytest.mark.parametrize("look", LOOKS, ids=["light", "dark and narrow"])
@pytest.mark.parametrize("address", ["#/sign-in", "#/sign-up", "#/reset", "#/nowhere"])
async def test_screens_of_strangers(
    open_page: OpenPage, address: str, look: dict[str, Any]
) -> None:
    """What can be seen without an account."""
    await assert_accessible(await open_page(address, **look))


@pytest.mark.parametrize("look", LOOKS, ids=["light", "dark and narrow"])
@pytest.mark.parametrize("address", ["#/account", "#/organize", "#/organize/new", "#/admin"])
async def test_screens_of_staff(
    open_page: OpenPage, site: Service, address: str, look: dict[str, Any]
) -> None:
    """What an admin sees."""
    page = await open_page("#/", **look)
    await sign_in(page, await site.sign_up(f"admin-{id(page)}", role="admin"))
    await page.goto(f"/{address}")
    await page.locator("h1").wait_for()
    await assert_accessible(page)
