"""Prices and states can be told apart with every kind of sight, as Chromium simulates them."""

import base64
from itertools import combinations

import pytest
from playwright.async_api import Page

from seatsvc.events import RowDraft, SectionDraft, TicketTypeDraft
from tests.browser.conftest import OpenPage
from tests.conftest import Service

KINDS = [TicketTypeDraft(f"Type {n}", 1000 * (9 - n), "EUR") for n in range(7)]
SIGHTS = ["none", "protanopia", "deuteranopia", "tritanopia", "achromatopsia"]
# The part of a sign's pixels that differs clearly from another's.
DIFFERENT_MIN = 0.04
CLEARLY = 48  # of 255, in one of red, green and blue
PIXELS = """async (source) => {
  const image = new Image();
  image.src = source;
  await image.decode();
  const canvas = document.createElement('canvas');
  [canvas.width, canvas.height] = [image.width, image.height];
  const context = canvas.getContext('2d');
  context.drawImage(image, 0, 0);
  return [...context.getImageData(0, 0, image.width, image.height).data];
}"""
# As large as a seat is when one is about to choose it.
LARGER = "(sign) => sign.setAttribute('width', '40') || sign.setAttribute('height', '40')"


async def signs(page: Page) -> list[list[int]]:
    """The pixels of each sign of the legend."""
    found = []
    for sign in await page.locator(".legend .sign").all():
        picture = base64.b64encode(await sign.screenshot()).decode()
        found.append(await page.evaluate(PIXELS, f"data:image/png;base64,{picture}"))
    return found


def difference(one: list[int], other: list[int]) -> float:
    """The part of the pixels that differ clearly."""
    pixels = zip(
        zip(one[::4], one[1::4], one[2::4], strict=True),
        zip(other[::4], other[1::4], other[2::4], strict=True),
        strict=False,
    )
    differing = [
        max(abs(a - b) for a, b in zip(here, there, strict=True)) > CLEARLY
        for here, there in pixels
    ]
    return sum(differing) / len(differing)


@pytest.mark.parametrize("sight", SIGHTS)
@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_signs_differ(open_page: OpenPage, site: Service, sight: str, scheme: str) -> None:
    """Each price's from every other's, and from those of what is taken."""
    sections = [
        SectionDraft(kind.name, [RowDraft("1", places=4)], ticket_type=kind.name) for kind in KINDS
    ]
    venue = await site.add_event(*sections, ticket_types=KINDS)
    page = await open_page(f"#/events/{venue.event_id}", color_scheme=scheme)
    await page.locator(".legend .sign").first.wait_for()
    await page.locator(".legend .sign").evaluate_all(f"(signs) => signs.forEach({LARGER})")
    session = await page.context.new_cdp_session(page)
    await session.send("Emulation.setEmulatedVisionDeficiency", {"type": sight})
    pictures = await signs(page)
    assert len(pictures) > len(KINDS)
    for one, other in combinations(pictures, 2):
        assert difference(one, other) > DIFFERENT_MIN
