"""A service `web` on a network `net`, its backends and their nodes."""

from msgspec.structs import replace

from controller.brain.slices import finish
from controller.leader.endpoints.sets import Endpoints
from pyswarm_core.api.v1 import dispatcher_pb2
from pyswarm_core.decision import Writes
from pyswarm_core.ids import NetworkId, NodeId, ServiceId, TaskId
from pyswarm_core.objects import Network, Task, TaskAddress, TaskDetail
from pyswarm_core.state import State
from pyswarm_core.states import TaskState
from tests.fixtures import build

WEB, NET, OTHER = ServiceId("web"), NetworkId("net"), NetworkId("other")
KEY = (WEB, NET)
N1, N2, N3 = NodeId("n1"), NodeId("n2"), NodeId("n3")


def identified(name: str) -> TaskId:
    return TaskId(name.ljust(25, "-"))


def backend(
    name: str,
    node: str = "n1",
    *,
    state: TaskState = TaskState.RUNNING,
    desired: TaskState = TaskState.RUNNING,
    serving: bool = True,
    network: NetworkId = NET,
) -> Task:
    """Slot n has the address 10.128.0.n."""
    address = TaskAddress(network_id=network, address=f"10.128.0.{name.rpartition('.')[2]}")
    return build.task(
        name,
        node=node,
        state=state,
        desired=desired,
        task_id=identified(name),
        detail=TaskDetail(serving=serving, addresses=(address,)),
    )


def ingress(name: str = "ingress") -> Network:
    plain = build.network(name, "10.129.0.0/16", 4097)
    return replace(plain, spec=replace(plain.spec, ingress=True))


def world(*tasks: Task, networks: tuple[Network, ...] = (), nodes: int = 3) -> State:
    return build.state(
        nodes=build.nodes(nodes),
        networks=[build.network("net"), build.network("other", "10.130.0.0/16", 4099), *networks],
        services=[
            build.service("web", spec=build.template(networks=["net"])),
            build.service("plain"),
        ],
        tasks=tasks,
    )


def read(data: bytes | None) -> dispatcher_pb2.ServiceEndpoint:
    assert data is not None
    return dispatcher_pb2.ServiceEndpoint.FromString(data)


def put(state: State, *tasks: Task) -> None:
    state.apply(Writes(tasks=list(tasks)))


def known(state: State) -> Endpoints:
    """All endpoints."""
    endpoints = Endpoints(state)
    finish(endpoints.refresh(state.services))
    return endpoints
