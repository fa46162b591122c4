"""The system clock and the random source of ids: other code gets them as arguments. SHELL."""

import os
import time
from pathlib import Path

from pyswarm_core.clock import Instant
from pyswarm_core.ids import ID_LENGTH, ids_from_bytes


class SystemClock:
    """The host's wall clock."""

    def now(self) -> Instant:
        return Instant(time.time_ns())


class UnsteppedClock:
    """The host's wall clock as of the creation of this object, then steady: setting the host's
    clock neither delays nor advances a deadline.
    """

    def __init__(self) -> None:
        self._offset = time.time_ns() - time.monotonic_ns()

    def now(self) -> Instant:
        return Instant(self._offset + time.monotonic_ns())


class SteadyClock:
    """A clock with an unspecified start that is never set: for leases, not for timestamps."""

    def now(self) -> Instant:
        return Instant(time.monotonic_ns())


class RandomIds:
    """Ids of 125 bits from the kernel's generator."""

    def draw(self, count: int) -> list[str]:
        return ids_from_bytes(os.urandom(ID_LENGTH * count))


def home_directory() -> Path:
    """The user's home directory; `/`, as in a container, of a user that has none."""
    try:
        return Path.home()
    except RuntimeError:
        return Path("/")
