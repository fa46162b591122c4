"""Rules about where a decision places tasks, derived anew from the objects.

The product answers these questions by columns and indexes; here every task is asked one by one, so
that the two have nothing in common but the specs.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from ipaddress import IPv4Network

import msgspec

from pyswarm_core.decision import Decision
from pyswarm_core.docker.generic_resources import counted
from pyswarm_core.ids import NetworkId, NodeId, TaskId
from pyswarm_core.images.disk import KEY_BYTES, image_key
from pyswarm_core.kinds import NETWORK
from pyswarm_core.objects import Network, Node, Service, Task
from pyswarm_core.resources import NodeResources, Reservations
from pyswarm_core.specs import PortConfig, PublishMode, ServiceSpec
from pyswarm_core.state import State
from pyswarm_core.states import Availability, Capability, NodeState, TaskState, lives
from tests.sim.rules import Rule

CONSTRAINTS: Mapping[str, Callable[[Node], bool]] = {
    "node.labels.zone==a": lambda node: node.spec.labels.get("zone") == "a",
    "node.labels.zone!=b": lambda node: node.spec.labels.get("zone") != "b",
    "engine.labels.rack==1": lambda node: node.description.engine_labels.get("rack") == "1",
    "node.platform.arch==x86_64": lambda node: node.description.platform.architecture == "amd64",
}
"""Those that users write in the simulator, and what they mean."""

NOT_FOR_TASKS = 3
"""Addresses of a block that no task gets: the block's own, its bridge's and broadcast."""

Problem = tuple[Rule, str]


def satisfies(spec: ServiceSpec, node: Node) -> bool:
    """Whether the node meets every constraint of the service."""
    return all(CONSTRAINTS[text](node) for text in spec.task_template.placement.constraints)


def occupies(task: Task) -> bool:
    """Whether the task takes room on its node."""
    return TaskState.ASSIGNED <= task.state <= TaskState.RUNNING


def takes_instead(
    node: Node,
    others: Iterable[Task],
    spec: ServiceSpec,
    spec_of: Callable[[Task], ServiceSpec | None],
) -> bool:
    """Whether the reservations of one more task of `spec` fit on the node beside the others'."""
    specs = [spec, *(one for task in others if occupies(task) and (one := spec_of(task)))]
    reserved = [one.task_template.resources.reservations for one in specs]
    there = node.description.resources
    cpus = sum(one.nano_cpus for one in reserved) <= there.nano_cpus
    memory = sum(one.memory_bytes for one in reserved) <= there.memory_bytes
    return cpus and memory and _enough(reserved, there)


def _enough(reserved: Iterable[Reservations], there: NodeResources) -> bool:
    """Whether the node offers the generic resources."""
    needed = counted(part for one in reserved for part in one.generic_resources)
    offered = counted(there.generic_resources)
    return all(count <= offered.get(kind, 0) for kind, count in needed.items())


class After(msgspec.Struct, frozen=True):
    """What a decision leaves: the tasks of the nodes it placed tasks on, and the networks."""

    state: State
    placed: list[Task]
    """Tasks that this decision gave their node."""
    on_node: dict[NodeId, list[Task]]
    """Every task that then takes room there."""
    networks: dict[NetworkId, Network]

    def spec(self, task: Task) -> ServiceSpec | None:
        """The spec that the task is made from; None if it is no longer kept."""
        service = self.state.services.get(task.service_id)
        return service.made_from(task.spec_version) if service else None


def after(state: State, decision: Decision) -> After:
    """The tasks of every node that got one, as they will be."""
    writes = decision.writes
    placed = [
        task
        for task in writes.tasks
        if task.state is TaskState.ASSIGNED
        and ((old := state.tasks.get(task.id)) is None or old.state < TaskState.ASSIGNED)
    ]
    changed = {task.id: task for task in writes.tasks}
    gone = set(writes.removed_tasks)
    on_node = {}
    for node_id in dict.fromkeys(task.node_id for task in placed):
        tasks: dict[TaskId, Task] = dict(state.tasks_of_node(node_id))
        tasks.update({i: task for i, task in changed.items() if task.node_id == node_id})
        on_node[node_id] = [t for i, t in tasks.items() if i not in gone and occupies(t)]
    networks = {**state.networks, **{network.id: network for network in writes.of(NETWORK)}}
    return After(state, placed, on_node, networks)


