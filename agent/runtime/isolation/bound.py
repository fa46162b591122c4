"""What a bind shows. PURE values."""

import msgspec


class BoundSource(msgspec.Struct, frozen=True):
    """A file or directory of the host that a container shows."""

    target: str
    source: str
    """As the spec names it."""
    path: str
    """Without symbolic links."""
    device: int
    inode: int
