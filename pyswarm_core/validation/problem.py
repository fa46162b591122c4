"""What is wrong with a spec, as a value, and how it is said. PURE.

Values are quoted in ASCII and cut: a name of ten megabytes or full of terminal codes stays one
harmless line.
"""

from collections.abc import Iterable, Sequence

import msgspec

from pyswarm_core.errors import InvalidArgument

_SHOWN = 80
_TOLD = 10


class Problem(msgspec.Struct, frozen=True):
    """One field whose value is not allowed."""

    field: str
    """The word users type for it: `limit-memory`, `env`."""
    value: object
    expected: str
    """A clause that says what would be valid: `want 0 or at least 6MiB`."""

    def __str__(self) -> str:
        return f"{self.field} {shown(self.value)} is not valid: {self.expected}"


def shown(value: object) -> str:
    """The value quoted, in printable ASCII, at most 80 characters of it."""
    if isinstance(value, str):
        return ascii(value if len(value) <= _SHOWN else value[:_SHOWN] + "...")
    text = ascii(value)
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "..."


def require(problems: Sequence[Problem]) -> None:
    """Raise InvalidArgument naming the problems (ten at most) if there are any."""
    if not problems:
        return
    told = "; ".join(str(problem) for problem in problems[:_TOLD])
    more = len(problems) - _TOLD
    raise InvalidArgument(told if more <= 0 else f"{told}; and {more} more")


def within(field: str, value: int, low: int, high: int) -> Iterable[Problem]:
    """A problem if the value is not in low..high."""
    if not low <= value <= high:
        yield Problem(field, value, f"want {low} to {high}")
