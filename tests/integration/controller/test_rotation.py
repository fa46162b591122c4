"""Rotations of the CA and the join token: what goes on, what ends, and how a host comes back."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from msgspec.structs import replace

from agent.session import identity as agents_identity
from agent.session import renewal as renewals
from agent.session.identity import Identity, Joining
from agent.session.renewal import Renewal, rejoin
from cli.context import store as contexts
from cli.main import run
from controller.app import Controller
from controller.config import Config
from controller.identity import authority, ca, rotation
from controller.identity.caller import CONTROLLER
from controller.identity.keyring import Keyring
from controller.store.base import Put, Txn
from controller.store.memory import MemoryKv
from controller.store.memory_store import MemoryStore
from pyswarm_core.aio.system import SteadyClock
from pyswarm_core.api.v1 import control_pb2, dispatcher_pb2
from pyswarm_core.clock import HOUR, SECOND, Instant
from pyswarm_core.codec import from_proto
from pyswarm_core.decision import Writes
from pyswarm_core.errors import Conflict, InvalidArgument, PermissionDenied
from pyswarm_core.identity.certificates import CertificateAuthority
from pyswarm_core.ids import NodeId
from pyswarm_core.keys import Keys
from pyswarm_core.objects import NodeDescription
from pyswarm_core.states import NodeState
from tests.fixtures.identity import present
from tests.integration.controller.fleet import (
    WAIT_S,
    FakeAgent,
    config,
    leading,
    second,
    serving,
    until,
    user,
)

HOSTS = 20
DAY = 24 * HOUR


@pytest.fixture
def kv() -> MemoryKv:
    return MemoryKv()


@pytest.fixture
def settings(tmp_path: Path) -> Config:
    return config(tmp_path)


@pytest.fixture
async def controller(settings: Config, kv: MemoryKv) -> AsyncIterator[Controller]:
    async with serving(settings, MemoryStore(kv, SteadyClock())) as found:
        await leading(found)
        yield found


@pytest.fixture(autouse=True)
def _hasty(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(renewals, "RETRY_FIRST_S", 0.05)
    monkeypatch.setattr(renewals, "RETRY_MAX_S", 0.2)
    monkeypatch.setattr(renewals, "LOOK_PERIOD_S", 0.0)
    monkeypatch.setattr(rotation, "CA_ROTATION_MIN", 0)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home"))


class Host(FakeAgent):
    """An agent that runs nothing, with the real agent's identity and renewal."""

    def __init__(self, hostname: str) -> None:
        super().__init__(hostname)
        self.sessions = 0
        self.renews = True
        self.messages = _Told(self)

    async def enlist(self, folder: Path, address: str, token: str) -> None:
        """Join, with an identity in the folder."""
        self.path = folder / f"{self.hostname}.json"
        description = from_proto(NodeDescription, self.description)
        joining = Joining(token, (address,), description, self.addr)
        self.use(await agents_identity.join(self.path, joining))

    def use(self, identity: Identity) -> None:
        """Become the node of this identity."""
        self.identity, self.node_id = identity, identity.node_id
        self.renewal = Renewal(identity, lambda: "")

    def dial(self, address: str) -> grpc.aio.Channel:
        self.credentials = self.identity.certificate.credentials
        return super().dial(address)

    async def converse(self, address: str) -> None:
        self.sessions += 1
        try:
            await super().converse(address)
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.UNAVAILABLE:
                self.renewal.refused(address)
            raise

    @asynccontextmanager
    async def up(self, address: str) -> AsyncIterator[None]:
        """Its agent runs until the block is left."""
        async with all_up([self], address):
            yield


@asynccontextmanager
async def all_up(hosts: list[Host], address: str) -> AsyncIterator[None]:
    """Their agents run until the block is left."""
    async with asyncio.TaskGroup() as group:
        tasks = []
        for host in hosts:
            tasks.append(group.create_task(host.run(address)))
            if host.renews:
                tasks.append(group.create_task(host.renewal.run()))
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()


class _Told(list[dispatcher_pb2.ControllerMessage]):
    def __init__(self, host: Host) -> None:
        self._host = host

    def append(self, message: dispatcher_pb2.ControllerMessage) -> None:
        if message.HasField("settings"):
            self._host.renewal.roots_changed(message.settings.roots.decode())
        super().append(message)


