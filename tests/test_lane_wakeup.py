"""A lane whose calls have just ended starts a new one for whoever comes at that very moment."""

import asyncio

import pytest

from seatsvc.lanes import Lane


@pytest.mark.parametrize("calls_max", [1, 2, 4])
async def test_whoever_comes_as_a_call_ends_is_served(calls_max: int) -> None:
    """The item races the end of the last call: it must not wait for the next item to come by."""

    async def run(items: list[int]) -> list[int]:
        return items

    lane = Lane(run, calls_max=calls_max)

    async def three_times(item: int) -> list[int]:
        return [await lane(item) for _ in range(3)]

    async with asyncio.timeout(5):
        answers = await asyncio.gather(*map(three_times, range(calls_max)))
    assert answers == [[item] * 3 for item in range(calls_max)]
