"""Objects in the store that cannot be read: all one can do is to remove them by their id. PURE."""

from collections.abc import Iterator

from pyswarm_core.decision import Writes
from pyswarm_core.ids import NetworkId, NodeId, ServiceId
from pyswarm_core.objects import Network, Node, NodeDescription, Service
from pyswarm_core.specs import ContainerSpec, NetworkSpec, ServiceSpec, TaskSpec
from pyswarm_core.state import State

NAME = "(unreadable)"
"""Shown where an object's name would be; no object can have it."""
_SERVICE, _NODE, _NETWORK = "service/", "node/", "network/"


def unreadable_services(state: State) -> Iterator[Service]:
    """Stand-ins for services: their ids alone are known."""
    for identifier in _ids(state, _SERVICE):
        if (service := unreadable_service(state, ServiceId(identifier))) is not None:
            yield service


def unreadable_service(state: State, service_id: ServiceId) -> Service | None:
    """A stand-in for the service of that id, if it cannot be read."""
    if f"{_SERVICE}{service_id}" not in state.unreadable:
        return None
    container = ContainerSpec(image="")
    spec = ServiceSpec(name=NAME, task_template=TaskSpec(container_spec=container))
    return Service(id=service_id, spec=spec)


def remove_unreadable_service(state: State, ref: str) -> tuple[Writes, Service] | None:
    """The service and its tasks are forgotten at once; None if `ref` is no such service."""
    found = _find(state, _SERVICE, ref)
    if found is None:
        return None
    service = next(one for one in unreadable_services(state) if one.id == found)
    tasks = [task.id for task in state.tasks_of_service(service.id)]
    return Writes(removed_tasks=tasks, removed_services=(service.id,)), service


def remove_unreadable_node(state: State, ref: str) -> tuple[Writes, Node] | None:
    """None if `ref` is no such node."""
    found = _find(state, _NODE, ref)
    if found is None:
        return None
    node = Node(id=NodeId(found), number=0, description=NodeDescription(hostname=NAME))
    return Writes(removed_nodes=(node.id,)), node


def remove_unreadable_network(state: State, ref: str) -> tuple[Writes, Network] | None:
    """None if `ref` is no such network."""
    found = _find(state, _NETWORK, ref)
    if found is None:
        return None
    network = Network(id=NetworkId(found), spec=NetworkSpec(name=NAME), subnet="", vni=0)
    return Writes(removed_networks=(network.id,)), network


def why_unreadable(state: State, ref: str) -> list[str]:
    """What is known of an unreadable object of that id; empty if there is none."""
    return [
        f"{kind[:-1]} {found} cannot be read from the store: {state.unreadable[kind + found]}"
        for kind in (_SERVICE, _NODE, _NETWORK)
        if (found := _find(state, kind, ref))
    ]


def _ids(state: State, kind: str) -> list[str]:
    return [name.removeprefix(kind) for name in state.unreadable if name.startswith(kind)]


def _find(state: State, kind: str, ref: str) -> str | None:
    """The id, or what begins with `ref` if that is only one."""
    found = [identifier for identifier in _ids(state, kind) if ref and identifier.startswith(ref)]
    return found[0] if len(found) == 1 else None