def token_of(controller: Controller) -> str:
    return controller.current().state.cluster.worker_token


def is_rotating(controller: Controller) -> bool:
    return bool(controller.current().state.cluster.former_roots)


async def down(controller: Controller, host: FakeAgent) -> None:
    """Its node is declared down, as after AGENT_GRACE."""

    def change(state: Any, now: Instant, ids: Any) -> tuple[Writes, None]:
        node = state.nodes[NodeId(host.node_id)]
        status = replace(node.status, state=NodeState.DOWN)
        return Writes(objects=(replace(node, status=status),)), None

    await until(lambda: not len(controller.current().sessions), "its session has ended")
    await controller.current().submit(change, CONTROLLER)


def socket_of(settings: Config) -> str:
    """The address for root on the controller's host."""
    return settings.listen[0].replace("unix:", "unix://")


async def _refused(host: Host, address: str) -> None:
    """Return when the handshake refuses the host's certificate."""
    async with asyncio.timeout(WAIT_S):
        with suppress(grpc.aio.AioRpcError):
            while True:
                async with host.dial(address) as connection:
                    stub = health_pb2_grpc.HealthStub(connection)
                    await stub.Check(health_pb2.HealthCheckRequest(), timeout=WAIT_S)
                await asyncio.sleep(0.05)


async def rotate(settings: Config) -> None:
    async with user(settings) as stub:
        await stub.RotateCa(control_pb2.RotateCaRequest(), timeout=60)


async def pyswarm(*arguments: str) -> None:
    """A command of a user, in a thread beside the controller."""
    code = await asyncio.to_thread(run, arguments)
    assert code == 0, arguments


async def _joined(folder: Path, controller: Controller, address: str, name: str) -> Host:
    host = Host(name)
    await host.enlist(folder, address, token_of(controller))
    return host


async def test_twenty_agents_and_a_user_keep_what_they_have_through_a_rotation(
    controller: Controller, settings: Config, tmp_path: Path
) -> None:
    address, old_token = settings.advertise_addr, token_of(controller)
    names = [f"host{number}" for number in range(1, HOSTS + 1)]
    hosts = [await _joined(tmp_path, controller, address, name) for name in names]
    local = ("-H", socket_of(settings))
    await pyswarm(*local, "user", "create", "boss", "--role", "admin")
    await pyswarm(*local, "context", "create", "boss", "--user", "boss")
    before = contexts.load("boss").material
    async with all_up(hosts, address):
        await until(lambda: all(host.full_sets for host in hosts), "all have sessions")
        sessions = list(controller.current().sessions)
        rotating = asyncio.create_task(pyswarm("-c", "boss", "swarm", "ca", "--rotate", "-q"))
        await until(lambda: is_rotating(controller), "the rotation has begun")
        with pytest.raises(grpc.aio.AioRpcError, match="a rotation of the CA is in progress"):
            await rotate(settings)
        await rotating
        assert not is_rotating(controller)
        beats = [host.beats for host in hosts]
        await until(
            lambda: all(host.beats > n + 2 for host, n in zip(hosts, beats, strict=True)),
            "the sessions go on",
        )
        assert [host.sessions for host in hosts] == [1] * HOSTS
        assert list(controller.current().sessions) == sessions
    state = controller.current().state
    issuer = ca.identifier_of(state.cluster.ca)
    assert {node.certificate.issuer for node in state.nodes.values()} == {issuer}
    assert {host.identity.certificate.roots for host in hosts} == {state.cluster.ca.certificate}
    # The context has a certificate of the new root, and trusts that alone.
    after = contexts.load("boss").material
    assert after.cert != before.cert
    await pyswarm("-c", "boss", "service", "ls", "-q")
    assert contexts.load("boss").material.ca == state.cluster.ca.certificate
    late = Host("late")
    with pytest.raises(PermissionDenied, match="does not have this fleet's CA"):
        await late.enlist(tmp_path, address, old_token)
    await late.enlist(tmp_path, address, token_of(controller))
    async with late.up(address):
        await until(lambda: late.full_sets, "it joined with the new token")


