"""What organizers do in the browser: from a hall's first row to the cancelled event."""

import csv
import re
from typing import Any

from playwright.async_api import Locator, Page, expect

from tests.browser.conftest import OpenPage, sign_in
from tests.conftest import Person, Service
from tests.organizing import create, organizer, seats_of

MARKUP = "<img src=x onerror=alert(1)>"
TYPES = [{"name": "Seated", "price": 4500, "currency": "EUR"}]
HALL = [{"name": "A", "ticket_type": "Seated", "rows": [{"name": "1", "seats": 10}]}]


def field(page: Page | Locator, label: str) -> Locator:
    return page.get_by_label(label, exact=True)


def button(page: Page | Locator, name: str) -> Locator:
    return page.get_by_role("button", name=name, exact=True)


def seat(page: Page, number: int) -> Locator:
    """A seat of the only row."""
    return page.locator("svg.hall").get_by_role(
        "checkbox", name=re.compile(f"^A, row (1|A), seat {number},")
    )


def toast(page: Page) -> Locator:
    return page.locator(".toast")


async def visit(open_page: OpenPage, person: Person, address: str, **options: Any) -> Page:
    """This address, signed in."""
    page = await open_page("#/", **options)
    await sign_in(page, person)
    await page.evaluate("(address) => { location.hash = address; }", address)
    return page


async def selling(open_page: OpenPage, site: Service) -> tuple[Person, dict[str, Any], Page]:
    """An organizer before an event of ten seats."""
    owner = await organizer(site)
    event = await create(owner, ticket_types=TYPES, sections=HALL)
    page = await visit(open_page, owner, f"#/organize/{event['id']}")
    await expect(seat(page, 1)).to_be_visible()
    return owner, event, page


async def test_create_a_hall(open_page: OpenPage, site: Service) -> None:
    """It is drawn while it is typed, and made as it was drawn."""
    owner = await organizer(site)
    page = await visit(open_page, owner, "#/organize")
    await page.get_by_role("link", name="Create your first event").click()
    preview = page.get_by_role("region", name="Preview")
    await expect(preview).to_contain_text("72 places · €1,440.00 if all are sold")
    await field(page, "Price").fill("12.50")
    await field(page, "Rows").fill("2")
    await field(page, "Seats in the first row").fill("3")
    await field(page, "More seats in each further row").fill("1")
    await field(page, "Wheelchair places at both ends of the first row").check()
    await expect(preview).to_contain_text("7 places · €87.50 if all are sold")
    await expect(preview.get_by_role("checkbox")).to_have_count(7)
    await button(page, "Add a section").click()
    second = page.get_by_role("group", name="B", exact=True)
    await field(second, "Kind of places").select_option(label="Places without numbers")
    await field(second, "Places").fill("50")
    await field(second, "Ticket type").select_option(label="Buyer chooses")
    await expect(preview).to_contain_text("57 places · €712.50 if all are sold")
    await button(page, "Create the event").click()
    name = page.get_by_role("group", name="The event").get_by_label("Name", exact=True)
    await expect(name).to_be_focused()
    await name.fill("Chamber music")
    await field(page, "Starts").fill("2031-05-01T19:30")
    await field(page, "Seats per person").fill("4")
    await button(page, "Create the event").click()
    await expect(page.get_by_role("heading", name="Chamber music")).to_be_focused()
    event_id = page.url.rpartition("/")[2]
    answer = await site.client.get(f"/events/{event_id}/layout")
    numbered, general = answer.json()["sections"]
    rows = numbered["rows"]
    assert [(row["name"], len(row["seats"])) for row in rows] == [("A", 3), ("B", 4)]
    assert [each["accessible"] for each in rows[0]["seats"]] == [True, False, True]
    assert (general["name"], general["places"], general["ticket_type_id"]) == ("B", 50, None)
    event = (await site.client.get(f"/events/{event_id}")).json()
    assert (event["max_seats_per_user"], event["hold_seconds"]) == (4, 600)
    assert event["organizer_id"] == owner.id
    assert event["starts_at"].startswith("2031-05-01T")
    [kind] = (await site.client.get(f"/events/{event_id}/ticket-types")).json()["items"]
    assert (kind["name"], kind["price"], kind["currency"]) == ("Standard", 1250, "EUR")


