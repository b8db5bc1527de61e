"""Many at once: each test names its race, and asserts the answers and the rows."""

import asyncio
from collections import Counter

from tests.conftest import Service


async def test_500_users_want_one_seat(service: Service) -> None:
    """500 different users book seat 1 at the same moment: one gets it."""
    people = await service.sign_up_many(500)
    answers = await asyncio.gather(*(person.book(1) for person in people))
    assert Counter(answer.status_code for answer in answers) == {201: 1, 409: 499}
    codes = {answer.json()["code"] for answer in answers if answer.status_code == 409}
    assert codes <= {"busy", "seat_taken"}
    rows = await service.sql("select user_id from bookings where status = 'active'")
    winner = next(answer for answer in answers if answer.status_code == 201)
    assert [str(row["user_id"]) for row in rows] == [winner.json()["user_id"]]
    assert 1 not in await service.free()
