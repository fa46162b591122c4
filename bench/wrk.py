"""The report of wrk, as numbers. PURE."""

import re
from collections.abc import Iterable
from typing import NamedTuple

_REQUESTS = re.compile(r"^ *(\d+) requests in ", re.MULTILINE)
_ERRORS = re.compile(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)")
_STATUS = re.compile(r"Non-2xx or 3xx responses: (\d+)")


class Counts(NamedTuple):
    """Counts of answered and of failed requests."""

    answered: int = 0
    connect: int = 0
    read: int = 0
    write: int = 0
    timeout: int = 0
    status: int = 0
    """Answered, but not with 2xx or 3xx."""

    @property
    def failed(self) -> int:
        return sum(self) - self.answered

    @property
    def total(self) -> int:
        return sum(self) - self.status


def parse(text: str) -> Counts:
    """Parse the report, which leaves out counts of 0. Raises ValueError."""
    answered = _REQUESTS.search(text)
    if answered is None:
        raise ValueError(f"not a report of wrk: {text.strip()!r}")
    errors, status = _ERRORS.search(text), _STATUS.search(text)
    sockets = errors.groups() if errors else ("0",) * 4
    return Counts._make(map(int, (answered[1], *sockets, status[1] if status else "0")))


def total(counts: Iterable[Counts]) -> Counts:
    """The sum of several counts."""
    return Counts._make(map(sum, zip(*counts, strict=True)))


def summary(counts: Counts) -> str:
    """A text: how many of how many failed, and how."""
    ways = [f"{n} {way}" for way, n in zip(counts._fields[1:], counts[1:], strict=True) if n]
    return ": ".join(filter(None, (f"{counts.failed:,} of {counts.total:,}", ", ".join(ways))))
