"""Avoids long pauses for garbage collection in a leader. SHELL around the interpreter's collector.

Reference counting frees most objects at once; the collector finds reference cycles. A collection of
young objects is frequent and takes some milliseconds. A full collection pauses the process: for 0.2
s with a million tasks, because it traverses their dicts, and longer with ten thousand sessions. A
leader runs none, as it would find nothing: neither the state nor an ended call leaves cycles
(`controller.grpc.calls` breaks them), except five objects of gRPC per call, which are collected
young.
"""

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager

YOUNG_OBJECTS = 5_000
"""New objects after which young objects are collected."""
NEVER = 1_000_000_000
"""Collections of younger objects before the interpreter would run a full one."""


def freeze() -> None:
    """Exclude what exists now from collections: modules, and the state that was just loaded. Both
    live as long as the term or are freed by reference counting. `young_only` ends that.
    """
    gc.freeze()


@contextmanager
def unseen(then: Callable[[], None]) -> Iterator[None]:
    """Disable garbage collection in the block, which makes a million objects and no garbage. `then`
    runs before the next collection.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
        then()
    finally:
        if was_enabled:
            gc.enable()


@contextmanager
def young_only() -> Iterator[None]:
    """Only young objects are collected while the block runs. Afterwards nothing is frozen any more,
    a full collection runs (a term's state is in cycles: one second with a million tasks, in which
    this controller does not lead), and the interpreter's thresholds apply again.
    """
    before = gc.get_threshold()
    gc.set_threshold(YOUNG_OBJECTS, before[1], NEVER)
    try:
        yield
    finally:
        gc.unfreeze()
        gc.collect()
        gc.set_threshold(*before)


class YoungObjects:
    """Collects young objects when enough were made.

    The interpreter counts the objects made minus those freed. A tuple that replaces an older tuple
    of a slot is young and does not count: after a hundred thousand reports one collection took 0.1
    s.
    """

    def __init__(self) -> None:
        self._made = 0

    def made(self, count: int) -> None:
        """`count` objects replaced older ones."""
        self._made += count
        if self._made >= YOUNG_OBJECTS and gc.isenabled():
            self._made = 0
            gc.collect(0)
