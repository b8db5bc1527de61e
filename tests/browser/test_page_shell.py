"""What all screens share: the connection, the languages, the small and the large screen."""

import re
from datetime import UTC, datetime

import pytest
from playwright.async_api import Browser, expect

from seatsvc.events import RowDraft, SectionDraft
from seatsvc.settings import Settings
from tests.browser.conftest import OpenPage, pages, sign_in
from tests.conftest import Service, serve

HEADINGS = {"en": "Events", "de": "Veranstaltungen", "es": "Eventos", "fr": "Événements"}
WIDTHS = (360, 1920)


async def test_a_restart_leaves_no_gap(browser: Browser, test_settings: Settings) -> None:
    """The server goes away and another comes; what was sold meanwhile is on the map."""
    async with pages(browser) as open_page:
        async with serve(test_settings) as before:
            page = await open_page("#/events/1", base_url=before.url)
            await expect(page.get_by_text("80", exact=True)).to_be_visible()
        await expect(page.get_by_text("The connection is lost.")).to_be_visible()
        port = int(before.url.rpartition(":")[2])
        async with serve(test_settings, port) as after:
            buyer = await after.sign_up("buyer")
            assert (await buyer.book(4)).status_code == 201
            sold = page.get_by_role("checkbox", name=re.compile("^A, row 1, seat 4,.* taken"))
            await expect(sold).to_be_attached()
            await expect(page.get_by_text("The connection is lost.")).to_be_hidden()
            await expect(page.get_by_text("79", exact=True)).to_be_visible()


@pytest.mark.parametrize("language", HEADINGS)
async def test_languages(open_page: OpenPage, site: Service, language: str) -> None:
    """The browser's at first; another when it is chosen, for the next visit too."""
    page = await open_page("#/", locale=language)
    await expect(page.get_by_role("heading", level=1)).to_have_text(HEADINGS[language])
    other = next(each for each in HEADINGS if each != language)
    await page.locator(".language").select_option(other)
    await expect(page.get_by_role("heading", level=1)).to_have_text(HEADINGS[other])
    await page.reload()
    await expect(page.get_by_role("heading", level=1)).to_have_text(HEADINGS[other])
    await expect(page.locator("html")).to_have_attribute("lang", other)


async def test_search(open_page: OpenPage, site: Service) -> None:
    """By words and by dates."""
    for name, month in (("Aida", 3), ("Tosca", 9)):
        event = await site.add_event(starts_at=datetime(2031, month, 1, 19, tzinfo=UTC))
        await site.sql("update events set name = $1 where id = $2", name, event.event_id)
    page = await open_page("#/")
    cards = page.get_by_role("main").get_by_role("listitem")
    await page.get_by_label("Search").fill("osca")
    await expect(cards.get_by_role("link")).to_have_text(["Tosca"])
    await page.get_by_label("Search").fill("")
    await page.get_by_label("From").fill("2031-01-01")
    await page.get_by_label("To").fill("2031-06-30")
    await expect(cards.get_by_role("link")).to_have_text(["Aida"])
    await page.get_by_label("Search").fill("nothing like it")
    await expect(page.get_by_text("No event was found.")).to_be_visible()


@pytest.mark.parametrize("width", WIDTHS)
async def test_nothing_is_wider_than_the_screen(
    open_page: OpenPage, site: Service, width: int
) -> None:
    """No screen scrolls sideways."""
    long = SectionDraft("A", [RowDraft("1", places=60)])
    venue = await site.add_event(long, SectionDraft("Floor", places=40))
    page = await open_page("#/", viewport={"width": width, "height": 740})
    await sign_in(page, await site.newcomer())
    for address in ("#/", f"#/events/{venue.event_id}", "#/bookings"):
        await page.goto(f"/{address}")
        await page.locator("h1").wait_for()
        wide = await page.evaluate("document.documentElement.scrollWidth - innerWidth")
        assert wide <= 0, address


async def test_a_missing_page_says_so(open_page: OpenPage) -> None:
    """And leads back."""
    page = await open_page("#/nowhere")
    await expect(page.get_by_text("There is no such page.")).to_be_visible()
    await page.get_by_role("main").get_by_role("link", name="Events").click()
    await expect(page.get_by_role("heading", level=1)).to_have_text("Events")


async def test_no_storage_holds_a_token(open_page: OpenPage, site: Service) -> None:
    """Only the language is kept; a reload signs out."""
    page = await open_page("#/")
    await sign_in(page, await site.newcomer())
    await expect(page.get_by_role("button", name="Sign out")).to_be_visible()
    state = await page.context.storage_state()
    assert state["cookies"] == []
    [origin] = state["origins"]
    assert [item["name"] for item in origin["localStorage"]] == ["seatsvc.language"]
    assert await page.evaluate("sessionStorage.length") == 0
    await page.reload()
    await expect(page.get_by_role("link", name="Sign in")).to_be_visible()
