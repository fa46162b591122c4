"""A place in the files of a log, which survives rotations and the agent. SHELL over its files."""

import os
from collections.abc import Sequence

import msgspec

from agent.runtime.logs import files

_HEAD_BYTES = 29
"""The time of a file's first record. Inodes are used again, times are not."""


class Position(msgspec.Struct, frozen=True, array_like=True):
    """After `offset` bytes of a file, which end a record. Without an inode: before all files."""

    inode: int = 0
    offset: int = 0
    head: str = ""
    in_parts: list[str] = []
    """Streams of whose last line a part was yielded."""
    skip: int = 0
    """Lines from there that are left out."""


def encoded(position: Position) -> bytes:
    """The position as readers get it."""
    return msgspec.json.encode(position)


def decoded(text: bytes) -> Position:
    """The position; the beginning if it is of another version."""
    try:
        return msgspec.json.decode(text, type=Position) if text else Position()
    except msgspec.MsgspecError:
        return Position()


def head_of(descriptor: int) -> str:
    """What identifies a file beside its inode; empty if it has no record yet."""
    return os.pread(descriptor, _HEAD_BYTES, 0).decode("ascii", "replace")


def found_at(opened: Sequence[int], position: Position) -> int | None:
    """The one of these files that the position is in, set to it; None if it is gone."""
    for descriptor in opened:
        if files.inode_of(descriptor) == position.inode and _is_of(descriptor, position):
            os.lseek(descriptor, position.offset, os.SEEK_SET)
            return descriptor
    return None


def _is_of(descriptor: int, position: Position) -> bool:
    if not head_of(descriptor).startswith(position.head):
        return False
    return not position.offset or os.pread(descriptor, 1, position.offset - 1) == b"\n"


def position_in(descriptor: int, rest: int, in_parts: list[str], skip: int) -> Position:
    """After what was read of a file, without the last `rest` bytes."""
    offset = os.lseek(descriptor, 0, os.SEEK_CUR) - rest
    return Position(files.inode_of(descriptor), offset, head_of(descriptor), in_parts, skip)
