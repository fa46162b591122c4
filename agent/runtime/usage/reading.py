"""Reads what containers use. SHELL over cgroupfs.

Files are opened for each reading: kept descriptors would take 10 instead of 50 microseconds per
container, and hold as many open files as NODE_TASK_FILES allows it.
"""

import os
from collections.abc import Callable, Sequence
from typing import NamedTuple

from agent.runtime.base import Details, Stats
from agent.runtime.cgroups import Hierarchies
from agent.runtime.usage import parsing
from agent.runtime.usage.parsing import Texts

_BYTES = 1 << 15
"""A file of a cgroup is read whole at once; `io.stat` has 90 bytes per disk."""
_FLAGS = os.O_RDONLY | os.O_CLOEXEC
_Place = tuple[str, str]
"""The name of a file, and the directory of its hierarchy."""


class Usage(NamedTuple):
    """One reading of a container. `details` are those that only metrics show."""

    stats: Stats
    details: Details | None = None


class Reader:
    """Reads cgroups by their path. From any thread."""

    def __init__(self, hierarchies: Hierarchies) -> None:
        is_v1 = bool(hierarchies.v1)
        self._stats: Callable[[Texts], Stats] = parsing.stats_v1 if is_v1 else parsing.stats_v2
        self._details: Callable[[Texts], Details] = (
            parsing.details_v1 if is_v1 else parsing.details_v2
        )
        self._basic = _places(hierarchies, parsing.V1 if is_v1 else parsing.V2)
        self._more = _places(hierarchies, parsing.V1_DETAILS if is_v1 else parsing.V2_DETAILS)

    def read(self, path: str, *, details: bool = False) -> Usage | None:
        """What the processes of cgroup `path` use; None if there is no such cgroup."""
        texts = _texts(self._basic, path)
        if not any(texts.values()):
            return None
        stats = self._stats(texts)
        if not details:
            return Usage(stats)
        return Usage(stats, self._details(texts | _texts(self._more, path)))


def _places(hierarchies: Hierarchies, files: Sequence[_Place]) -> tuple[_Place, ...]:
    unified = hierarchies.unified
    roots = {controller: hierarchies.v1.get(controller, "") for controller, _ in files}
    if not hierarchies.v1:
        roots = dict.fromkeys(roots, unified)
    roots[""] = unified
    return tuple((name, roots[controller]) for controller, name in files)


def _texts(places: Sequence[_Place], path: str) -> dict[str, bytes]:
    return {name: _content(f"{root}{path}/{name}") if root else b"" for name, root in places}


def _content(path: str) -> bytes:
    """The file's content; empty if it cannot be read."""
    try:
        descriptor = os.open(path, _FLAGS)
    except OSError:
        return b""
    try:
        return os.read(descriptor, _BYTES)
    except OSError:
        return b""
    finally:
        os.close(descriptor)
