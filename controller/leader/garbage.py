"""Keeps the garbage collector from pausing a leader. SHELL around the interpreter's collector.

What nobody refers to is freed at once, always; the collector finds what refers to itself. It looks
at young objects often, which takes some milliseconds. A look at all objects pauses everything: 0.2
s with a million tasks, because their dicts are looked through, and more with ten thousand sessions.
A leader never takes one, as it would find nothing: neither the state nor an ended call leaves
cycles (`controller.grpc.calls` cuts them), except five objects of gRPC's per call, which are
garbage while they are young.
"""

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager

YOUNG_OBJECTS = 5_000
"""New objects after which the youngest are looked at."""
NEVER = 1_000_000_000
"""Looks at younger objects before the interpreter would look at all by itself."""


def freeze() -> None:
    """Have no look see what exists now: modules, and the state that was just loaded. Both live as
    long as the term or are freed without a look. `young_only` ends that with the term.
    """
    gc.freeze()


@contextmanager
def unseen(then: Callable[[], None]) -> Iterator[None]:
    """No look while the block makes a million objects, none of them garbage; `then` comes before
    the next one.
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
    """While the block runs only young objects are looked at. Afterwards nothing is frozen any more,
    all garbage is freed (a term's state is in cycles: a second with a million tasks, in which this
    controller leads nobody), and the interpreter decides by itself again.
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
    """Has the youngest objects looked at when enough were made.

    The interpreter counts those that were made less those that were freed. A slot's tuple that
    takes the place of an older one is young and does not count: after a hundred thousand reports
    one look took 0.1 s.
    """

    def __init__(self) -> None:
        self._made = 0

    def made(self, count: int) -> None:
        """So many took the place of older ones."""
        self._made += count
        if self._made >= YOUNG_OBJECTS and gc.isenabled():
            self._made = 0
            gc.collect(0)
