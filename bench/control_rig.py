"""A control plane to measure: etcd with a fleet in it, and a controller. SHELL.

Nodes are written to the store directly, in place of ten thousand joins. Everything else is done as
in production.
"""

import asyncio
import os
import socket
import time
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from hashlib import sha256
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP256R1,
    EllipticCurvePrivateKey,
    derive_private_key,
)
from msgspec.structs import replace

from controller.api.changes.certificates import certificate_of
from controller.app import Controller
from controller.config import Config
from controller.identity.ca import key_digest
from controller.identity.cluster import first_cluster
from controller.identity.etcd import EtcdCertificates
from controller.identity.keyfile import create_key
from controller.leader.loop import Loop
from controller.store.base import Put, Store, Txn
from controller.store.embedded import EmbeddedEtcd, EmbeddedSettings
from controller.store.etcd import EtcdStore
from pyswarm_core.aio.echo import NoEchoes
from pyswarm_core.aio.system import RandomIds, SystemClock
from pyswarm_core.clock import SECOND
from pyswarm_core.decision import Writes
from pyswarm_core.ids import NodeId
from pyswarm_core.keys import Keys
from pyswarm_core.kinds import NODE, encode
from pyswarm_core.limits import PROTOCOL, TXN_PUTS
from pyswarm_core.objects import Node, NodeDescription, NodeResources, NodeStatus
from pyswarm_core.specs import (
    ContainerSpec,
    NodeSpec,
    Placement,
    ReplicatedMode,
    Reservations,
    Resources,
    ServiceSpec,
    TaskSpec,
)
from pyswarm_core.state import State
from pyswarm_core.states import NodeState

CLUSTER_ID = "bench"
SECRET = "bench" + "0" * 20
"""Of the join token of the measured fleets."""
NODE_KEY = "node-id"
"""The key of the metadata that names the caller's node where there is no TLS."""
MIB = 1 << 20
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def embedded(folder: Path) -> EmbeddedEtcd:
    """The etcd of a controller with this state directory."""
    certificates = EtcdCertificates(folder / "etcd" / "tls", SystemClock())
    certificates.prepare()
    return EmbeddedEtcd(EmbeddedSettings(folder / "etcd"), certificates)


@asynccontextmanager
async def embedded_etcd(folder: Path) -> AsyncIterator[EmbeddedEtcd]:
    """An etcd as the controller starts it; stopped at the end of the block."""
    etcd = embedded(folder)
    await etcd.start()
    try:
        yield etcd
    finally:
        await etcd.stop()


def open_store(etcd: EmbeddedEtcd) -> EtcdStore:
    """A client of it."""
    return EtcdStore(etcd.client)


def fleet(nodes: int) -> State:
    """A cluster and its hosts: every second one has a disk, each is in one of ten zones."""
    now = SystemClock().now()
    state = State(replace(first_cluster(CLUSTER_ID, SECRET, now), next_node_number=nodes + 1))
    ids = RandomIds().draw(nodes)
    state.apply(Writes(objects=tuple(_node(NodeId(i), n) for n, i in enumerate(ids, 1))))
    return state


def _node(node_id: NodeId, number: int) -> Node:
    return Node(
        id=node_id,
        number=number,
        description=description(number),
        spec=NodeSpec(
            labels={"zone": f"z{number % 10}", "disk": "ssd" if number % 2 else "none"},
            role="worker",
        ),
        status=NodeStatus(state=NodeState.READY, addr=address(number)),
    )


def host_key(node_id: str) -> EllipticCurvePrivateKey:
    """The key of a simulated host, which the store and the agents' processes both know."""
    return derive_private_key(int.from_bytes(sha256(node_id.encode()).digest()) >> 1, SECP256R1())


def certified(state: State) -> State:
    """The same state; its nodes have certificates for their `host_key`."""
    now = SystemClock().now()
    for node in list(state.nodes.values()):
        digest = key_digest(host_key(node.id).public_key())
        certificate = certificate_of(state.cluster, digest, now)
        state.apply(Writes(objects=(replace(node, certificate=certificate),)))
    return state