async def test_a_new_root_counts_from_the_next_connection_on(
    settings: Config, kv: MemoryKv, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(authority, "LOOK_PERIOD_S", 3600.0)
    async with serving(settings, MemoryStore(kv, SteadyClock())) as controller:
        await leading(controller)
        await rotate(settings)
        await _joined(tmp_path, controller, settings.advertise_addr, "host1")


async def test_the_next_leader_finishes_a_rotation(
    settings: Config, kv: MemoryKv, tmp_path: Path
) -> None:
    other = second(settings, tmp_path / "two")
    async with serving(settings, MemoryStore(kv, SteadyClock())) as first:
        await leading(first)
        host = await _joined(tmp_path, first, settings.advertise_addr, "host1")
        host.renews = False
        async with host.up(settings.advertise_addr):
            await until(lambda: host.full_sets, "its session stands")
            await rotate(settings)
            assert is_rotating(first)
    async with serving(other, MemoryStore(kv, SteadyClock())) as next_one:
        await leading(next_one)
        assert is_rotating(next_one)
        host.renews = True
        host.identity.learn((other.advertise_addr,))
        async with host.up(other.advertise_addr):
            await until(lambda: not is_rotating(next_one), "the rotation has ended")
            (node,) = next_one.current().state.nodes.values()
            assert node.certificate.issuer == ca.identifier_of(next_one.current().state.cluster.ca)


async def test_a_node_that_was_down_during_a_rotation_returns_by_proof_of_its_key(
    controller: Controller, settings: Config, tmp_path: Path
) -> None:
    address = settings.advertise_addr
    host = await _joined(tmp_path, controller, address, "host1")
    async with host.up(address):
        await until(lambda: host.full_sets, "its session stands")
    await down(controller, host)
    await rotate(settings)
    await until(lambda: not is_rotating(controller), "the rotation does not wait for it")
    await _refused(host, address)
    former = host.identity.certificate
    async with host.up(address):
        await until(lambda: host.full_sets == 2, "it has a session")
    assert host.identity.certificate.key != former.key
    assert [node.id for node in controller.current().state.nodes.values()] == [host.node_id]


async def test_a_rotated_join_token_is_refused_with_the_reason(
    controller: Controller, settings: Config, tmp_path: Path
) -> None:
    address, old = settings.advertise_addr, token_of(controller)
    await pyswarm("-H", socket_of(settings), "swarm", "join-token", "--rotate", "-q", "worker")
    assert token_of(controller) != old
    host = Host("host1")
    with pytest.raises(PermissionDenied, match="token"):
        await host.enlist(tmp_path, address, old)
    assert not controller.current().state.nodes
    await host.enlist(tmp_path, address, token_of(controller))
    assert list(controller.current().state.nodes) == [host.node_id]


async def _expire(controller: Controller, host: Host, ago: int) -> None:
    """The node's newest certificate ended so long ago."""

    def change(state: Any, now: Instant, ids: Any) -> tuple[Writes, None]:
        node = state.nodes[NodeId(host.node_id)]
        ended = replace(node.certificate, expires_at=Instant(now - ago))
        return Writes(objects=(replace(node, certificate=ended),)), None

    await controller.current().submit(change, CONTROLLER)
    life = Instant(host.identity.certificate.received_at - 200 * DAY)
    host.identity.renew(replace(host.identity.certificate, received_at=life))


async def test_a_host_that_was_offline_for_more_than_thirty_days_rejoins_with_a_token(
    controller: Controller, settings: Config, tmp_path: Path
) -> None:
    address = settings.advertise_addr
    host = await _joined(tmp_path, controller, address, "host1")
    await _expire(controller, host, 31 * DAY)
    request = await host.identity.request()
    with pytest.raises(PermissionDenied, match="more than 30 days ago: run `pyswarm swarm rejoin"):
        await renewals._renewed(address, host.identity.certificate, request)
    await rejoin(host.path, token_of(controller), (address,))
    async with host.up(address):  # the running agent reads the new certificate
        await until(lambda: host.full_sets, "it has a session")
    assert list(controller.current().state.nodes) == [host.node_id]


async def test_a_host_that_was_offline_for_less_renews_by_proof(
    controller: Controller, settings: Config, tmp_path: Path
) -> None:
    address = settings.advertise_addr
    host = await _joined(tmp_path, controller, address, "host1")
    await _expire(controller, host, 29 * DAY)
    former = host.identity.certificate
    async with host.up(address):
        await until(lambda: host.identity.certificate.key != former.key, "it has renewed")
        await until(lambda: host.full_sets, "it has a session")
    (node,) = controller.current().state.nodes.values()
    assert node.certificate.expires_at > present()


async def test_a_host_without_its_key_rejoins_only_when_its_node_is_down(
    controller: Controller, settings: Config, tmp_path: Path
) -> None:
    address, token = settings.advertise_addr, token_of(controller)
    host = await _joined(tmp_path, controller, address, "host1")
    thief = tmp_path / "thief.json"
    node = f'{{"node_id": "{host.node_id}", "cluster_id": "c"}}'
    thief.write_text(node)
    async with host.up(address):
        await until(lambda: host.full_sets, "its session stands")
        with pytest.raises(Conflict, match="rejoin when the node is down"):
            await rejoin(thief, token, (address,))
        assert thief.read_text() == node
    await down(controller, host)
    await rejoin(thief, token, (address,))
    found = Identity.load(thief)
    assert found
    successor = Host("host1")
    successor.path = thief
    successor.use(found)
    async with successor.up(address):
        await until(lambda: successor.full_sets, "it has a session")
    assert list(controller.current().state.nodes) == [host.node_id]


async def test_a_fleet_made_before_certificates_is_converted_as_its_error_says(
    settings: Config, kv: MemoryKv, tmp_path: Path
) -> None:
    async with serving(settings, MemoryStore(kv, SteadyClock())) as found:
        await leading(found)
        host = await _joined(tmp_path, found, settings.advertise_addr, "host1")
        old = replace(found.current().state.cluster, ca=CertificateAuthority(), worker_token="t")
    # Data and identity of that version.
    store = MemoryStore(kv, SteadyClock())
    sealed = Keyring(settings.key_file).envelope(is_new=False).encode(old)
    await store.commit(Txn((), (Put(Keys().cluster, sealed),)))
    host.path.write_text(f'{{"node_id": "{host.node_id}", "cluster_id": "{old.id}"}}')
    with pytest.raises(ExceptionGroup) as refused:
        async with serving(settings, MemoryStore(kv, SteadyClock())) as found:
            await asyncio.sleep(60)
    assert refused.group_contains(
        InvalidArgument, match="--convert, then run `pyswarm swarm rejoin"
    )
    with pytest.raises(InvalidArgument, match="swarm rejoin"):
        Identity.load(host.path)
    async with serving(replace(settings, convert=True), MemoryStore(kv, SteadyClock())) as found:
        await leading(found)
        await down(found, host)
        await rejoin(host.path, token_of(found), (settings.advertise_addr,))
        loaded = Identity.load(host.path)
        assert loaded
        host.use(loaded)
        async with host.up(settings.advertise_addr):
            await until(lambda: host.full_sets, "it has a session")
        assert list(found.current().state.nodes) == [host.node_id]
    async with serving(settings, MemoryStore(kv, SteadyClock())) as found:
        await leading(found)  # --convert is needed once


async def test_a_clock_that_goes_wrong_is_shown_by_node_ls_and_inspect(
    controller: Controller, settings: Config, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    local = ("-H", socket_of(settings))
    host = await _joined(tmp_path, controller, settings.advertise_addr, "host1")

    def faults() -> tuple[str, ...]:
        (node,) = controller.current().state.nodes.values()
        return tuple(fault.reason for fault in node.status.faults)

    async with host.up(settings.advertise_addr):
        host.clock_ahead = -100 * SECOND
        await until(faults, "its clock is behind")
        capsys.readouterr()
        await pyswarm(*local, "node", "ls", "--format", "{{.Hostname}} {{.Status}}")
        await pyswarm(*local, "node", "inspect", "--pretty", "host1")
        shown = " ".join(capsys.readouterr().out.split())
        assert shown.startswith("host1 Ready (1 fault)")
        assert "its clock is at least 64 s behind the controller's: set both by NTP" in shown
        host.clock_ahead = 0
        await until(lambda: not faults(), "its clock is right again")
