"""The event of a run: made by its organizer, or there already; and what it came to in the end."""

import asyncio
from collections.abc import Sequence
from typing import Any

from seatsvc.load.client import Client, Connection, LoadError
from seatsvc.load.hall import Hall, Seen
from seatsvc.load.history import Booking, Ending, Terms
from seatsvc.load.people import User, patiently

PAGE = 100
AT_ONCE = 8
ROW_SEATS = 20
ROWS_MAX = 500  # so that the body stays small
PRICE = 2500  # minor units


class BoxOffice:
    """Speaks for the organizer, who may be nobody: then the event must be there."""

    def __init__(self, connection: Connection, organizer: User | None) -> None:
        self._connection, self._organizer = connection, organizer

    async def create(self, name: str, seats: int, general: bool, per_user: int | None) -> int:
        """Make an event with so many places; its id.

        Raises LoadError.
        """
        body = {
            "name": f"Load test: {name}",
            "ticket_types": [{"name": "Regular", "price": PRICE, "currency": "EUR"}],
            "sections": _sections(seats, general),
            "max_seats_per_user": per_user,
        }
        made = await self._call("POST", "/events", 201, body=body)
        return int(_read(made, "id"))

    async def terms(self, event_id: int, **more: Any) -> Terms:
        """What holds there.

        Raises LoadError.
        """
        event = await self._call("GET", f"/events/{event_id}", 200)
        per_user, per_day = (
            _read(event, name) for name in ("max_seats_per_user", "max_bookings_per_user_per_day")
        )
        return Terms(int(_read(event, "capacity")), per_user, per_day, **more)

    async def hall(self, event_id: int) -> Hall:
        """Its places.

        Raises LoadError.
        """
        return Hall(await self._call("GET", f"/events/{event_id}/layout", 200))

    async def seen(self, hall: Hall) -> Seen:
        """What is free there now.

        Raises LoadError.
        """
        path = f"/events/{hall.event_id}/availability"
        answer = await patiently(self._connection, "GET", path, 200)
        try:
            return hall.seen(answer.body)
        except ValueError as error:
            raise LoadError(f"{path}: {error}") from None

    async def cancel(self, event_id: int) -> None:
        """Take the event off sale.

        Raises LoadError.
        """
        await self._call("POST", f"/events/{event_id}/cancel", 200)

    async def ending(self, hall: Hall, own: dict[str, list[Booking]]) -> Ending:
        """What the service says now, besides the users' own lists.

        Raises LoadError.
        """
        listed, report, path = None, None, f"/events/{hall.event_id}"
        if self._organizer is not None:
            listed = await every_booking(self._connection, self._organizer, f"{path}/bookings?")
            report = await self._call("GET", f"{path}/report", 200)
        seen = await self.seen(hall)
        return Ending(own, listed, report, seen.counts, seen.free)

    async def _call(self, method: str, path: str, status: int, **more: Any) -> Any:
        token = self._organizer.access_token if self._organizer else ""
        answer = await patiently(self._connection, method, path, status, token=token, **more)
        return answer.json()


def _sections(seats: int, general: bool) -> list[dict[str, Any]]:
    """Rows of numbered seats; and a fifth of the places without numbers, if that is wanted."""
    standing = seats // 5 if general else 0
    numbered = seats - standing
    size = max(ROW_SEATS, -(-numbered // ROWS_MAX))
    full, rest = divmod(numbered, size)
    rows = [{"name": str(n + 1), "seats": size} for n in range(full)]
    rows += [{"name": str(full + 1), "seats": rest}] if rest else []
    sections: list[dict[str, Any]] = [{"name": "Hall", "ticket_type": "Regular", "rows": rows}]
    if standing:
        sections.append({"name": "Standing", "ticket_type": "Regular", "places": standing})
    return sections


def _read(document: Any, name: str) -> Any:
    try:
        return document[name]
    except (KeyError, TypeError):
        raise LoadError(f"The event has no {name}.") from None


async def own_bookings(
    client: Client, users: Sequence[User], event_id: int
) -> dict[str, list[Booking]]:
    """What each user's own list says.

    Raises LoadError.
    """
    found: dict[str, list[Booking]] = {}
    todo = iter(users)

    async def work(connection: Connection) -> None:
        for user in todo:
            found[user.id] = await every_booking(
                connection, user, f"/bookings?event_id={event_id}&"
            )

    async with client.connections(AT_ONCE) as connections:
        await asyncio.gather(*map(work, connections))
    return found


async def every_booking(connection: Connection, user: User, path: str) -> list[Booking]:
    """All pages of a list.

    Raises LoadError.
    """
    found: list[Booking] = []
    cursor: str | None = ""
    while cursor is not None:
        page = f"{path}limit={PAGE}" + (f"&cursor={cursor}" if cursor else "")
        answer = (await patiently(connection, "GET", page, 200, token=user.access_token)).json()
        found += filter(None, map(Booking.of, _read(answer, "items")))
        cursor = _read(answer, "next_cursor")
    return found
