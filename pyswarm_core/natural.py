"""The order of names in lists, as Docker's commands have it. PURE."""

import re

_NUMBER = re.compile(r"([0-9]+)")

Natural = tuple[tuple[str | int, ...], str]
UNNAMED: Natural = (("",), "")


def natural(name: str) -> Natural:
    """A key by which numbers within names are compared as numbers: `web-2` before `web-10`."""
    parts = _NUMBER.split(name)
    return tuple(int(part) if odd % 2 else part for odd, part in enumerate(parts)), name
