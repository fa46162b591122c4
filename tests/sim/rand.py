"""One seed, many streams of chance.

Every part of a run draws from a stream named after it, so that a new fault does not reshuffle what
the others do. Streams are Mersenne twisters seeded by a digest: the same everywhere.
"""

import random
from hashlib import blake2b

from pyswarm_core.clock import MILLISECOND
from pyswarm_core.ids import ID_LENGTH, ids_from_bytes


class Chance(random.Random):
    """One stream."""

    def hits(self, probability: float) -> bool:
        """True that often."""
        return self.random() < probability

    def duration(self, low_ms: float, high_ms: float) -> int:
        """Nanoseconds, evenly between two numbers of milliseconds."""
        return int(self.uniform(low_ms, high_ms) * MILLISECOND)

    def exponential(self, mean_ms: float) -> int:
        """Nanoseconds until something that happens every `mean_ms` happens next."""
        return int(self.expovariate(1 / mean_ms) * MILLISECOND)


class Seed:
    """The root of all chance in a run."""

    def __init__(self, number: int) -> None:
        self.number = number

    def stream(self, name: str) -> Chance:
        """The stream of that name, from its beginning."""
        digest = blake2b(f"{self.number}/{name}".encode(), digest_size=8).digest()
        return Chance(int.from_bytes(digest, "big"))


class SeededIds:
    """An IdSource that can be replayed."""

    def __init__(self, chance: Chance) -> None:
        self._chance = chance

    def draw(self, count: int) -> list[str]:
        """See `IdSource`."""
        return ids_from_bytes(self._chance.randbytes(ID_LENGTH * count))

    def fork(self) -> "SeededIds":
        """A copy that will draw the same ids."""
        twin = Chance()
        twin.setstate(self._chance.getstate())
        return SeededIds(twin)
