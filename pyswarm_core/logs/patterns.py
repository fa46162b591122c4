"""Regular expressions of users, which RE2 matches in time linear in the text. PURE.

The library is imported with the first pattern: few daemons ever get one, and it takes 3 MiB.
"""

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

from pyswarm_core.errors import InvalidArgument, invalid
from pyswarm_core.logs.limits import GREP_BYTES, GREP_MEMORY, GREP_PROGRAM

_OF_THE_TEXT = (r"\A", r"\z", "(?")
"""What may mean something else in many lines than in one."""


class Pattern:
    """A compiled pattern."""

    def __init__(self, compiled: Any, joined: Any) -> None:
        self._compiled = compiled
        self._joined = joined

    def matching(self, texts: Sequence[bytes]) -> list[int]:
        """The indexes of the texts (without newlines) that have a match.

        Other threads run meanwhile.
        """
        if self._joined is None:
            return [n for n, text in enumerate(texts) if self._compiled.search(text)]
        return _lines_with_matches(self._joined, texts)


def pattern(field: str, text: str, program_max: int = GREP_PROGRAM) -> Pattern:
    """Compile a regular expression in RE2's syntax.

    Raises InvalidArgument, which names the field, for one that RE2 does not accept or that would
    cost too much.
    """
    import re2

    if len(text.encode()) > GREP_BYTES:
        raise invalid(field, text, f"expected at most {GREP_BYTES} bytes")
    options = re2.Options()
    options.max_mem = GREP_MEMORY
    options.log_errors = False
    options.never_capture = True
    options.never_nl = True
    try:
        compiled = re2.compile(text, options)
        joined = re2.compile(f"(?m:{text})", options)
    except re2.error as error:
        raise _refused(field, text, error) from None
    if max(joined.programsize, joined.reverseprogramsize) > program_max:
        raise invalid(field, text, "expected a smaller one: it repeats too much")
    per_line = any(special in text for special in _OF_THE_TEXT)
    return Pattern(compiled, None if per_line else joined)


def _refused(field: str, text: str, error: Exception) -> InvalidArgument:
    (reason,) = error.args or ("",)
    if isinstance(reason, bytes):
        reason = reason.decode(errors="replace")
    return invalid(field, text, f"expected a regular expression of RE2: {reason}")


def _lines_with_matches(joined: Any, texts: Sequence[bytes]) -> list[int]:
    """Search all lines at once: the cost follows the matches, not the lines."""
    whole = b"\n".join(texts)
    ends = list(accumulate(len(text) + 1 for text in texts))
    found: list[int] = []
    position = 0
    while position <= len(whole) and len(found) < len(texts):
        match = joined.search(whole, position)
        if match is None:
            break
        index = bisect_right(ends, match.start())
        found.append(index)
        position = ends[index]
    return found
