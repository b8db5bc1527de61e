"""Accounts in the browser: from the first form to the last."""

import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from playwright.async_api import Locator, Page, expect

from seatsvc.settings import Settings
from tests.browser.conftest import OpenPage, sign_in
from tests.conftest import PASSWORD, Service, serve, until
from tests.mailing import inbox, text, with_mails

NEW_PASSWORD = "staple of the wrong horse"


@pytest.fixture
def mails(tmp_path: Path) -> Path:
    """The folder that gets the mails."""
    return tmp_path


@pytest.fixture
async def site(test_settings: Settings, mails: Path) -> AsyncIterator[Service]:
    """One whose mails can be read."""
    async with serve(with_mails(test_settings, f"file://{mails}")) as running:
        yield running


async def address_in(folder: Path, subject: str) -> str:
    """Where the link of the mail with this subject leads to, within the page."""

    def found() -> list[str]:
        bodies = (text(mail) for mail in inbox(folder) if mail["Subject"] == subject)
        return [match[1] for body in bodies if (match := re.search(r"/(#/\w+\?token=\S+)", body))]

    async def came() -> bool:
        return bool(found())

    await until(came, 10)
    return found()[0]


def card(page: Page, heading: str) -> Locator:
    """The part of the page with this heading."""
    return page.get_by_role("region", name=heading, exact=True)


def field(page: Page | Locator, label: str) -> Locator:
    return page.get_by_label(label, exact=True)


def button(page: Page | Locator, name: str) -> Locator:
    return page.get_by_role("button", name=name, exact=True)


async def enter(page: Page, username: str, password: str) -> None:
    """Fill in the form of the sign-in, and send it."""
    await field(page, "Username or e-mail").fill(username)
    await field(page, "Password").fill(password)
    await button(page, "Sign in").click()


async def visit_account(open_page: OpenPage, site: Service, **account: str) -> Page:
    """Somebody new, signed in, before the own account."""
    await site.state["accounts"].register("ann", PASSWORD, **account)
    page = await open_page("#/sign-in?next=%23%2Faccount")
    await enter(page, "ann", PASSWORD)
    await expect(page.get_by_role("heading", name="Your account")).to_be_focused()
    return page


async def test_sign_up(open_page: OpenPage, site: Service, mails: Path) -> None:
    """What is wrong is said at its field, the first of them has the focus; then all is well."""
    await site.sign_up("ann")
    page = await open_page("#/sign-up?next=%23%2Fbookings")
    send = button(page, "Create an account")
    await field(page, "E-mail (optional)").fill("ben")
    await field(page, "Password").fill("short")
    await send.click()
    await expect(field(page, "Username")).to_be_focused()
    await expect(field(page, "Username")).to_have_accessible_description(
        re.compile("3 to 64 letters.*Please fill in this field", re.DOTALL)
    )
    await expect(page.locator(".error:visible")).to_have_count(3)
    await field(page, "Username").fill("ann")
    await field(page, "E-mail (optional)").fill("ben@example.org")
    await field(page, "Password").fill("password1")
    await send.click()
    await expect(page.get_by_text("This password is one that others guess.")).to_be_visible()
    await field(page, "Password").fill(NEW_PASSWORD)
    await send.click()
    await expect(page.get_by_text("This username is taken. Choose another.")).to_be_visible()
    await expect(field(page, "Username")).to_be_focused()
    await field(page, "Username").fill("ben")
    await field(page.locator("main"), "Language").select_option(label="Deutsch")
    await send.click()
    await expect(page.locator(".toast")).to_contain_text("Willkommen, ben!")
    assert page.url.endswith("#/bookings")
    assert await address_in(mails, "Bitte bestätigen Sie Ihre E-Mail-Adresse")


async def test_sign_in(open_page: OpenPage, site: Service) -> None:
    """A wrong password is told in one line; the address will do, and nothing is stored."""
    await site.state["accounts"].register("ann", PASSWORD, email="ann@example.org", name="Ann A.")
    page = await open_page("#/account")
    await expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    await enter(page, "ann", "not the password")
    await expect(page.get_by_role("alert")).to_have_text(
        "The username or the password is not right."
    )
    await field(page, "Username or e-mail").fill("ann@example.org")
    await field(page, "Password").fill(PASSWORD)
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", name="Your account")).to_be_visible()
    await expect(page.get_by_role("banner")).to_contain_text("Ann A.")
    assert "token" not in await page.evaluate("JSON.stringify(localStorage) + document.cookie")
    await page.reload()
    await expect(page.get_by_role("heading", name="Sign in")).to_be_visible()


async def test_password_managers_know_the_fields(open_page: OpenPage, site: Service) -> None:
    """By the tokens that the standard names; and what was typed can be looked at."""
    page = await open_page("#/sign-in")
    await expect(page.get_by_role("main")).not_to_contain_text("null")
    secret = field(page, "Password")
    await expect(field(page, "Username or e-mail")).to_have_attribute("autocomplete", "username")
    await expect(secret).to_have_attribute("autocomplete", "current-password")
    await expect(secret).to_have_attribute("type", "password")
    await button(page, "Show the password").click()
    await expect(secret).to_have_attribute("type", "text")
    await page.goto("/#/sign-up")
    await expect(field(page, "Password")).to_have_attribute("autocomplete", "new-password")