def could_take(state: State, decision: Decision, spec: ServiceSpec, task: Task) -> bool:
    """Whether the task's node could take a task of the spec if that task had ended."""
    node = state.nodes.get(task.node_id)
    if node is None or not satisfies(spec, node):
        return False
    if (node.status.state, node.spec.availability) != (NodeState.READY, Availability.ACTIVE):
        return False
    found = after(state, decision)
    tasks = found.on_node.get(node.id, list(state.tasks_of_node(node.id).values()))
    others = [other for other in tasks if other.id != task.id and occupies(other)]
    specs = [spec, *(theirs for other in others if (theirs := found.spec(other)) is not None)]
    reserved = [one.task_template.resources.reservations for one in specs]
    there, accepted = node.description.resources, node.description.max_tasks
    return (
        sum(one.nano_cpus for one in reserved) <= there.nano_cpus
        and sum(one.memory_bytes for one in reserved) <= there.memory_bytes
        and _enough(reserved, there)
        and not (accepted and len(specs) > accepted)
        and not any(_common(spec, theirs) for theirs in specs[1:])
        and not any(_lacked(found, spec, node))
        and _takes_image(node, spec)
    )


def _takes_image(node: Node, spec: ServiceSpec) -> bool:
    """Whether the node has the image, or space for it."""
    disk = node.status.image_disk
    image = spec.task_template.container_spec.image
    return not disk.reason or image_key(image) in _keys(disk.images)


def misplaced(found: After) -> Iterator[Problem]:
    """What is wrong with where tasks were placed."""
    for task in found.placed:
        node = found.state.nodes.get(task.node_id)
        if node is None or node.status.state is not NodeState.READY:
            yield Rule.ELIGIBLE, f"{task.id} was placed on {task.node_id}, which is not ready"
            continue
        if node.spec.availability is not Availability.ACTIVE:
            yield Rule.ELIGIBLE, f"{task.id} was placed on {task.node_id}, which is not active"
        yield from _unfit(found, task, node)
    for node_id, tasks in found.on_node.items():
        node = found.state.nodes.get(node_id)
        if node is not None:
            yield from _overfull(found, node, tasks)
            yield from _addresses(found, node, tasks)


def _unfit(found: After, task: Task, node: Node) -> Iterator[Problem]:
    spec = found.spec(task)
    if spec is None:
        return
    where = f"{spec.name}.{task.slot} was placed on {node.description.hostname}"
    current = found.state.services[task.service_id].spec  # also for tasks of an earlier template
    placement = current.task_template.placement
    if not satisfies(current, node):
        yield Rule.CONSTRAINTS, f"{where} against {placement.constraints}"
    tasks = found.on_node[node.id]
    alike = [t for t in tasks if t.service_id == task.service_id and _should_run(t)]
    if placement.max_replicas and len(alike) > placement.max_replicas:
        yield Rule.MAX_PER_NODE, f"{where}, which runs {len(alike)} of its tasks then"
    for other in tasks:
        if other.id != task.id and (theirs := found.spec(other)) is not None:
            for port in _common(spec, theirs):
                yield Rule.HOST_PORT_FREE, f"{where}, where {theirs.name} holds port {port}"
    if (disk := node.status.image_disk).reason:
        image = spec.task_template.container_spec.image
        if image_key(image) not in _keys(disk.images):
            yield Rule.IMAGE_DISK, f"{where}, which has no space for {image}"
    for lacked in _lacked(found, spec, node):
        yield Rule.KERNEL, f"{where}, whose kernel has no {lacked}"


