"""Work that is done in slices, so that no request blocks the leader's event loop. PURE.

A sliced computation is a generator: it yields None after each slice, which is bounded in counted
work (`SLICE_TASKS`, `SLICE_BYTES` of limits.py), and returns its result. The caller decides what
runs between slices (`controller.leader.slicing.SliceRunner`), and the state may change there. A
sliced computation therefore collects ids or slot numbers first and looks each up later: it shows
each object as of the moment of the lookup, and skips objects that are gone.
"""

from collections.abc import Generator, Iterable, Iterator
from itertools import islice
from typing import Generic, NamedTuple, TypeVar

from pyswarm_core.clock import NEVER, Instant

T = TypeVar("T")

Slices = Generator[None, None, T]
"""Yields between slices, returns the result."""


class WatchResult(NamedTuple, Generic[T]):
    """The answer to a watch."""

    value: T
    due: Instant = NEVER
    """When time alone may change it."""


def finish(work: Slices[T]) -> T:
    """The result, at once: for small inputs and for tests."""
    while True:
        try:
            next(work)
        except StopIteration as done:
            result: T = done.value
            return result


def batches(items: Iterable[T], count: int) -> Iterator[list[T]]:
    """The items in lists of `count`; the last one may be shorter."""
    source = iter(items)
    while part := list(islice(source, count)):
        yield part
