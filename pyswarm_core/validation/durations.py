"""Validation of durations in specs. PURE."""

from collections.abc import Iterable

from pyswarm_core.clock import HOUR
from pyswarm_core.docker.units import format_duration
from pyswarm_core.validation.problem import Problem

DURATION_MAX = 365 * 24 * HOUR
"""A year: longer than any use, and no sum of an instant and a few of them exceeds an int64."""


def duration_problems(field: str, duration: int) -> Iterable[Problem]:
    """A duration is not negative, and not longer than a year."""
    if not 0 <= duration <= DURATION_MAX:
        expected = f"expected 0s to {format_duration(DURATION_MAX)}"
        yield Problem(field, format_duration(duration), expected)