async def test_forgotten_password(open_page: OpenPage, site: Service, mails: Path) -> None:
    """By the link of the mail, once. The answer does not tell who has an account."""
    await site.state["accounts"].register("ann", PASSWORD, email="ann@example.org")
    page = await open_page("#/sign-in")
    for address in ("nobody@example.org", "ann@example.org"):
        await page.goto("/#/reset")
        await field(page, "E-mail").fill(address)
        await button(page, "Send the link").click()
        await expect(page.get_by_text("If an account has this address")).to_be_focused()
        await page.goto("/#/")
    link = await address_in(mails, "Choose a new password")
    await page.goto(f"/{link}")
    await field(page, "New password").fill(NEW_PASSWORD)
    assert "token" not in page.url
    await button(page, "Save the password").click()
    await expect(page.get_by_text("Your new password is saved.")).to_be_visible()
    await page.get_by_role("main").get_by_role("link", name="Sign in").click()
    await enter(page, "ann", NEW_PASSWORD)
    await expect(button(page, "Sign out")).to_be_visible()
    await page.goto(f"/{link}")
    await field(page, "New password").fill(NEW_PASSWORD)
    await page.get_by_role("banner").get_by_label("Language").select_option("de")
    await field(page, "Neues Passwort").fill(NEW_PASSWORD)
    await button(page, "Passwort speichern").click()
    await expect(page.get_by_text("Dieser Link wurde schon benutzt")).to_be_visible()
    await button(page, "Neuen Link anfordern").click()
    await expect(field(page, "E-Mail")).to_be_focused()


async def test_verify(open_page: OpenPage, site: Service, mails: Path) -> None:
    """By the link of a mail; the account says whether it was, and sends it again."""
    page = await visit_account(open_page, site, email="ann@example.org")
    await expect(page.get_by_text("This address is not confirmed yet.")).to_be_visible()
    await button(page, "Send the mail again").click()
    await expect(page.locator(".toast")).to_have_text("A mail is on its way to ann@example.org.")
    link = await address_in(mails, "Please confirm your e-mail address")
    await page.evaluate("(link) => { location.hash = link; }", link)
    await expect(page.get_by_text("Thank you. Your address is confirmed.")).to_be_visible()
    await page.evaluate("location.hash = '#/account'")
    await expect(page.get_by_text("This address is confirmed.")).to_be_visible()
    await page.goto("/#/verify?token=nonsense")
    await expect(page.get_by_text("This link was used already")).to_be_visible()


async def test_profile(open_page: OpenPage, site: Service) -> None:
    """Name, address and language; an address of somebody else is told at its field."""
    await site.state["accounts"].register("ben", PASSWORD, email="ben@example.org")
    page = await visit_account(open_page, site)
    profile = card(page, "Profile")
    await field(profile, "Name (optional)").fill("Ann <b>A.</b>")
    await field(profile, "E-mail (optional)").fill("ben@example.org")
    await button(profile, "Save").click()
    await expect(field(profile, "E-mail (optional)")).to_be_focused()
    await expect(page.get_by_text("This address belongs to another account.")).to_be_visible()
    await field(profile, "E-mail (optional)").fill("ann@example.org")
    await field(profile, "Language").select_option(label="Français")
    await button(profile, "Save").click()
    await expect(page.get_by_role("heading", name="Votre compte")).to_be_visible()
    await expect(page.get_by_role("banner")).to_contain_text("Ann <b>A.</b>")
    [row] = await site.sql("select name, email, locale from users where username = 'ann'")
    assert tuple(row) == ("Ann <b>A.</b>", "ann@example.org", "fr")


async def test_change_password(open_page: OpenPage, site: Service) -> None:
    """With the present one, which is asked for again when it is wrong."""
    page = await visit_account(open_page, site)
    part = card(page, "Change the password")
    await field(part, "Current password").fill("not the password")
    await field(part, "New password").fill(NEW_PASSWORD)
    await button(part, "Change the password").click()
    await expect(field(part, "Current password")).to_be_focused()
    await expect(part.get_by_text("The password is not right.")).to_be_visible()
    await field(part, "Current password").fill(PASSWORD)
    await button(part, "Change the password").click()
    await expect(page.locator(".toast")).to_contain_text("Your password is changed.")
    assert await site.state["accounts"].login("ann", NEW_PASSWORD)


async def test_delete_account(open_page: OpenPage, site: Service) -> None:
    """Asked once more, with the password; then nobody is signed in, and nobody can be."""
    page = await visit_account(open_page, site)
    part = card(page, "Delete the account")
    await button(part, "Delete the account").click()
    await button(part, "Keep the account").click()
    await expect(button(part, "Delete the account")).to_be_focused()
    await button(part, "Delete the account").click()
    await field(part, "Password").fill("not the password")
    await button(part, "Delete for good").click()
    await expect(part.get_by_text("The password is not right.")).to_be_visible()
    await field(part, "Password").fill(PASSWORD)
    await button(part, "Delete for good").click()
    await expect(page.locator(".toast")).to_have_text("Your account is deleted.")
    await expect(page.get_by_role("heading", name="Events", exact=True)).to_be_visible()
    await page.goto("/#/sign-in")
    await enter(page, "ann", PASSWORD)
    await expect(page.get_by_role("alert")).to_be_visible()


@pytest.mark.parametrize("width", [360, 1920])
@pytest.mark.parametrize("address", ["sign-in", "sign-up", "reset", "reset?token=x", "account"])
async def test_fits(open_page: OpenPage, site: Service, address: str, width: int) -> None:
    """Nothing is wider than the screen."""
    page = await open_page("#/", viewport={"width": width, "height": 740})
    await sign_in(page, await site.sign_up("ann"))
    await page.evaluate("(address) => { location.hash = `#/${address}`; }", address)
    await expect(page.locator("form").last).to_be_attached()
    assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
