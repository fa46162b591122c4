"""Secrets and configs without files: for tests."""

from agent.secrets.plan import Exposed, files_of, mounts_of
from agent.secrets.secrets import Report
from agent.tasks.record import Record
from pyswarm_core.ids import TaskId
from pyswarm_core.templates.context import Context


class FakeSecrets:
    """Every version is there. `held` are the tasks whose files exist."""

    def __init__(self) -> None:
        self.held: set[TaskId] = set()
        self.swapped: list[tuple[str, ...]] = []
        """The versions of each task whose files were replaced."""

    async def ready(self, record: Record, context: Context, report: Report) -> Exposed:
        """See `Exposing`."""
        files = files_of(record.spec.container_spec)
        if files:
            self.held.add(record.task_id)
        env = tuple(
            f"{one.variable}={one.id}"
            for one in record.spec.container_spec.references
            if one.variable
        )
        return Exposed(mounts_of(files, f"/run/secrets-of/{record.task_id}"), env)

    async def swap(self, record: Record, context: Context, report: Report) -> bool:
        """See `Exposing`."""
        self.swapped.append(tuple(one.id for one in record.spec.container_spec.references))
        return True

    def trim(self, task_id: TaskId) -> None:
        """See `Exposing`."""

    def released(self, task_id: TaskId) -> None:
        """See `Exposing`."""
        self.held.discard(task_id)
