"""Identifiers. PURE: the source of new ids is an argument, an `IdSource`.

An id is 25 characters of a 32-letter alphabet (125 random bits), as long and as lower-case as
Docker's, so that tables and prefixes look the same.
"""

from typing import NewType, Protocol

ServiceId = NewType("ServiceId", str)
TaskId = NewType("TaskId", str)
NodeId = NewType("NodeId", str)
NetworkId = NewType("NetworkId", str)

ID_LENGTH = 25
ID_ALPHABET = "0123456789abcdefghijklmnopqrstuv"

# Every byte value maps to a letter, eight to each: random bytes become an unbiased id at once.
_LETTERS = bytes(ord(ID_ALPHABET[value % len(ID_ALPHABET)]) for value in range(256))


WHOLE_HOST = NetworkId("")
"""The network of a fault that concerns all networks."""


class IdSource(Protocol):
    """The source of new ids: random in production, seeded in the simulator."""

    def draw(self, count: int) -> list[str]:
        """Return `count` ids that were never returned before."""
        ...


def ids_from_bytes(raw: bytes) -> list[str]:
    """Turn random bytes into ids, 25 bytes each. `len(raw)` must be a multiple of 25."""
    text = raw.translate(_LETTERS).decode("ascii")
    return [text[start : start + ID_LENGTH] for start in range(0, len(text), ID_LENGTH)]


def short(identifier: str) -> str:
    """The 12 characters that tables show."""
    return identifier[:12]
