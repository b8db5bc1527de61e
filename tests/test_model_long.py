"""The model, played longer; and played with a broken build, to see that it notices."""

import pytest
from hypothesis.errors import Flaky

from tests.conftest import Service
from tests.test_guards import Build
from tests.test_model import GENERATE, play

pytestmark = pytest.mark.slow


async def test_model_at_length(shared: Service) -> None:
    """Other sequences each time."""
    await play(shared, max_examples=60, stateful_step_count=40)


@pytest.mark.parametrize(
    ("function", "edit"),
    [
        ("remaining_allowance", ("coalesce(sum(b.quantity), 0)", "0")),
        ("cancel_booking", ("perform count_types(priced, -1);", "")),
        ("end_holds", ("taken - l.seats", "taken")),
        ("judge", ("created_at > now()", "created_at < now()")),
    ],
)
async def test_model_notices(
    service: Service, monkeypatch: pytest.MonkeyPatch, function: str, edit: tuple[str, str]
) -> None:
    """Bookings count for no limit; a ticket type is not given back; a key is forgotten: noticed."""
    await Build(service, service, monkeypatch).rewrite(function, edit)
    with pytest.raises((AssertionError, Flaky)):
        await play(
            service,
            max_examples=100,
            stateful_step_count=50,
            derandomize=True,
            phases=GENERATE,
        )
