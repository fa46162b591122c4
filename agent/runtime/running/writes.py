"""Writes to files of a cgroup, all of them or none. SHELL over cgroupfs."""

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import msgspec

from agent.runtime.base import RuntimeFailed
from agent.runtime.cgroups import Hierarchies


class Write(msgspec.Struct, frozen=True):
    """A write to a cgroup file; `what` names the limit in errors.

    `is_default`: the value is what the kernel does without the file, which may be absent. `before`
    undoes the write; None: the content of the file.
    """

    what: str
    file: Path
    value: str
    is_default: bool = False
    before: str | None = None


def directory(hierarchies: Hierarchies, controller: str, path: str) -> Path:
    """The directory of cgroup `path` with a controller's files. Raises RuntimeFailed."""
    found = hierarchies.controller(controller, path)
    if found is None:
        raise RuntimeFailed(f"this host has no cgroup controller {controller}")
    return found


def write_all(writes: Iterable[Write]) -> None:
    """Write in this order. Raises RuntimeFailed naming the limit that the kernel refused; then all
    files are as before.
    """
    written: list[tuple[Path, str]] = []
    for write in writes:
        try:
            before = write.before
            if before is None:
                before = write.file.read_text().strip()
            write.file.write_text(write.value)
        except OSError as error:
            if isinstance(error, FileNotFoundError) and write.is_default:
                continue
            for file, value in reversed(written):
                with suppress(OSError):
                    file.write_text(value)
            reason = (error.strerror or str(error)).lower()
            raise RuntimeFailed(f"cannot change {write.what}: {reason}") from error
        written.append((write.file, before))
