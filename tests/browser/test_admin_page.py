"""What admins do in the browser."""

import re

from playwright.async_api import Locator, Page, expect

from tests.browser.conftest import OpenPage, sign_in
from tests.conftest import Person, Service
from tests.organizing import organizer


def row(page: Page, name: str) -> Locator:
    """The table's row that begins with this."""
    heads = page.get_by_role("rowheader", name=re.compile(f"^{re.escape(name)}"))
    return page.get_by_role("row").filter(has=heads)


async def visit(open_page: OpenPage, person: Person) -> Page:
    """The administration, signed in."""
    page = await open_page("#/")
    await sign_in(page, person)
    await page.evaluate("location.hash = '#/admin'")
    return page


async def test_make_an_organizer(open_page: OpenPage, site: Service) -> None:
    """Who then may create events."""
    admin, ann = await organizer(site, "admin"), await site.sign_up("aaa-ann")
    page = await visit(open_page, admin)
    await page.get_by_label("Role of aaa-ann").select_option(label="Organizer")
    await expect(page.locator(".toast")).to_have_text("aaa-ann is now: Organizer.")
    assert (await ann.call("GET", "/me")).json()["role"] == "organizer"
    await page.get_by_label("Role", exact=True).select_option(label="Attendee")
    await expect(row(page, "aaa-ann")).to_have_count(0)


async def test_deactivate_and_activate(open_page: OpenPage, site: Service) -> None:
    """Whoever is deactivated is signed out, and found among the deactivated."""
    admin, ben = await organizer(site, "admin"), await site.sign_up("aaa-ben")
    page = await visit(open_page, admin)
    await page.get_by_role("button", name="Deactivate aaa-ben").click()
    await expect(page.locator(".toast")).to_have_text("aaa-ben is deactivated and signed out.")
    await expect(row(page, "aaa-ben")).to_have_count(0)
    assert (await ben.call("GET", "/me")).status_code == 401
    await page.get_by_label("Accounts").select_option(label="Deactivated")
    await page.get_by_role("button", name="Activate aaa-ben").click()
    await expect(page.locator(".toast")).to_have_text("aaa-ben is active again.")
    assert await site.sql("select from users where username = 'aaa-ben' and active")


async def test_send_a_dead_mail_again(open_page: OpenPage, site: Service) -> None:
    """It goes back to those that wait, and its reason is shown before."""
    admin = await organizer(site, "admin")
    [mail] = await site.sql(
        "insert into outbox (kind, email, dead_at, attempts, error)"
        " values ('email_changed', 'ann@example.org', now(), 10, '550 <b>no</b> such box')"
        " returning id"
    )
    page = await visit(open_page, admin)
    await expect(page.get_by_text("550 <b>no</b> such box")).to_be_visible()
    await page.get_by_role("button", name=f"Send mail {mail['id']} again").click()
    await expect(page.locator(".toast")).to_have_text(f"Mail {mail['id']} is sent again.")
    await expect(page.get_by_text("No mail was given up.")).to_be_visible()
    assert not await site.sql("select from outbox where dead_at is not null")


async def test_only_for_admins(open_page: OpenPage, site: Service) -> None:
    """An organizer is told so, and is shown no way there."""
    page = await visit(open_page, await organizer(site))
    await expect(page.get_by_text("Only admins can see this.")).to_be_visible()
    await expect(page.get_by_role("link", name="Administration")).to_have_count(0)
