"""The file with the ages of images. SHELL.

A file that cannot be read or written costs the ages alone: all images count as new.
"""

from contextlib import suppress
from pathlib import Path

import msgspec

from agent.images.gc.plan import Ages


def load(path: Path) -> Ages:
    """The ages as saved last."""
    with suppress(OSError, msgspec.MsgspecError):
        return msgspec.json.decode(path.read_bytes(), type=dict[str, int])
    return {}


def save(path: Path, ages: Ages) -> None:
    """Replace the file."""
    fresh = path.with_suffix(".new")
    with suppress(OSError):
        fresh.write_bytes(msgspec.json.encode(ages))
        fresh.replace(path)
