"""Archives on stdin that are compressed, as Docker accepts them: gzip, bzip2 and xz. SHELL."""

from io import BufferedReader
from typing import BinaryIO, cast

from pyswarm_core.errors import InvalidArgument

_ZSTD = b"\x28\xb5\x2f\xfd"


def opened(file: BufferedReader) -> BinaryIO:
    """The archive as it is without its compression. Raises InvalidArgument for zstd."""
    beginning = file.peek(6)
    if beginning.startswith(b"\x1f\x8b"):
        import gzip

        return cast(BinaryIO, gzip.open(file))
    if beginning.startswith(b"BZh"):
        import bz2

        return cast(BinaryIO, bz2.open(file))
    if beginning.startswith(b"\xfd7zXZ\x00"):
        import lzma

        return cast(BinaryIO, lzma.open(file))
    if beginning.startswith(_ZSTD):
        raise InvalidArgument("standard input is compressed with zstd: use `zstdcat FILE |`")
    return file
