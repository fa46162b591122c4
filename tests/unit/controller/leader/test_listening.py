"""Where the control plane listens: what controllers store, and what the leader sends to agents."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest

from controller.config import Config, EtcdConfig
from controller.leader.persistence import listening
from controller.leader.persistence.controlplane import (
    decode_listens,
    encode_listens,
    hosts_of_agents,
    names_of,
    own_hosts,
)
from controller.leader.persistence.listening import Listening
from controller.leader.sessions import Sessions
from controller.leader.slicing import run_sliced
from controller.store.base import StoreMisuse
from controller.store.memory import MemoryKv
from controller.store.memory_store import MemoryStore
from pyswarm_core.clock import MILLISECOND, SECOND
from pyswarm_core.codec import from_proto
from pyswarm_core.controlplane import ControlEndpoint, ControlHost
from pyswarm_core.decision import Writes
from pyswarm_core.ids import NodeId
from pyswarm_core.keys import Keys
from pyswarm_core.limits import CONTROL_PERIOD, LISTENING_TTL, PROTOCOL
from pyswarm_core.objects import Cluster, Node, NodeDescription, NodeStatus
from pyswarm_core.state import State
from tests.unit.controller.store.test_memory_store import HandClock

KEYS = Keys()
API = ControlEndpoint(port=2377, api=True)
HERE = "192.0.2.1"


def config(**changes: object) -> Config:
    given = {"state_dir": Path("/x"), "name": "one", "advertise_addr": f"{HERE}:2377"} | changes
    return Config(**given)  # type: ignore[arg-type]


def resolved(addr: str) -> tuple[str, ...]:
    return {"etcd.lan": ("192.0.2.8", "2001:db8::8"), HERE: (HERE,)}.get(addr, ())


def found(given: Config, *members: str) -> list[ControlHost]:
    addresses = {name: resolved(name) for name in names_of(given, members)}
    return [*own_hosts(given, members, ("10.127.0.1", HERE), addresses)]


def test_a_controller_listens_on_all_addresses_of_its_host_by_default() -> None:
    anywhere = ControlEndpoint(port=2377, api=True, anywhere=True)
    assert found(config()) == [
        ControlHost((HERE, "10.127.0.1"), (anywhere,)),
        ControlHost((HERE,), (API,)),
    ]


def test_a_host_with_very_many_addresses_is_closed_at_the_first() -> None:
    many = [f"10.{n // 250}.{n % 250}.1" for n in range(2_000)]
    (host, _) = own_hosts(config(), (), many, {HERE: (HERE,)})
    assert len(host.addresses) == 1_024
    assert host.addresses[0] == HERE


def test_metrics_on_the_loopback_need_not_be_closed() -> None:
    given = config(listen=("127.0.0.1:2377", "unix:///run/x"), metrics_addr=f"{HERE}:9323")
    assert found(given) == [
        ControlHost((HERE,), (ControlEndpoint(port=9323),)),
        ControlHost((HERE,), (API,)),
    ]


def test_a_health_port_that_others_reach_is_closed() -> None:
    given = config(listen=("unix:///run/x",), metrics_addr="", health_addr=f"{HERE}:9325")
    assert ControlHost((HERE,), (ControlEndpoint(port=9325),)) in found(given)


def test_an_external_etcd_is_closed_with_all_its_members() -> None:
    etcd = EtcdConfig(endpoints=("https://etcd.lan:2379", "http://127.0.0.1:2379"))
    hosts = found(config(etcd=etcd), "https://etcd.lan:2380", f"http://{HERE}:2380")
    clients = ControlEndpoint(port=2379, anywhere=True)
    peers = ControlEndpoint(port=2380, anywhere=True)
    assert hosts[-4:] == [
        ControlHost(("192.0.2.8", "2001:db8::8"), (clients,)),
        ControlHost((HERE, "10.127.0.1"), (clients,)),
        ControlHost(("192.0.2.8", "2001:db8::8"), (peers,)),
        ControlHost((HERE,), (peers,)),
    ]


def test_agents_metrics_are_one_entry_per_port_of_their_own_addresses() -> None:
    state = State(Cluster(id="c"))
    reported = {
        "a": ("192.0.2.1:9324", "[2001:db8::1]:9324"),
        "b": ("192.0.2.2:9324",),
        "c": ("192.0.2.3:1", "no address", "192.0.2.1:443", "[2001:db8::1]:443"),
        "d": (),
    }
    for number, (name, addrs) in enumerate(reported.items(), 1):
        node = reporting(name, f"192.0.2.{number}", addrs)
        state.apply(Writes(objects=(node,)))
    assert asyncio.run(run_sliced(hosts_of_agents(state), partial(asyncio.sleep, 0))) == (
        ControlHost(("192.0.2.3",), (ControlEndpoint(port=1),)),
        ControlHost(("192.0.2.1", "192.0.2.2", "2001:db8::1"), (ControlEndpoint(port=9324),)),
    )


def reporting(name: str, addr: str, addrs: tuple[str, ...]) -> Node:
    description = NodeDescription(hostname=name, metrics_addrs=addrs)
    six = ("2001:db8::1",) if addr == HERE else ()
    status = NodeStatus(addr=addr, addrs6=six)
    return Node(id=NodeId(name), number=1, description=description, status=status)


def test_an_unreadable_entry_costs_itself() -> None:
    host = ControlHost((HERE,), (API,))
    assert decode_listens([b"{", b"[]", encode_listens((host,)), b'{"hosts":[]}']) == (host,)


class Fleet:
    def __init__(self) -> None:
        self.clock = HandClock()
        self.kv = MemoryKv()
        self.store = MemoryStore(self.kv, self.clock)
        self.state = State(Cluster(id="c"))
        self.sessions = Sessions(())
        self.session = self.sessions.open(NodeId("n"))

    @asynccontextmanager
    async def controller(
        self, name: str, address: str, *, leads: bool = True
    ) -> AsyncIterator[None]:
        given = config(advertise_addr=f"{address}:2377", listen=(f"{address}:2377",))

        async def members() -> tuple[str, ...]:
            raise StoreMisuse("permission denied")

        async def yield_loop() -> None:
            await asyncio.sleep(0)

        made = Listening(self.store, KEYS, name, given, members=members)
        tasks = [asyncio.create_task(made.run())]
        if leads:
            tell = made.tell(self.state, self.sessions, yield_loop)
            tasks.append(asyncio.create_task(tell))
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    async def told(self) -> set[str]:
        """The addresses of the next message."""
        while not (messages := self.session.take_notices()):
            self.session.wake.clear()
            await self.session.wake.wait()
        hosts = [from_proto(ControlHost, host) for host in messages[-1].control_plane.hosts]
        return {address for host in hosts for address in host.addresses}


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listening, "CONTROL_PERIOD", MILLISECOND)


async def test_agents_are_sent_where_all_controllers_listen_as_that_changes() -> None:
    fleet = Fleet()
    async with fleet.controller("one", HERE):
        assert await fleet.told() == {HERE}
        async with fleet.controller("two", "192.0.2.2", leads=False):
            assert await fleet.told() == {HERE, "192.0.2.2"}
        node = reporting("h", "192.0.2.3", ("192.0.2.3:9324",))
        fleet.state.apply(Writes(objects=(node,)))
        assert await fleet.told() == {HERE, "192.0.2.2", "192.0.2.3"}
        opening = fleet.sessions.opening(fleet.state.cluster, SECOND)
        assert [m.WhichOneof("kind") for m in opening] == ["settings", "control_plane"]
        assert opening[0].settings.protocol == PROTOCOL


async def test_a_controller_that_ended_stays_closed_until_its_entry_expires() -> None:
    fleet = Fleet()
    async with fleet.controller("two", "192.0.2.2"):
        assert await fleet.told() == {"192.0.2.2"}
    async with fleet.controller("one", HERE):
        assert await fleet.told() == {HERE, "192.0.2.2"}
        fleet.clock.advance(LISTENING_TTL // SECOND)
        assert await fleet.told() == {HERE}
    assert (LISTENING_TTL, CONTROL_PERIOD) == (3_600 * SECOND, 5 * SECOND)


async def test_an_entry_that_expired_is_written_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A controller that was paused for longer: another one still sends where it listens."""
    monkeypatch.setattr(listening, "RENEWALS_PER_TTL", 10**9)
    fleet = Fleet()
    async with (
        fleet.controller("one", HERE),
        fleet.controller("two", "192.0.2.2", leads=False),
    ):
        while await fleet.told() != {HERE, "192.0.2.2"}:
            pass
        fleet.clock.advance(LISTENING_TTL // SECOND)
        assert not (await fleet.store.read(KEYS.listening)).items
        while len((await fleet.store.read(KEYS.listening)).items) < 2:  # noqa: ASYNC110
            await asyncio.sleep(0)
