"""Replies of a list, in parts of bounded size. PURE."""

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from google.protobuf.message import Message
from msgspec import Struct

from pyswarm_core.codec import to_proto
from pyswarm_core.limits import SLICE_BYTES, SLICE_OBJECT_BYTES

K = TypeVar("K")
R = TypeVar("R", bound=Message)


def _nothing_more(_: object) -> int:
    return 0


def parts(
    keys: Iterable[K],
    view: Callable[[K], Struct | None],
    reply: type[R],
    field: str,
    work: Callable[[K], int] = _nothing_more,
) -> Iterator[R]:
    """Replies with the views of all keys in their repeated `field`, about SLICE_BYTES in each.

    A reply is one slice of work; it may be empty. A key whose view is None, because it is gone, is
    left out. `work` says what making a key's view takes beyond its bytes, in bytes too.
    """
    part, weight = reply(), 0
    for key in keys:
        weight += SLICE_OBJECT_BYTES + work(key)
        if (seen := view(key)) is not None:
            weight += to_proto(seen, getattr(part, field).add()).ByteSize()
        if weight >= SLICE_BYTES:
            yield part
            part, weight = reply(), 0
    if weight:
        yield part
