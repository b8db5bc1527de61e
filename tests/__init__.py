"""Tests meet the same real servers as `make run`."""

from seatsvc import patience
from seatsvc.api import crowd

# Most tests' clients share the service's event loop: what they take of it is no fault of its own.
# Those that ask how long somebody waits run it in a process, or set what they need.
patience.TURN_S = patience.ANSWER_S = crowd.LATE_S = 30.0
