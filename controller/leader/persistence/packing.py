"""Operations as transactions of the store. PURE."""

from collections.abc import Iterable, Iterator
from itertools import chain

from controller.store.base import MAX_TXN_OPS, Delete, Put
from pyswarm_core.limits import TXN_BYTES_MAX, TXN_PUTS

Operation = Put | Delete
Group = list[Operation]
"""Operations that one transaction has together."""


def weight(pack: Iterable[Operation]) -> int:
    """The bytes of keys and values."""
    return sum(len(one.key) + (len(one.value) if isinstance(one, Put) else 0) for one in pack)


def packs(groups: Iterator[Group]) -> Iterator[list[Group]]:
    """Groups in transactions of at most TXN_PUTS operations and TXN_BYTES_MAX; one that exceeds
    TXN_PUTS has a transaction of its own, and one that no transaction takes is divided.
    """
    pack: list[Group] = []
    count = size = 0
    for group in chain.from_iterable(map(_divided, filter(None, groups))):
        more = weight(group)
        if pack and (count + len(group) > TXN_PUTS or size + more > TXN_BYTES_MAX):
            yield pack
            pack, count, size = [], 0, 0
        pack.append(group)
        count += len(group)
        size += more
    if pack:
        yield pack


def _divided(group: Group) -> list[Group]:
    return [group] if len(group) <= MAX_TXN_OPS else [[one] for one in group]