def description(number: int) -> NodeDescription:
    """The description of the host of that number."""
    resources = NodeResources(nano_cpus=64 * 10**9, memory_bytes=512 * 1024 * MIB)
    return NodeDescription(hostname=f"host{number}", resources=resources, protocol=PROTOCOL)


def address(number: int) -> str:
    """The address of the host of that number."""
    return f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}"


def service_spec(index: int, replicas: int) -> ServiceSpec:
    """One of many services: a third wants a disk, a fifth no more than two replicas on a node."""
    return ServiceSpec(
        name=f"service{index}",
        task_template=TaskSpec(
            container_spec=ContainerSpec(image="registry.example:5000/app:1"),
            resources=Resources(reservations=Reservations(nano_cpus=10**7, memory_bytes=32 * MIB)),
            placement=Placement(
                constraints=("node.labels.disk==ssd",) if index % 3 == 0 else (),
                max_replicas=2 if index % 5 == 0 else 0,
            ),
        ),
        mode=ReplicatedMode(replicas=replicas),
    )


async def fill(store: Store, state: State) -> None:
    """Put cluster and nodes into the store."""
    keys = Keys()
    puts = [Put(keys.cluster, encode(state.cluster))]
    puts += [Put(keys.object(NODE, one.id), encode(one)) for one in state.nodes.values()]
    for first in range(0, len(puts), TXN_PUTS):
        await store.commit(Txn(puts=tuple(puts[first : first + TXN_PUTS])))


@asynccontextmanager
async def leader(etcd: EmbeddedEtcd, folder: Path) -> AsyncIterator[Loop]:
    """A leading controller in this process, with heartbeats of its nodes."""
    address = f"unix:{folder}/api.sock"
    config = Config(
        state_dir=folder, name="bench", listen=(address,), advertise_addr=address, metrics_addr=""
    )
    if not config.key_file.exists():
        create_key(config.key_file)
    async with open_store(etcd) as store, asyncio.TaskGroup() as group:
        controller = Controller(config, store, NoEchoes)
        serving = group.create_task(controller.serve())
        while not controller.leading:  # there is no notification of an election
            await asyncio.sleep(0.01)
        beating = group.create_task(_beat(controller.current()))
        await _settled(controller.current())
        try:
            yield controller.current()
        finally:
            beating.cancel()
            serving.cancel()


async def _settled(loop: Loop) -> None:
    """Return once every node is ready and everything is decided and saved."""
    while any(n.status.state is not NodeState.READY for n in loop.state.nodes.values()) or any(
        loop.queue_depths.values()
    ):
        await asyncio.sleep(0.1)
    await loop.wait_saved()


async def _beat(loop: Loop) -> None:
    """Heartbeats of every node, as their sessions deliver them."""
    while True:
        began = time.monotonic()
        for number, node_id in enumerate(list(loop.state.nodes)):
            loop.heard(node_id)
            if number % 100 == 99:
                await asyncio.sleep(0)
        await asyncio.sleep(max(0.1, loop.heartbeat_period / SECOND - time.monotonic() + began))


def cpu_s(pid: int) -> float:
    """Processor seconds of a process, user and system."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S


def resident_mib(pid: int) -> float:
    """Resident memory of a process."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / MIB


def free_port() -> int:
    """A loopback port that was free a moment ago."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


async def scrape(address: str) -> dict[str, float]:
    """The text of `/metrics`; empty while nothing serves it."""
    try:
        text = await asyncio.to_thread(_fetch, f"http://{address}/metrics")
    except OSError:
        return {}
    lines = (line.rpartition(" ") for line in text.splitlines() if not line.startswith("#"))
    return {name: float(value) for name, _, value in lines}


def _fetch(url: str) -> str:
    with urllib.request.urlopen(url, timeout=30) as answer:
        content: bytes = answer.read()
        return content.decode()
