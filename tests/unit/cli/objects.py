"""Answers for the scripted controller, tersely."""

from pyswarm_core.api.v1 import control_pb2 as pb
from pyswarm_core.clock import MINUTE, Instant
from pyswarm_core.codec import to_proto
from pyswarm_core.identity.certificates import NodeCertificate
from pyswarm_core.identity.limits import CERT_EXPIRY
from pyswarm_core.ids import NodeId, ServiceId, TaskId
from pyswarm_core.objects import (
    Network,
    Node,
    NodeDescription,
    NodeResources,
    NodeStatus,
    Service,
    Task,
    TaskDetail,
    Version,
)
from pyswarm_core.specs import ContainerSpec, ReplicatedMode, ServiceSpec, TaskSpec
from pyswarm_core.states import NodeState, TaskState

CREATED = Instant(1_700_000_000_000_000_000)
NOW = Instant(CREATED + 2 * MINUTE)
SERVICE_ID = ServiceId("0123456789abcdefghijklmno")
NODE_ID = NodeId("nnnnnnnnnnnnnnnnnnnnnnnnn")


def service(name: str = "web", replicas: int = 3, **spec: object) -> Service:
    """A service that was created."""
    template = TaskSpec(container_spec=ContainerSpec(image="web:1"))
    mode = ReplicatedMode(replicas=replicas)
    fields: dict[str, object] = {"task_template": template, "mode": mode, **spec}
    return Service(
        id=SERVICE_ID,
        spec=ServiceSpec(name=name, **fields),  # type: ignore[arg-type]
        version=Version(index=3),
        created_at=CREATED,
        updated_at=CREATED,
    )


def service_reply(found: Service | None = None) -> pb.ServiceReply:
    """The answer to whatever changes or reads one service."""
    reply = pb.ServiceReply()
    to_proto(found or service(), reply.service)
    return reply


def services_reply(*found: Service, running: int = 2) -> pb.ListServicesReply:
    """The answer to `service ls`."""
    reply = pb.ListServicesReply()
    for one in found:
        summary = reply.services.add(running=running, desired=3)
        to_proto(one, summary.service)
    return reply


def progress(
    running: int, desired: int, *, state: TaskState = TaskState.PREPARING, error: str = ""
) -> pb.ServiceProgress:
    """A moment at which `running` of `desired` run; it has converged when they are equal."""
    message = pb.ServiceProgress(
        running=running,
        desired=desired,
        updated=running,
        alive=desired,
        converged=running == desired,
    )
    for slot in range(1, desired + 1):
        runs = slot <= running
        message.slots.add(
            slot=slot,
            node="host1",
            state=(TaskState.RUNNING if runs else state).value,
            error="" if runs else error,
        )
    return message


def tasks_reply() -> pb.ListTasksReply:
    """A running task and the one it replaced."""
    reply = pb.ListTasksReply()
    running = Task(
        TaskId("t000000000000000000000002"), SERVICE_ID, 1, 1, NOW, NODE_ID,
        TaskState.RUNNING, TaskState.RUNNING, CREATED,
    )  # fmt: skip
    failed = Task(
        TaskId("t000000000000000000000001"), SERVICE_ID, 1, 1, CREATED, NODE_ID,
        TaskState.SHUTDOWN, TaskState.FAILED, CREATED,
        detail=TaskDetail(error="task: non-zero exit (1): \x1b[31mout of disk", exit_code=1),
    )  # fmt: skip
    for task in (failed, running):
        view = reply.tasks.add(
            name="web.1", service_name="web", node_name="host1", image="web:1@sha256:" + "a" * 64
        )
        to_proto(task, view.task)
        to_proto(TaskSpec(container_spec=ContainerSpec(image="web:1")), view.spec)
    return reply


def node_view(hostname: str = "host1", *, leader: bool = False) -> pb.NodeView:
    """A node that is ready."""
    view = pb.NodeView(leader=leader, tasks=4)
    node = Node(
        id=NODE_ID,
        number=1,
        description=NodeDescription(
            hostname=hostname,
            engine_version="0.1.0",
            resources=NodeResources(nano_cpus=2_000_000_000, memory_bytes=4 << 30),
        ),
        version=Version(index=7),
        created_at=CREATED,
        updated_at=CREATED,
        status=NodeStatus(state=NodeState.READY, since=CREATED, addr="192.0.2.1"),
        certificate=NodeCertificate(
            issued_at=CREATED,
            expires_at=Instant(CREATED + CERT_EXPIRY),
            key_digest="d" * 64,
            issuer=bytes(range(20)),
        ),
    )
    to_proto(node, view.node)
    to_proto(NodeResources(nano_cpus=500_000_000, memory_bytes=1 << 30), view.reserved)
    return view


def network_reply(network: Network) -> pb.NetworkReply:
    """The answer to whatever changes or reads one network."""
    reply = pb.NetworkReply()
    to_proto(network, reply.network)
    return reply
