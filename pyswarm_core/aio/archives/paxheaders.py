"""PAX headers of archives that nobody trusts. PURE.

`tarfile` searches them by patterns that take quadratic time and memory for records made for it, and
applies the records of global headers to every entry that follows.
"""

import re

from pyswarm_core.aio.archives.entries import refused
from pyswarm_core.aio.archives.limits import (
    ARCHIVE_GLOBAL_BYTES_MAX,
    ARCHIVE_GLOBAL_RECORDS_MAX,
)

_LENGTH = re.compile(rb"(\d{1,8}) ")
_DIGITS = re.compile(rb"\d{256}")
"""The patterns start again at each digit of a number."""


def records_of(name: str, header: bytes) -> int:
    """How many records the header has. Raises Refused, naming the entry, for invalid ones."""
    position = count = 0
    while position < len(header):
        found = _LENGTH.match(header, position)
        end = position + int(found[1]) if found else 0
        if not found or not found.end() < end <= len(header) or header[end - 1] != ord("\n"):
            raise refused(name, "has a PAX record that is not valid")
        if header.find(b"=", found.end(), end) <= found.end():
            raise refused(name, "has a PAX record that is not valid")
        position, count = end, count + 1
    if _DIGITS.search(header):
        raise refused(name, "has a PAX record with a number of more than 255 digits")
    return count


class Globals:
    """The global headers of one archive, which bound its records and bytes."""

    def __init__(self) -> None:
        self._records = 0
        self._bytes = 0

    def add(self, name: str, records: int, size: int) -> None:
        """Count one header. Raises Refused, naming it, if it is too much."""
        self._records += records
        self._bytes += size
        many = self._records > ARCHIVE_GLOBAL_RECORDS_MAX
        if many or self._bytes > ARCHIVE_GLOBAL_BYTES_MAX:
            raise refused(
                name,
                f"exceeds the limit of {ARCHIVE_GLOBAL_RECORDS_MAX} records and "
                f"{ARCHIVE_GLOBAL_BYTES_MAX} bytes of global PAX headers",
            )
