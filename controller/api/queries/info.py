"""`info`: the fleet in numbers, and the controller that answers."""

from collections.abc import Callable

import msgspec

from controller.api.queries.views import speaks_another
from controller.leader.leadership import Leadership
from controller.registry.settings import RegistryState
from pyswarm_core.kinds import CLUSTER
from pyswarm_core.limits import PROTOCOL
from pyswarm_core.state import State
from pyswarm_core.states import NodeState, TaskState
from pyswarm_core.views import Info


class ControllerFacts(msgspec.Struct, frozen=True):
    """This controller's part of `info`."""

    version: str
    store: str
    """The store: `etcd 3.4.23 at …`, `memory`."""
    join_addr: str
    """Where agents connect: `host:port`."""
    registry: Callable[[], RegistryState] = RegistryState
    """The state of its registry."""


def info(leadership: Leadership, facts: ControllerFacts) -> Info:
    """The fleet in numbers, and the controller that answers, without keys and tokens."""
    leader = leadership.current()
    state, registry = leader.state, facts.registry()
    return Info(
        cluster=CLUSTER.shown(state.cluster),
        controller=leadership.controller,
        leader=leadership.leader,
        version=facts.version,
        nodes=len(state.nodes),
        nodes_ready=_count(state, NodeState.READY),
        services=sum(not service.removing for service in state.services.values()),
        tasks=len(state.tasks),
        tasks_running=state.tasks_in_state[TaskState.RUNNING],
        store=facts.store,
        revision=leader.revision,
        join_addr=facts.join_addr,
        nodes_disconnected=_count(state, NodeState.DISCONNECTED),
        nodes_held=leader.silence.nodes_held,
        down_per_minute=leader.silence.down_per_minute,
        nodes_filtered=leader.silence.nodes_filtered,
        protocol=PROTOCOL,
        nodes_other_protocol=sum(map(speaks_another, state.nodes.values())),
        registry=registry.address,
        registry_problem=registry.problem,
    )


def _count(state: State, node_state: NodeState) -> int:
    return sum(node.status.state is node_state for node in state.nodes.values())