async def test_mistakes_in_a_draft(open_page: OpenPage, site: Service) -> None:
    """Each is told at its field, and nothing is sent."""
    page = await visit(open_page, await organizer(site), "#/organize/new")
    await field(page.get_by_role("group", name="The event"), "Name").fill("Event")
    price = field(page, "Price")
    await price.fill("much")
    await button(page, "Create the event").click()
    await expect(price).to_be_focused()
    await expect(page.get_by_text("Use an amount such as 12.50.")).to_be_visible()
    await price.fill("5")
    await field(page, "Currency").select_option("JPY")
    await field(page, "Rows").fill("0")
    await button(page, "Create the event").click()
    await expect(page.get_by_text("Use a whole number from 1 to 500.")).to_be_visible()
    await field(page, "Rows").fill("1")
    await button(page, "Add a section").click()
    await field(page, "Section name").last.fill("A")
    await button(page, "Create the event").click()
    await expect(page.get_by_text("This name is there twice.")).to_be_visible()
    await button(page, "Remove A").last.click()
    await field(page, "Starts").fill("2031-05-01T19:30")
    await field(page, "Ends").fill("2031-05-01T18:30")
    await button(page, "Create the event").click()
    await expect(field(page, "Ends")).to_be_focused()
    await expect(page.get_by_text("This must be after the start.")).to_be_visible()


async def test_block_and_unblock(open_page: OpenPage, site: Service) -> None:
    """By mouse and by keyboard; a whole row, but not what is sold."""
    _, event, page = await selling(open_page, site)
    ids = await seats_of(site, event)
    assert (await (await site.newcomer()).book(ids[9])).status_code == 201
    await expect(seat(page, 10)).to_have_accessible_name(re.compile("taken"))
    await seat(page, 2).click()
    await page.keyboard.press("ArrowRight")
    await page.keyboard.press("Space")
    await expect(page.get_by_text("2 seats chosen")).to_be_visible()
    await button(page, "Keep off sale").click()
    await expect(toast(page)).to_have_text("2 seats are off sale.")
    assert await site.free(event_id=event["id"]) == {ids[0], *ids[3:9]}
    await seat(page, 1).click()
    await button(page, "Choose the whole row").click()
    await expect(page.get_by_text("9 seats chosen")).to_be_visible()
    await button(page, "Put on sale").click()
    await expect(toast(page)).to_have_text("2 seats are on sale again.")
    assert await site.free(event_id=event["id"]) == set(ids[:9])


async def test_a_sale_arrives_live(open_page: OpenPage, site: Service) -> None:
    """On the map, in the chart, in the sums and among the bookings, without a reload."""
    _, event, page = await selling(open_page, site)
    await expect(page.get_by_text("Nobody has booked yet.")).to_be_visible()
    ids = await seats_of(site, event)
    assert (await (await site.newcomer()).book(ids[3], ids[4])).status_code == 201
    await expect(seat(page, 4)).to_have_accessible_name(re.compile("taken"))
    chart = page.get_by_role("img", name=re.compile("^1 booking in the last 30 minutes"))
    await expect(chart).to_be_visible()
    types = page.get_by_role("table", name="By ticket type")
    await expect(types.get_by_role("row", name="Seated 2 0 €90.00")).to_be_visible()
    latest = page.get_by_role("table", name="Latest bookings")
    await expect(latest).to_contain_text("A, row 1, seat 4; A, row 1, seat 5")


