"""Halls of 10,000 seats and more: how fast they are drawn, and what is drawn at first."""

import re
from typing import Any

import pytest
from playwright.async_api import Page, expect

from seatsvc.events import RowDraft, SectionDraft, TicketTypeDraft
from tests.browser.conftest import OpenPage
from tests.conftest import Service, Venue

KINDS = [TicketTypeDraft("Near", 8900, "EUR"), TicketTypeDraft("Far", 4900, "EUR")]
# The time that the map itself takes, without the network, until the browser has painted it.
DRAW = """async (id) => {
  const { HallMap } = await import('/assets/map.js');
  const answers = ['layout', 'ticket-types', 'availability'].map((name) =>
    fetch(`/events/${id}/${name}`).then((answer) => answer.json()));
  const [layout, kinds, availability] = await Promise.all(answers);
  const types = new Map(kinds.items.map((type) => [type.id, type]));
  const painted = () => new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
  document.querySelector('main').replaceChildren();
  await painted();
  const begun = performance.now();
  const map = new HallMap(layout, { types, onPick() {} });
  map.update(availability);
  document.querySelector('main').append(map.element);
  await painted();
  window.map = map;
  return performance.now() - begun;
}"""
# Zoom in and out for two seconds; the times between the frames.
ZOOM = """async () => {
  const frame = () => new Promise(requestAnimationFrame);
  const gaps = [];
  let [last, begun] = [await frame(), performance.now()];
  while (performance.now() - begun < 2000) {
    map.zoom.by(gaps.length % 40 < 20 ? 1.06 : 1 / 1.06);
    const now = await frame();
    gaps.push(now - last);
    last = now;
  }
  return gaps.sort((one, other) => one - other);
}"""


async def large(site: Service, sections: int, rows: int, seats: int) -> Venue:
    """A hall of that many seats."""
    plan = [RowDraft(str(n + 1), places=seats) for n in range(rows)]
    drafts = [
        SectionDraft(f"Block {n + 1}", plan, ticket_type=KINDS[n % 2].name) for n in range(sections)
    ]
    return await site.add_event(*drafts, ticket_types=KINDS)


async def throttled(page: Page, rate: int) -> None:
    """As on a machine so many times slower."""
    session: Any = await page.context.new_cdp_session(page)
    await session.send("Emulation.setCPUThrottlingRate", {"rate": rate})


async def test_ten_thousand_seats(
    open_page: OpenPage, site: Service, capsys: pytest.CaptureFixture[str]
) -> None:
    """All are drawn, each for itself. The times depend on the machine: see what is printed."""
    venue = await large(site, 20, 20, 25)
    page = await open_page("#/", viewport={"width": 1280, "height": 900})
    times = [await page.evaluate(DRAW, venue.event_id) for _ in range(3)]
    assert await page.locator("svg.hall [role=checkbox]").count() == 10_000
    gaps = {}
    for rate in (1, 6):
        await throttled(page, rate)
        gaps[rate] = await page.evaluate(ZOOM)
    with capsys.disabled():
        print(f"\n10,000 seats drawn in {min(times):.0f} ms")
        for rate, found in gaps.items():
            middle, worst = found[len(found) // 2], found[int(len(found) * 0.95)]
            print(f"zoom, CPU slowed {rate}x: {middle:.0f} ms a frame, 95% under {worst:.0f} ms")
    assert min(times) < 2000


async def test_larger_halls_show_sections_first(open_page: OpenPage, site: Service) -> None:
    """By keyboard: step into one, choose a seat, and step out again."""
    venue = await large(site, 30, 20, 25)
    page = await open_page(f"#/events/{venue.event_id}")
    hall = page.locator("svg.hall")
    seats = hall.get_by_role("checkbox")
    await expect(seats).to_have_count(0)
    await hall.get_by_role("button", name="Section Block 1, 500 free. Open it.").focus()
    await page.keyboard.press("ArrowRight")
    await page.keyboard.press("Enter")
    await expect(seats).to_have_count(500)
    first = hall.get_by_role("checkbox", name=re.compile("^Block 2, row 1, seat 1,"))
    await expect(first).to_be_focused()
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("button", name="Hold this seat")).to_be_visible()
    await page.keyboard.press("Escape")
    await expect(seats).to_have_count(0)
    await expect(hall.get_by_role("button", name=re.compile("^Section Block 2,"))).to_be_focused()
