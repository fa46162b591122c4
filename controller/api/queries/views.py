"""Views of lists and `inspect`: objects with what is known about them. PURE."""

from collections.abc import Collection, Container, Sequence

import msgspec

from controller.api.changes.unreadable import unreadable_service
from controller.api.queries.lookup import object_of, task_name
from controller.brain.nodes import runs_controller
from controller.brain.orchestrator.modes import orchestrator_of
from pyswarm_core.docker.generic_resources import counted
from pyswarm_core.ids import NodeId, ServiceId, TaskId
from pyswarm_core.indexes.nodes import NodeTable
from pyswarm_core.kinds import SERVICE, Id, Item, Kind, encode
from pyswarm_core.limits import PROTOCOL
from pyswarm_core.objects import Node, NodeResources, Service, Task
from pyswarm_core.payloads.payload import Payload
from pyswarm_core.resources import DiscreteResource, GenericResource
from pyswarm_core.state import State
from pyswarm_core.views import EncodedObject, NodeView, ServiceSummary, TaskView


def service_summary(
    state: State, service: Service, quarantined: Container[str] = ()
) -> ServiceSummary:
    """The service, without its previous specs, and its running and desired numbers; one whose
    number cannot be computed is quarantined, with 0 desired.
    """
    running = state.tasks_of_service(service.id).running
    listed = msgspec.structs.replace(SERVICE.shown(service), previous_specs=())
    try:
        desired = desired_tasks(state, service)
    except Exception:
        return ServiceSummary(listed, running, 0, quarantined=True)
    return ServiceSummary(
        listed,
        running,
        desired,
        quarantined=service.id in quarantined,
        unlisted=unlisted_tasks(state, service, desired),
    )


def work(state: State, object_id: object) -> int:
    """The cost of a view beyond its bytes, in bytes of SLICE_BYTES: for a global service all nodes
    are examined.
    """
    return 2 * len(state.nodes) if object_id in state.global_services else 0


def unlisted_tasks(state: State, service: Service, desired: int) -> int:
    """How many of its replicas wait for a node without a stored task; see PENDING_SHOWN."""
    if _is_ended(service) or not state.tasks_of_service(service.id).pending:
        return 0
    return orchestrator_of(service).unlisted(state, service, desired)


def desired_tasks(state: State, service: Service) -> int:
    """The number of desired tasks."""
    return 0 if _is_ended(service) else orchestrator_of(service).desired(state, service)


def desired_slots(state: State, service: Service) -> Collection[int] | None:
    """The slots to fill; None: any. A service that is being removed, or is stopped, has none."""
    return () if _is_ended(service) else orchestrator_of(service).desired_slots(state, service)


def _is_ended(service: Service) -> bool:
    return service.removing or service.spec.stopped


def listed_service(
    state: State, service_id: ServiceId, *, quarantined: Container[str]
) -> ServiceSummary | None:
    """The service by its id, also an unreadable one; None if it is gone."""
    service = state.services.get(service_id) or unreadable_service(state, service_id)
    return service_summary(state, service, quarantined) if service else None


def listed(state: State, kind: Kind[Item, Id], object_id: Id) -> EncodedObject | None:
    """The object by its id, without the data of a secret or config; None if it is gone."""
    item = object_of(state, kind, object_id)
    if isinstance(item, Payload):
        item = msgspec.structs.replace(item, data=b"")
    return encoded(kind, item) if item is not None else None


def encoded(kind: Kind[Item, Id], item: Item) -> EncodedObject:
    """The object without its sensitive fields."""
    return EncodedObject(encode(kind.shown(item)))


def listed_task(state: State, task_id: TaskId, *, with_spec: bool) -> TaskView | None:
    """The task by its id; None if it is gone."""
    task = state.tasks.get(task_id)
    return task_view(state, task, with_spec=with_spec) if task else None


def listed_node(state: State, node_id: NodeId, *, controllers: Sequence[str]) -> NodeView | None:
    """The node by its id; None if it is gone."""
    node = state.nodes.get(node_id)
    return node_view(state, node, controllers) if node else None


def task_view(state: State, task: Task, *, with_spec: bool = True) -> TaskView:
    """The task with its names; the spec it was made from if that is still kept."""
    service = state.services.get(task.service_id)
    node = state.nodes.get(task.node_id)
    spec = service.template(task.spec_version) if service else None
    return TaskView(
        task=task,
        name=task_name(state, task),
        service_name=service.spec.name if service else "",
        node_name=node.description.hostname if node else "",
        image=spec.container_spec.image if spec else "",
        spec=spec if with_spec else None,
    )


def node_view(state: State, node: Node, controllers: Sequence[str] = ()) -> NodeView:
    """The node with its load; the first of the controllers leads. A node that was removed since has
    none.
    """
    table = state.node_table
    row = table.rows.get(node.id)
    tasks, reserved = 0, NodeResources()
    if row is not None:
        tasks = int(table.active_tasks[row])
        cpus, memory = int(table.reserved_cpus[row]), int(table.reserved_memory[row])
        reserved = NodeResources(cpus, memory, _reserved(table, row))
    return NodeView(
        node=node,
        leader=runs_controller(node, controllers[:1]),
        controller=runs_controller(node, controllers),
        other_protocol=speaks_another(node),
        tasks=tasks,
        reserved=reserved,
    )


def _reserved(table: NodeTable, row: int) -> tuple[GenericResource, ...]:
    node = table.nodes[row]
    offered = counted(node.description.resources.generic_resources) if node else {}
    return tuple(
        GenericResource(discrete_resource_spec=DiscreteResource(kind=kind, value=reserved))
        for kind, count in offered.items()
        if (reserved := count - int(table.free_generic(kind)[row]))
    )


def speaks_another(node: Node) -> bool:
    """Whether its agent has another protocol than the controller."""
    return node.description.spoken != PROTOCOL
