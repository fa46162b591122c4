"""The resources that users define: which of this host's a task has. PURE (mutable).

The scheduler counts; names of a set are chosen here, and a task has each alone until its process
has ended. What a task has is in its record, so an agent that returns knows it.
"""

from collections.abc import Mapping

from agent.tasks.record import Record
from pyswarm_core.docker.generic_resources import counted, names, variable
from pyswarm_core.errors import Conflict
from pyswarm_core.ids import TaskId
from pyswarm_core.resources import GenericResource

Held = dict[str, str]
"""Kind -> what a task has of it: the names, with commas, or their number."""


class GenericResources:
    """The user-defined resources of this host, and those that its tasks have."""

    def __init__(self, offered: tuple[GenericResource, ...]) -> None:
        self._offered = offered
        self._counts = counted(offered)
        self._chosen: dict[TaskId, Held] = {}
        self._records: Mapping[TaskId, Record] = {}

    def follow(self, records: Mapping[TaskId, Record]) -> None:
        """The tasks of this host, which change."""
        self._records = records

    def choose(self, record: Record) -> Held | None:
        """What the task gets; None while other tasks have what it needs. Raises Conflict if the
        host does not offer that many.
        """
        wanted = counted(record.spec.resources.reservations.generic_resources)
        if not wanted:
            return {}
        records = self._records
        self._chosen = {
            task_id: held
            for task_id, held in self._chosen.items()
            if task_id in records and not records[task_id].ended and task_id != record.task_id
        }
        found = {kind: self._part(kind, number, record.task_id) for kind, number in wanted.items()}
        if any(part is None for part in found.values()):
            return None
        held = {kind: part for kind, part in found.items() if part is not None}
        self._chosen[record.task_id] = held
        return held

    def _part(self, kind: str, number: int, task_id: TaskId) -> str | None:
        offered = self._counts.get(kind, 0)
        if number > offered:
            reason = f"this node offers {offered} {kind}, and the task reserves {number}"
            raise Conflict(f"{reason}: change --node-generic-resource of its agent")
        others = [
            parts[kind]
            for other, parts in self._in_use().items()
            if other != task_id and kind in parts
        ]
        named = names(self._offered, kind)
        if not named:
            used = sum(int(part) for part in others if part.isdigit())
            return str(number) if used + number <= offered else None
        taken = {name for part in others for name in part.split(",")}
        free = [name for name in named if name not in taken]
        return ",".join(free[:number]) if len(free) >= number else None

    def _in_use(self) -> dict[TaskId, Held]:
        recorded = {
            task_id: record.generic_resources
            for task_id, record in self._records.items()
            if record.generic_resources and not record.ended
        }
        return {**self._chosen, **recorded}


def environment(held: Mapping[str, str]) -> tuple[str, ...]:
    """The environment variables that name what a task has."""
    return tuple(f"{variable(kind)}={part}" for kind, part in held.items())
