"""The table of `stats`: the newest samples of all nodes. PURE."""

from collections.abc import Iterable, Sequence

from cli.render.listing import Layout, Row
from pyswarm_core.docker.stats import fields
from pyswarm_core.ids import short
from pyswarm_core.views import NamedStats, StatsPart, TaskStats

LAYOUT = Layout(
    headings={
        "Container": "CONTAINER",
        "ID": "CONTAINER ID",
        "Name": "NAME",
        "CPUPerc": "CPU %",
        "MemUsage": "MEM USAGE / LIMIT",
        "MemPerc": "MEM %",
        "NetIO": "NET I/O",
        "BlockIO": "BLOCK I/O",
        "PIDs": "PIDS",
        "Node": "NODE",
    },
    columns=("ID", "Name", "CPUPerc", "MemUsage", "MemPerc", "NetIO", "BlockIO", "PIDs", "Node"),
)


class Usage:
    """The newest sample of each node, and the one before it for rates."""

    def __init__(self) -> None:
        self._newest: dict[str, Sequence[NamedStats]] = {}
        """By node; those of tasks that do not run by the empty name."""
        self._former: dict[str, Sequence[NamedStats]] = {}
        """Those of a stream that ended, for the rates of the first samples of the next one."""
        self._before: dict[str, dict[str, TaskStats]] = {}
        """By node and task."""
        self._rated = False

    @property
    def is_rated(self) -> bool:
        """Whether there are two samples of some node, or nothing to rate."""
        return self._rated or not any(self._newest.values())

    def begin(self) -> None:
        """A stream begins: its nodes are those that it brings."""
        self._former, self._newest = self._newest, {}

    def take(self, part: StatsPart) -> None:
        """A node's sample replaces its former one; a warning removes it."""
        former = self._former.pop(part.node_name, ())
        former = self._newest.pop(part.node_name, former)
        if part.warning:
            return
        before = {one.stats.task_id: one.stats for one in former if one.stats.at}
        self._before[part.node_name] = before
        self._rated |= any(one.stats.task_id in before for one in part.tasks)
        self._newest[part.node_name] = part.tasks

    def rows(self, *, truncate: bool) -> list[Row]:
        """A row per task, by name."""
        shown: dict[str, NamedStats] = {}
        for one in (one for tasks in self._newest.values() for one in tasks):
            # One that just began or ended may be among those that do not run, too.
            if one.stats.at or one.stats.task_id not in shown:
                shown[one.stats.task_id] = one
        return [self._row(one, truncate=truncate) for one in _ordered(shown.values())]

    def _row(self, one: NamedStats, *, truncate: bool) -> Row:
        shown = short(one.id) if truncate else one.id
        before = self._before.get(one.node_name, {}).get(one.stats.task_id)
        return {
            "Container": shown,
            "ID": shown,
            "Name": one.name,
            "Node": one.node_name,
            **fields(before, one.stats),
        }


def _ordered(shown: Iterable[NamedStats]) -> list[NamedStats]:
    """By service and slot, `web.2` before `web.10`; those that run before the others."""

    def key(one: NamedStats) -> tuple[str, int, str, bool, str]:
        service, _, slot = one.name.rpartition(".")
        number = int(slot) if slot.isdecimal() else 0
        return (service, number, slot, not one.stats.at, one.stats.task_id)

    return sorted(shown, key=key)


def fitting(lines: Sequence[str], height: int) -> list[str]:
    """As many lines as a terminal of that height shows, the last of them with how many are left
    out.
    """
    room = max(height - 1, 2)
    if len(lines) <= room:
        return list(lines)
    return [*lines[: room - 1], f"{len(lines) - room + 1} more: the terminal is too small"]
