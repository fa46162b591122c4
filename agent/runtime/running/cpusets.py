"""The CPUs and NUMA nodes of a container. SHELL over cgroupfs.

On v1 a cgroup's set includes those of its children: the cgroups of commands, which have copies of
the container's. So the container first gets both sets, then its children the new one.
"""

from collections.abc import Iterator
from pathlib import Path

from agent.runtime.base import CgroupLimits, RuntimeFailed
from agent.runtime.cgroups import Hierarchies
from agent.runtime.running.writes import Write
from pyswarm_core.docker.units import parse_set


def writes(hierarchies: Hierarchies, path: str, limits: CgroupLimits) -> Iterator[Write]:
    """The writes that set both. Raises RuntimeFailed for what the host does not have."""
    files = hierarchies.controller("cpuset", path)
    for name, requested, noun in (
        ("cpuset.cpus", limits.cpuset_cpus, "CPUs"),
        ("cpuset.mems", limits.cpuset_mems, "memory nodes"),
    ):
        if files is None or not (files / name).exists():
            if requested:
                raise RuntimeFailed(
                    f"invalid cpuset {requested}: this host has no cpuset controller"
                )
            continue
        available = _available(files, name)
        if not parse_set(requested) <= parse_set(available):
            text = f"invalid cpuset {requested}: this host has {noun} {available}"
            raise RuntimeFailed(text)
        before = (files / name).read_text().strip()
        new, now = requested or available, before if requested else before or available
        if parse_set(new) != parse_set(now):
            yield from _of_file(hierarchies, files / name, f"the {noun}", before or available, new)


def _of_file(
    hierarchies: Hierarchies, file: Path, what: str, before: str, new: str
) -> Iterator[Write]:
    """The writes to the file of one container. On v2 it is empty at first, which means what the
    cgroup above has; the kernel refuses to empty it again.
    """
    if hierarchies.v1:
        children = sorted(file.parent.glob(f"*/{file.name}"))
        if children:
            yield Write(what, file, f"{before},{new}", before=before)
        for child in children:
            yield Write(what, child, new)
    yield Write(what, file, new, before=before)


def _available(files: Path, name: str) -> str:
    """What the cgroup above has: the host's, unless the agent's cgroup has less."""
    stem = name.removeprefix("cpuset.")
    for candidate in (f"cpuset.effective_{stem}", f"cpuset.{stem}.effective", name):
        above = files.parent / candidate
        if above.exists():
            return above.read_text().strip()
    return ""
