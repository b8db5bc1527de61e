"""From the map to a booking, as its readers live it."""

import asyncio
import re
from typing import Any

from playwright.async_api import Locator, Page, expect

from seatsvc.events import RowDraft, SectionDraft, TicketTypeDraft
from tests.browser.conftest import OpenPage, sign_in
from tests.conftest import PASSWORD, Service, Venue

KINDS = [TicketTypeDraft("Front", 4500, "EUR"), TicketTypeDraft("Rear", 3000, "EUR")]


async def hall(site: Service, **more: Any) -> Venue:
    """Two sections of two rows, at two prices."""
    rows = [RowDraft(name, [str(n + 1) for n in range(8)]) for name in ("1", "2")]
    sections = [SectionDraft(*each) for each in (("A", rows, 0, "Front"), ("B", rows, 0, "Rear"))]
    return await site.add_event(*sections, ticket_types=KINDS, **more)


async def visit(open_page: OpenPage, site: Service, venue: Venue, **options: Any) -> Page:
    """Somebody new, signed in, before the event's hall."""
    page = await open_page(f"#/events/{venue.event_id}", **options)
    await sign_in(page, await site.newcomer())
    await expect(page.get_by_role("button", name="Sign out")).to_be_visible()
    return page


def seat(page: Page, name: str) -> Locator:
    """A seat of the map, such as "A, row 1, seat 4"."""
    return page.locator("svg.hall").get_by_role("checkbox", name=re.compile(f"^{name},"))


def button(page: Page, name: str) -> Locator:
    return page.get_by_role("button", name=name, exact=True)


async def test_from_sign_up_to_cancel_by_mouse(open_page: OpenPage, site: Service) -> None:
    """The whole way; at its end the seat is free again."""
    venue = await hall(site)
    page = await open_page(f"#/events/{venue.event_id}")
    await page.get_by_role("link", name="Sign up").click()
    await page.get_by_label("Username").fill(f"mouse-{venue.event_id}")
    await page.get_by_label("Password", exact=True).fill(PASSWORD)
    await page.get_by_role("button", name="Create an account").click()
    await seat(page, "A, row 1, seat 4").click()
    await seat(page, "B, row 2, seat 1").click()
    await expect(page.get_by_text("€75.00")).to_be_visible()
    await button(page, "Hold these 2 seats").click()
    await expect(page.get_by_role("timer")).to_have_text(re.compile(r"^(10:00|9:5\d)$"))
    await button(page, "Book now").click()
    await expect(page.get_by_role("heading", name="Booked")).to_be_focused()
    assert await site.booked(venue) == [venue.seats[3], venue.seats[24]]
    await page.get_by_role("link", name="My bookings").last.click()
    await button(page, "Cancel the booking").click()
    await page.get_by_role("dialog").get_by_role("button", name="Cancel the booking").click()
    await expect(page.get_by_text("cancelled", exact=True)).to_be_visible()
    assert await site.booked(venue) == []


async def press(page: Page, *keys: str) -> None:
    for key in keys:
        await page.keyboard.press(key)


async def tab_to(page: Page, target: Locator) -> None:
    """By the Tab key alone."""
    for _ in range(40):
        await page.keyboard.press("Tab")
        if await target.evaluate("(element) => element === document.activeElement"):
            return
    raise AssertionError(f"the Tab key does not lead to {target}")


async def test_from_sign_up_to_cancel_by_keyboard(open_page: OpenPage, site: Service) -> None:
    """The same way without a mouse, through the map."""
    venue = await hall(site)
    page = await open_page(f"#/events/{venue.event_id}")
    await tab_to(page, page.get_by_role("link", name="Sign up"))
    await press(page, "Enter")
    await tab_to(page, page.get_by_label("Username"))
    await page.keyboard.type(f"keys-{venue.event_id}")
    await tab_to(page, page.get_by_label("Password", exact=True))
    await page.keyboard.type(PASSWORD)
    await press(page, "Enter")
    await expect(page.get_by_role("heading", name="Event")).to_be_focused()
    await tab_to(page, seat(page, "A, row 1, seat 1"))
    await press(page, "ArrowRight", "ArrowDown", "Enter", "ArrowRight", "Space")
    await expect(seat(page, "A, row 2, seat 2")).to_be_checked()
    await expect(seat(page, "A, row 2, seat 3")).to_be_checked()
    await expect(page.get_by_role("status").last).to_have_text("A, row 2, seat 3: chosen")
    await press(page, "End")
    await expect(seat(page, "A, row 2, seat 8")).to_be_focused()
    await tab_to(page, button(page, "Hold these 2 seats"))
    await press(page, "Enter")
    await expect(page.get_by_role("heading", name="Held for you")).to_be_focused()
    await tab_to(page, button(page, "Book now"))
    await press(page, "Enter")
    await expect(page.get_by_role("heading", name="Booked")).to_be_focused()
    assert await site.booked(venue) == venue.seats[9:11]
    await tab_to(page, page.get_by_role("link", name="My bookings").last)
    await press(page, "Enter")
    await expect(page.get_by_role("heading", name="My bookings")).to_be_focused()
    await tab_to(page, button(page, "Cancel the booking"))
    await press(page, "Enter")
    await expect(page.get_by_role("dialog")).to_be_visible()
    await press(page, "Enter")
    await expect(page.get_by_text("cancelled", exact=True)).to_be_visible()
    assert await site.booked(venue) == []


