"""Heredocs of Dockerfiles: `RUN <<EOF`, as BuildKit finds them. PURE."""

import re
from collections.abc import Sequence

_WORD = re.compile(r"""(?:^|\s)\d*<<(-?)(["']?)([A-Za-z_][\w.]*)\2(?=\s|$)""")


def end_of(instruction: str, rest: Sequence[str]) -> int | None:
    """How many of the lines after an instruction are its heredocs; None if it has none.

    A `<<WORD` whose end is missing is none: older files have it as part of a command.
    """
    at = 0
    for dash, _, word in _WORD.findall(instruction):
        for number, line in enumerate(rest[at:], at):
            if (line.lstrip("\t") if dash else line) == word:
                at = number + 1
                break
        else:
            return None
    return at or None
