"""An invalid field of a spec as a value, and its text in errors. PURE.

Values are quoted in ASCII and cut: a name of ten megabytes or full of terminal codes stays one
harmless line.
"""

from collections.abc import Iterable, Mapping, Sequence, Sized

import msgspec

from pyswarm_core.errors import InvalidArgument, not_valid, quoted

_PROBLEMS_MAX = 10
"""Problems that one error names."""


class Problem(msgspec.Struct, frozen=True):
    """One field whose value is not valid."""

    field: str
    """The flag that sets it (`--limit-memory`), or its name in the API (`image`)."""
    value: object
    expected: str
    """A clause that says what would be valid: `expected 0, or 6MiB to 256TiB`."""
    what: str = "value"
    """The part of the field that `value` is: `key`, `count`, `size`."""

    def __str__(self) -> str:
        return not_valid(self.field, self.value, self.expected, self.what)


class Missing(Problem, frozen=True):
    """A part of the field that is required and was not given: `value` is its name."""

    def __str__(self) -> str:
        return f"{self.field}: missing required {self.what} {quoted(self.value)}: {self.expected}"


def require(problems: Sequence[Problem]) -> None:
    """Raise InvalidArgument naming the problems (ten at most) if there are any."""
    if not problems:
        return
    named = "; ".join(str(problem) for problem in problems[:_PROBLEMS_MAX])
    more = len(problems) - _PROBLEMS_MAX
    raise InvalidArgument(named if more <= 0 else f"{named}; and {more} more")


def as_typed(problems: Iterable[Problem], typed: Mapping[str, str]) -> list[Problem]:
    """The problems with the values as they were typed, by flag: `1us`, not 1000."""
    return [
        msgspec.structs.replace(problem, value=typed[problem.field])
        if problem.what == "value" and problem.field in typed
        else problem
        for problem in problems
    ]


def within(field: str, value: int, low: int, high: int, what: str = "value") -> Iterable[Problem]:
    """A problem if the value is not in low..high."""
    if not low <= value <= high:
        yield Problem(field, value, f"expected {low} to {high}", what)


def at_most(field: str, values: Sized, most: int) -> Iterable[Problem]:
    """A problem if there are more values than `most`."""
    if len(values) > most:
        yield Problem(field, len(values), f"expected at most {most}", "count")