async def test_list_is_as_good_as_the_map(open_page: OpenPage, site: Service) -> None:
    """From the section to the row to the seat, by keyboard."""
    venue = await hall(site)
    page = await visit(open_page, site, venue)
    await button(page, "List").click()
    steps = page.locator(".steps")
    await steps.get_by_role("button", name="B").focus()
    await press(page, "Enter")
    await expect(steps.get_by_role("button", name="Row 1")).to_be_focused()
    await press(page, "Tab", "Enter")
    chosen = steps.get_by_role("checkbox", name="B, row 2, seat 1, Rear, €30.00, free")
    await expect(chosen).to_be_focused()
    await press(page, "Space")
    await expect(steps.get_by_role("checkbox", checked=True)).to_have_count(1)
    await button(page, "Hold this seat").click()
    await expect(page.get_by_role("heading", name="Held for you")).to_be_visible()
    await expect(page.get_by_text("B, row 2, seat 1").first).to_be_visible()


async def test_best_places_together(open_page: OpenPage, site: Service) -> None:
    """The service chooses them, and the map shows them."""
    page = await visit(open_page, site, await hall(site))
    await page.get_by_label("How many?").fill("3")
    await page.get_by_label("Where?").select_option("B")
    await button(page, "Hold the best places").click()
    await expect(page.get_by_role("heading", name="Held for you")).to_be_visible()
    marked = page.locator("svg.hall").get_by_role("checkbox", name=re.compile("^B"), checked=True)
    await expect(marked).to_have_count(3)


async def test_area_takes_a_quantity(open_page: OpenPage, site: Service) -> None:
    """Places without numbers: how many."""
    kinds = [TicketTypeDraft("Lawn", 2000, "EUR")]
    venue = await site.add_event(SectionDraft("Lawn", places=50), ticket_types=kinds)
    page = await visit(open_page, site, venue)
    await page.get_by_role("button", name="Lawn, places without numbers, 50 free").click()
    await expect(page.get_by_label("How many?")).to_be_focused()
    await page.keyboard.type("4")
    await press(page, "Enter")
    await expect(page.get_by_text("4 \N{MULTIPLICATION SIGN} Lawn")).to_be_visible()
    await expect(page.locator("svg.hall").get_by_text("46 free")).to_be_visible()
    await button(page, "Book now").click()
    await expect(page.get_by_role("heading", name="Booked")).to_be_visible()
    assert len(await site.booked(venue)) == 4


async def test_choice_outlives_signing_in(open_page: OpenPage, site: Service) -> None:
    """Who is a stranger yet chooses first; the seats wait."""
    venue = await hall(site)
    page = await open_page(f"#/events/{venue.event_id}")
    await seat(page, "A, row 1, seat 4").click()
    await button(page, "Hold this seat").click()
    await page.wait_for_url("**/#/sign-in?next=*")
    await sign_in(page, await site.newcomer())
    await page.goto(f"/#/events/{venue.event_id}")
    await expect(seat(page, "A, row 1, seat 4")).to_be_checked()


async def test_two_race_for_a_seat(open_page: OpenPage, site: Service) -> None:
    """Both press at once: one holds it, the other sees why not, and what is nearest."""
    venue = await hall(site)
    rivals = [await visit(open_page, site, venue) for _ in range(2)]
    for page in rivals:
        await seat(page, "A, row 1, seat 4").click()
    await asyncio.gather(*(button(page, "Hold this seat").click() for page in rivals))
    held = [page.get_by_role("heading", name="Held for you") for page in rivals]
    await expect(held[0].or_(rivals[0].get_by_role("alert").locator("p").first)).to_be_visible()
    await expect(held[1].or_(rivals[1].get_by_role("alert").locator("p").first)).to_be_visible()
    winners = [page for page, heading in zip(rivals, held, strict=True) if await heading.count()]
    assert len(winners) == 1
    [loser] = [page for page in rivals if page not in winners]
    reason = loser.get_by_role("alert")
    await expect(reason).to_contain_text("A, row 1, seat 4: somebody else")
    await reason.get_by_role("button", name=re.compile("^A, row 1, seat [35]$")).first.click()
    await button(loser, "Hold this seat").click()
    await expect(loser.get_by_role("heading", name="Held for you")).to_be_visible()


async def test_others_see_it_within_a_second(open_page: OpenPage, site: Service) -> None:
    """A hold greys the seat on another's map, and takes it out of their choice."""
    venue = await hall(site)
    watcher = await visit(open_page, site, venue)
    await seat(watcher, "A, row 1, seat 4").click()
    buyer = await site.newcomer()
    answer = await buyer.call("POST", "/holds", json={"seat_id": venue.seats[3]})
    assert answer.status_code == 201
    gone = watcher.get_by_role("checkbox", name=re.compile("^A, row 1, seat 4.*held by someone"))
    await expect(gone).to_be_attached(timeout=1000)
    await expect(watcher.get_by_role("alert")).to_contain_text("somebody else holds it")
    await expect(watcher.locator(".counts")).to_contain_text("31")
    await buyer.call("DELETE", f"/holds/{answer.json()['id']}")
    free = watcher.get_by_role("checkbox", name=re.compile("^A, row 1, seat 4.*free"))
    await expect(free).to_be_attached(timeout=1000)


async def test_a_hold_warns_is_extended_and_ends(open_page: OpenPage, site: Service) -> None:
    """The clock warns while there is time to extend, and says when it is over."""
    venue = await hall(site, hold_seconds=6)
    page = await visit(open_page, site, venue)
    await seat(page, "A, row 1, seat 4").click()
    await button(page, "Hold this seat").click()
    warning = page.get_by_text("Your hold ends soon.")
    await expect(warning).to_be_visible()
    await button(page, "More time").click()
    await expect(warning).to_be_hidden()
    ended = page.get_by_text("Your hold has ended")
    await expect(ended).to_be_visible(timeout=8000)
    await button(page, "Hold this seat").click()
    await expect(page.get_by_role("heading", name="Held for you")).to_be_visible()
