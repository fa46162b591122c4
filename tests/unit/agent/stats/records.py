"""Records of tasks for tests of samples."""

from typing import Any

from agent.tasks.record import Record
from pyswarm_core.clock import SECOND, Instant
from pyswarm_core.ids import NodeId, ServiceId, TaskId
from pyswarm_core.specs import ContainerSpec, TaskSpec
from pyswarm_core.states import TaskState


def record(task_id: str, service: str = "web", slot: int = 1, **changes: Any) -> Record:
    """The record of a task whose process runs."""
    given: dict[str, Any] = {
        "task_id": TaskId(task_id),
        "service_id": ServiceId(f"id-{service}"),
        "service_name": service,
        "slot": slot,
        "node_id": NodeId("n1"),
        "spec": TaskSpec(container_spec=ContainerSpec(image="web")),
        "state": TaskState.RUNNING,
        "started_at": Instant(5 * SECOND),
    }
    return Record(**given | changes)
