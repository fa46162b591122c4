"""Which node of which fleet this host is: a file that the agent writes and every user of the host
can read. SHELL.

It is below /run, so it is gone after a boot until the agent has started. A host has one agent.
"""

import os
from contextlib import suppress
from pathlib import Path

import msgspec

from pyswarm_core.aio.logs import EventLog

_log = EventLog("thisnode")

PATH = Path("/run/pyswarm/node.json")
_BYTES_MAX = 4096


class ThisNode(msgspec.Struct, frozen=True):
    """The node that this host is. Nothing of it is secret."""

    node_id: str
    cluster_id: str
    hostname: str


def write(node: ThisNode, path: Path = PATH) -> None:
    """Replace the file. A failure is logged: nothing but the CLI's relative paths needs it."""
    draft = path.with_suffix(".new")
    try:
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        with suppress(FileNotFoundError):
            draft.unlink()
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), 0o644)
            file.write(msgspec.json.encode(node))
        draft.replace(path)
    except OSError as error:
        _log.warning("node.not_announced", path=path, error=error)


def read(path: Path | None = None) -> ThisNode | None:
    """The node that this host is; None if it is none, or if another user than root or this one
    wrote the file.
    """
    try:
        descriptor = os.open(path or PATH, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            if os.fstat(file.fileno()).st_uid not in (0, os.geteuid()):
                return None
            return msgspec.json.decode(file.read(_BYTES_MAX), type=ThisNode)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return None
