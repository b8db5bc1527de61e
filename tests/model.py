"""What selling seats should be, said as simply as it can be: one caller, no clock, no database."""

import asyncio
from dataclasses import dataclass, field
from typing import Any

from seatsvc.events import RowDraft, SectionDraft, TicketTypeDraft
from tests.conftest import Service, Venue

POLLS_MAX, POLL_S = 500, 0.02
USERS = 3
SEATS_MAX = 5
TODAY_MAX = 2
PRICES = {"Few": 500, "Many": 300, "Standing": 200}
QUANTITIES = {"Few": 3, "Standing": 4}
# Rows of 4, 4 and 2 seats, then 6 places of which only 4 may be sold: (section, row, own type).
HALL = [
    *[("A", "1", None)] * 4,
    *[("A", "2", None)] * 4,
    *[("B", "1", "Few")] * 2,
    *[("Field", None, "Standing")] * 6,
]


@dataclass
class Sale:
    """A booking or a hold that the service said it made, and the types of its places."""

    id: str
    path: str
    user: int
    types: dict[int, str]
    runs: bool = True


@dataclass
class Model:
    """What should be so. Places are numbered from 0."""

    sales: list[Sale] = field(default_factory=list)
    blocked: set[int] = field(default_factory=set)
    answers: dict[tuple[int, str], tuple[object, bytes]] = field(default_factory=dict)

    def owner(self, place: int) -> Sale | None:
        """Who has it."""
        return next((sale for sale in self.sales if sale.runs and place in sale.types), None)

    def state(self, place: int) -> str:
        """As the availability shows it."""
        owner = self.owner(place)
        if owner:
            return "b" if owner.path == "bookings" else "h"
        return "x" if place in self.blocked else "f"

    def states(self) -> str:
        """Of the whole hall."""
        return "".join(map(self.state, range(len(HALL))))

    def room(self, kind: str) -> int:
        """How many more of this type may be sold."""
        taken = [each for sale in self.sales if sale.runs for each in sale.types.values()]
        return QUANTITIES.get(kind, 1000) - taken.count(kind)

    def types_of(self, wanted: list[int], kind: str | None) -> dict[int, str]:
        """As which type each place is sold: its own, or the wanted, or the first with room."""
        first = kind or next(each for each in PRICES if self.room(each) >= len(wanted))
        return {place: HALL[place][2] or first for place in wanted}

    def limit(self, user: int, quantity: int, booked: Sale | None = None) -> str | None:
        """Which of the user's limits this many more places would break."""
        mine = [sale for sale in self.sales if sale.user == user and sale.runs]
        if sum(sale.path == "bookings" for sale in mine) >= TODAY_MAX:
            return "daily_limit_reached"
        seats = sum(len(sale.types) for sale in mine if sale is not booked)
        return "user_limit_reached" if seats + quantity > SEATS_MAX else None

    def refusal(self, user: int, wanted: list[int], kind: str | None) -> str | None:
        """Why these places cannot be had."""
        states = {self.state(place) for place in wanted}
        for state, code in ("b", "seat_taken"), ("x", "seat_blocked"), ("h", "seat_held"):
            if state in states:
                return code
        sold_as = list(self.types_of(wanted, kind).values())
        if kind and set(sold_as) != {kind}:
            return "ticket_type_not_allowed"
        if any(sold_as.count(each) > self.room(each) for each in sold_as):
            return "ticket_type_sold_out"
        return self.limit(user, len(wanted))

    def refusals_of_best(
        self, user: int, quantity: int, section: str | None, kind: str | None
    ) -> set[str | None]:
        """Why so many places, whichever, may be refused; None: they may be had."""
        if section not in (None, *(name for name, _, _ in HALL)):
            return {"not_found"}
        rooms: dict[str, list[int]] = {}
        for place, (name, _, own) in enumerate(HALL):
            if section in (None, name) and (None in (kind, own) or kind == own):
                rooms.setdefault(own or kind or "Many", []).append(place)
        if not rooms:
            return {"ticket_type_not_allowed"}
        free = {
            each: [self.state(place) for place in group].count("f") for each, group in rooms.items()
        }
        if sum(free.values()) < quantity:
            return {"sold_out"}
        surely = sum(count for each, count in free.items() if self.room(each) >= quantity)
        at_most = sum(min(count, self.room(each)) for each, count in free.items())
        possible: set[str | None] = set()
        if surely < quantity:
            possible |= {"sold_out", "ticket_type_sold_out"}
        if at_most >= quantity:
            possible.add(self.limit(user, quantity))
        return possible


async def add_event(service: Service) -> Venue:
    """The model's hall and limits."""
    rows = [RowDraft("1", list("1234")), RowDraft("2", list("1234"))]
    return await service.add_event(
        SectionDraft("A", rows),
        SectionDraft("B", [RowDraft("1", list("12"))], ticket_type="Few"),
        SectionDraft("Field", places=6, ticket_type="Standing"),
        ticket_types=[
            TicketTypeDraft(name, price, "EUR", QUANTITIES.get(name))
            for name, price in PRICES.items()
        ],
        max_seats_per_user=SEATS_MAX,
        max_bookings_per_user_per_day=TODAY_MAX,
    )


async def states_of(service: Service, venue: Venue) -> str:
    """The hall as the availability shows it."""
    answer = await service.client.get(f"/events/{venue.event_id}/availability")
    return "".join(section["states"] for section in answer.json()["sections"])


async def expire_now(service: Service, hold_id: str) -> None:
    """Return when the service has noticed that the hold's time is up."""
    await service.sql(
        "with old as (update holds set expires_at = now() - interval '1 ms'"
        "              where id::text = $1 returning id, expires_at)"
        " update seats set held_until = expires_at from old where hold_id = old.id",
        hold_id,
    )
    for _ in range(POLLS_MAX):
        query = "select from holds where id::text = $1 and ended_at is not null"
        if await service.sql(query, hold_id):
            return
        await asyncio.sleep(POLL_S)
    raise AssertionError("never noticed")


async def shown(service: Service, venue: Venue, states: str) -> None:
    """Return when the availability shows these states."""
    for _ in range(POLLS_MAX):
        if await states_of(service, venue) == states:
            return
        await asyncio.sleep(POLL_S)
    raise AssertionError(f"never shown: {states}")


def sale_of(
    venue: Venue,
    type_ids: dict[str | None, int | None],
    path: str,
    user: int,
    answer: dict[str, Any],
) -> Sale:
    """What a 201 says; all of it must fit together."""
    names = {type_id: str(name) for name, type_id in type_ids.items()}
    places: dict[int, str] = {}
    for seat in answer["seats"]:
        place, name = seat["id"] - venue.seats[0], names[seat["ticket_type_id"]]
        assert (seat["section"], seat["row"]) == HALL[place][:2], seat
        assert seat["price"] == PRICES[name], seat
        places[place] = name
    if path == "bookings":
        assert answer["total"] == sum(PRICES[name] for name in places.values()), answer
        assert (answer["quantity"], answer["currency"]) == (len(places), "EUR"), answer
    return Sale(answer["id"], path, user, places)
