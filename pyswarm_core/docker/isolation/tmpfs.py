"""`--tmpfs PATH[:OPTIONS]`: Docker's mount options of a file system in memory. PURE."""

import re

from pyswarm_core.errors import unfit

DEFAULTS = ("nosuid", "noexec", "nodev")
"""Docker's; an option of the user replaces its opposite."""

_PAIRS = "rw-ro exec-noexec suid-nosuid dev-nodev async-sync atime-noatime diratime-nodiratime"
_OPPOSITE = {
    word: other
    for pair in (*_PAIRS.split(), "relatime-norelatime", "strictatime-nostrictatime")
    for word, other in (pair.split("-"), reversed(pair.split("-")))
}
_VALUES = {
    "size": re.compile(r"[1-9][0-9]{0,17}[kKmMgG]?|[1-9][0-9]?%|100%"),
    "mode": re.compile(r"[0-7]{1,4}"),
    "uid": re.compile(r"[0-9]{1,9}"),
    "gid": re.compile(r"[0-9]{1,9}"),
    "nr_blocks": re.compile(r"[0-9]{1,12}[kKmMgG]?"),
    "nr_inodes": re.compile(r"[0-9]{1,12}[kKmMgG]?"),
}
_FORM = {
    "size": "a size such as 64m or 10%",
    "mode": "an octal mode such as 1777",
    **dict.fromkeys(("uid", "gid", "nr_blocks", "nr_inodes"), "a number"),
}
_EXPECTED = "expected size=, mode=, uid=, gid=, nr_inodes=, nr_blocks=, or rw, ro, exec, noexec…"


def split(text: str) -> tuple[str, str]:
    """`PATH:OPTIONS` as path and options."""
    path, _, options = text.partition(":")
    return path, options


def mount_options(text: str) -> tuple[str, ...]:
    """The options of the mount: Docker's defaults, changed by the comma-separated `text`; of equal
    or opposite ones the last counts.

    Raises InvalidArgument.
    """
    found = dict.fromkeys(DEFAULTS, "")
    for word in filter(None, text.split(",")):
        name, equals, value = word.partition("=")
        if not equals and name in _OPPOSITE:
            found.pop(_OPPOSITE[name], None)
            found[name] = ""
        elif name in _VALUES and equals:
            if not _VALUES[name].fullmatch(value):
                raise unfit(f"expected {_FORM[name]} after {name}=")
            found[name] = value
        else:
            raise unfit(_EXPECTED)
    return tuple(f"{name}={value}" if value else name for name, value in found.items())