def _keys(packed: bytes) -> list[bytes]:
    return [packed[at : at + KEY_BYTES] for at in range(0, len(packed), KEY_BYTES)]


def _should_run(task: Task) -> bool:
    return task.desired_state <= TaskState.RUNNING


def _common(one: ServiceSpec, other: ServiceSpec) -> list[tuple[str, int]]:
    return sorted(_host_ports(one) & _host_ports(other))


def _host_ports(spec: ServiceSpec) -> set[tuple[str, int]]:
    """All addresses of a host alike: users in the simulator name none."""
    return {
        (port.protocol.value, port.published_port)
        for port in spec.endpoint_spec.ports
        if port.publish_mode is PublishMode.HOST and port.published_port
    }


def number(port: PortConfig) -> tuple[str, int]:
    """What exists once: a protocol's port number."""
    return port.protocol.value, port.published_port


def _lacked(found: After, spec: ServiceSpec, node: Node) -> Iterator[Capability]:
    container, lacks = spec.task_template.container_spec, node.description.lacks
    if container.userns_mode == "auto" and Capability.USERNS in lacks:
        yield Capability.USERNS
    if container.security_opt and Capability.APPARMOR in lacks:
        yield Capability.APPARMOR
    for joined in spec.task_template.networks:
        network = found.networks.get(NetworkId(joined.target))
        if network is None:
            continue
        if network.spec.encrypted and Capability.ESP in node.description.lacks:
            yield Capability.ESP
        if network.spec.enable_ipv6 and Capability.IPV6 in node.description.lacks:
            yield Capability.IPV6


def _overfull(found: After, node: Node, tasks: list[Task]) -> Iterator[Problem]:
    reserved = [spec.task_template.resources.reservations for t in tasks if (spec := found.spec(t))]
    cpus = sum(one.nano_cpus for one in reserved)
    memory = sum(one.memory_bytes for one in reserved)
    there = node.description.resources
    accepted = node.description.max_tasks
    if accepted and len(tasks) > accepted:
        text = f"node {node.description.hostname} accepts {accepted} tasks and has {len(tasks)}"
        yield Rule.RESOURCES, text
    generic = counted(part for one in reserved for part in one.generic_resources)
    offered = counted(there.generic_resources)
    for kind, count in generic.items():
        if count > offered.get(kind, 0):
            text = f"node {node.description.hostname} offers {offered.get(kind, 0)} {kind}"
            yield Rule.RESOURCES, f"{text}, of which tasks reserve {count}"
    if cpus > there.nano_cpus or memory > there.memory_bytes:
        yield (
            Rule.RESOURCES,
            f"node {node.description.hostname} is overfull: {cpus} of {there.nano_cpus} CPUs,"
            f" {memory} of {there.memory_bytes} bytes",
        )


def _addresses(found: After, node: Node, tasks: list[Task]) -> Iterator[Problem]:
    needed: dict[str, int] = {}
    for task in tasks:
        spec = found.spec(task)
        if spec and spec.mode.is_container and not lives(task.desired_state):
            continue  # it ends, and joins no network that its container was connected to since
        for joined in spec.task_template.networks if spec else ():
            needed[joined.target] = needed.get(joined.target, 0) + 1
    for target, count in needed.items():
        network = found.networks.get(NetworkId(target))
        blocks = network.blocks if network else ()
        sizes = [IPv4Network(b.cidr).num_addresses for b in blocks if b.node_number == node.number]
        room = sum(size - NOT_FOR_TASKS for size in sizes)
        if network is not None and count > room:
            yield (
                Rule.ADDRESSES_LEFT,
                f"{count} tasks of {network.spec.name} on {node.description.hostname}, which has"
                f" {room} addresses",
            )


def is_on_paused_node(state: State, service: Service, task: Task) -> bool:
    """Whether it is a global service's task on a paused node."""
    node = state.nodes.get(task.node_id) if service.spec.mode.per_node else None
    return node is not None and node.spec.availability is Availability.PAUSE