async def test_download_the_bookings(open_page: OpenPage, site: Service) -> None:
    """As CSV, a line for each place."""
    _, event, page = await selling(open_page, site)
    ids = await seats_of(site, event)
    await (await site.newcomer()).book(ids[0], ids[1])
    async with page.expect_download() as caught:
        await button(page, "Download the bookings (CSV)").click()
    download = await caught.value
    assert download.suggested_filename == f"event-{event['id']}-bookings.csv"
    lines = [*csv.DictReader((await download.path()).read_text().splitlines())]
    assert [(line["section"], line["number"], line["price"]) for line in lines] == [
        ("A", "1", "4500"),
        ("A", "2", "4500"),
    ]


async def test_cancel(open_page: OpenPage, site: Service) -> None:
    """Asked once more, in place; Escape is a no."""
    _, event, page = await selling(open_page, site)
    await button(page, "Cancel the event").click()
    await expect(button(page, "Keep the event")).to_be_focused()
    await page.keyboard.press("Escape")
    await expect(button(page, "Cancel the event")).to_be_focused()
    await page.keyboard.press("Enter")
    await button(page, "Yes, cancel the event").click()
    await expect(toast(page)).to_have_text("The event is cancelled.")
    await expect(button(page, "Cancel the event")).to_have_count(0)
    assert (await site.client.get(f"/events/{event['id']}")).json()["status"] == "cancelled"
    await page.get_by_role("link", name="All my events").click()
    await expect(page.get_by_role("listitem").filter(has_text="Cancelled")).to_have_count(1)


async def test_delete_what_never_sold(open_page: OpenPage, site: Service) -> None:
    """Then it is gone from the list, too."""
    _, event, page = await selling(open_page, site)
    await button(page, "Delete the event").click()
    await button(page, "Yes, delete the event").click()
    await expect(page.get_by_text("You have no events yet.")).to_be_visible()
    assert (await site.client.get(f"/events/{event['id']}")).status_code == 404


async def test_markup_is_text(open_page: OpenPage, site: Service) -> None:
    """In every place where an event, a section or a ticket type is named."""
    owner = await organizer(site)
    kinds = [{"name": MARKUP, "price": 100, "currency": "EUR"}]
    sections = [
        {"name": MARKUP, "ticket_type": MARKUP, "rows": [{"name": "<b>", "seats": ["<i>"]}]}
    ]
    about = {"name": MARKUP, "description": MARKUP, "venue": MARKUP}
    event = await create(owner, **about, ticket_types=kinds, sections=sections)
    [only] = await seats_of(site, event)
    assert (await owner.book(only)).status_code == 201
    page = await visit(open_page, owner, "#/organize")
    for address in ("#/organize", f"#/organize/{event['id']}", f"#/events/{event['id']}", "#/"):
        await page.evaluate("(address) => { location.hash = address; }", address)
        await expect(page.locator("main").get_by_text(MARKUP).first).to_be_visible()
        assert await page.locator("img, main b, main i").count() == 0


async def test_only_for_organizers(open_page: OpenPage, site: Service) -> None:
    """An attendee is told so, and is shown no way there."""
    page = await visit(open_page, await site.newcomer(), "#/organize/new")
    await expect(page.get_by_text("Only organizers can do this.")).to_be_visible()
    await expect(page.get_by_role("link", name="Organize")).to_have_count(0)


async def test_fits_a_phone(open_page: OpenPage, site: Service) -> None:
    """Nothing is wider than 360 pixels, with numbered seats or without."""
    owner = await organizer(site)
    event = await create(owner, ticket_types=TYPES, sections=HALL)
    fair = await create(owner, capacity=500)
    phone = {"width": 360, "height": 740}
    page = await visit(open_page, owner, "#/organize", viewport=phone)
    for address in ("", "/new", f"/{event['id']}", f"/{fair['id']}"):
        await page.evaluate("(address) => { location.hash = `#/organize${address}`; }", address)
        await expect(page.locator("main .card").last).to_be_visible()
        await expect(page.locator("main .map")).to_have_count(1 if address else 0)
        assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
