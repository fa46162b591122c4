"""Two hosts for the contracts of a dataplane and its parts."""

from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol, TypeVar

from agent.network.base import (
    Attachment,
    Backend,
    DesiredEndpoint,
    DesiredOverlay,
    EndpointKey,
    Fault,
    NetworkFailed,
    Peer,
)
from agent.network.dataplane import Dataplane
from agent.network.overlay.base import AttachedTask
from agent.network.overlay.plan import NO_PATHS
from agent.network.overlay.plug import Plug
from agent.network.vips.base import InNamespace
from pyswarm_core.identity.certificates import EncryptionKey
from pyswarm_core.ids import NetworkId, ServiceId, TaskId

T = TypeVar("T")
APP, OTHER = NetworkId("netapp"), NetworkId("netother")
SUBNETS = {APP: ("10.128", 4097), OTHER: ("10.129", 4098)}
A, B = TaskId("task-a"), TaskId("task-b")
VIP = "10.128.255.254"
ADDRESSES = {A: "10.128.1.2", B: "10.128.2.2"}
SIX = {A: "fd00:128::102", B: "fd00:128::202"}


class Bench(Protocol):
    """Two hosts, numbered 1 and 2; `address` returns their underlay addresses."""

    def address(self, number: int) -> str: ...

    def dataplane(self, number: int) -> Dataplane: ...

    def restart(self, number: int, *, fast_path: bool = True) -> None:
        """The host's agent is killed and restarted; the kernel's state stays."""
        ...

    def run(self, number: int, work: Callable[[], Awaitable[T]]) -> T:
        """Await `work` in the host's namespace."""
        ...

    def reaches(self, number: int, task_id: TaskId, address: str) -> bool: ...

    def answers(self, number: int, task_id: TaskId, address: str) -> set[str]:
        """The addresses at which the task's TCP connections to `address` end, over enough
        connections to meet every backend.
        """
        ...

    def rules(self, number: int) -> str:
        """The rules of the host's filter; "" if there are none."""
        ...

    def fast_path_rules(self, number: int) -> str:
        """The rules of the host's fast path; "" if there are none."""
        ...

    def disturb_rules(self, number: int) -> None:
        """Change the filter's rules from outside."""
        ...

    def disturb_fast_path(self, number: int) -> None:
        """Change the fast path's rules from outside."""
        ...

    def disturb_task(self, number: int, task_id: TaskId) -> None:
        """Change the rules in a task's namespace from outside."""
        ...

    def narrow(self, number: int, size: int) -> AbstractContextManager[None]:
        """Drop larger packets to and from the host silently."""
        ...


def overlay(
    bench: Bench, number: int, network: NetworkId, keys: tuple[EncryptionKey, ...] = ()
) -> DesiredOverlay:
    """The network as host 1 or 2 carries it, with the other as its peer."""
    prefix, vni = SUBNETS[network]
    other = 3 - number
    block = f"{prefix}.{other}.0/26"
    return DesiredOverlay(
        network_id=network, name=network[3:], vni=vni, subnet=f"{prefix}.0.0/16",
        node_number=number, local_blocks=(f"{prefix}.{number}.0/26",),
        peers=(Peer(node_number=other, address=bench.address(other), blocks=(block,)),),
        encrypted=bool(keys), encryption_keys=keys,
    )  # fmt: skip


def endpoint(*tasks: TaskId, network: NetworkId = APP, vip: str = VIP) -> DesiredEndpoint:
    """A service with these tasks as backends."""
    return DesiredEndpoint(
        service_id=ServiceId("web"), service_name="web", network_id=network, vip=vip,
        backends=tuple(
            Backend(task_id=task, slot=slot, address=ADDRESSES[task])
            for slot, task in enumerate(tasks, 1)
        ),
    )  # fmt: skip


def sync(
    bench: Bench, number: int, *networks: NetworkId, endpoints: tuple[DesiredEndpoint, ...] = ()
) -> None:
    desired = (overlay(bench, number, network) for network in networks)
    sync_these(bench, number, *desired, endpoints=endpoints)


def sync_these(
    bench: Bench,
    number: int,
    *overlays: DesiredOverlay,
    endpoints: tuple[DesiredEndpoint, ...] = (),
) -> tuple[Fault, ...]:
    return bench.run(number, lambda: bench.dataplane(number).sync(overlays, endpoints))


def update(
    bench: Bench, number: int, key: EndpointKey, now: DesiredEndpoint | None
) -> tuple[Fault, ...]:
    return bench.run(number, lambda: bench.dataplane(number).update({key: now}))


def both(bench: Bench, *endpoints: DesiredEndpoint) -> None:
    """Sync both hosts with task A on one and B on the other."""
    for number, task in ((1, A), (2, B)):
        sync(bench, number, APP, endpoints=endpoints)
        if task not in found(bench, number):
            attach(bench, number, task, APP, ADDRESSES[task])


def attach(bench: Bench, number: int, task_id: TaskId, network: NetworkId, address: str) -> str:
    place = Attachment(network_id=network, address=address)
    return bench.run(number, lambda: bench.dataplane(number).attach(task_id, [place]))


def detach(bench: Bench, number: int, task_id: TaskId) -> None:
    bench.run(number, lambda: bench.dataplane(number).detach(task_id))


def found(bench: Bench, number: int) -> set[TaskId]:
    return bench.run(number, bench.dataplane(number).found)


def check(bench: Bench, number: int) -> tuple[Any, ...]:
    return bench.run(number, bench.dataplane(number).check)


def carry(
    bench: Bench,
    number: int,
    *overlays: DesiredOverlay,
    published: Collection[NetworkId] = (),
    paths: Mapping[str, int] = NO_PATHS,
) -> tuple[Fault, ...]:
    """Make the overlay part alone carry these networks."""
    part = bench.dataplane(number).parts.overlay

    async def work() -> tuple[Fault, ...]:
        await part.set_desired(overlays)
        return await part.sync(published, paths)

    return bench.run(number, work)


def plug_in(bench: Bench, number: int, task_id: TaskId, inside: InNamespace) -> AttachedTask:
    """Make the overlay part alone attach a task to APP."""
    part = bench.dataplane(number).parts.overlay
    places = [Attachment(network_id=APP, address=ADDRESSES[task_id])]
    return bench.run(number, lambda: part.attach(task_id, places, inside))


def plugs(bench: Bench, number: int) -> list[Plug]:
    """The interfaces of the host's tasks that exist."""

    async def work() -> list[Plug]:
        return bench.dataplane(number).parts.overlay.plugs()

    return bench.run(number, work)


class Inside:
    """Records the tasks that it should program; `refuses` makes it raise."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, TaskId, tuple[NetworkId, ...]]] = []
        self.refuses = False

    @contextmanager
    def new(
        self, task_id: TaskId, networks: tuple[NetworkId, ...], connect: Callable[[], object]
    ) -> Iterator[None]:
        self.asked.append(("new", task_id, networks))
        if self.refuses:
            raise NetworkFailed("no room for rules")
        yield

    def adopt(
        self, task_id: TaskId, networks: tuple[NetworkId, ...], connect: Callable[[], object]
    ) -> None:
        self.asked.append(("adopt", task_id, networks))

    def forget(self, task_id: TaskId) -> None:
        self.asked.append(("forget", task_id, ()))
