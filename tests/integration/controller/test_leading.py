"""A controller and its agents over real gRPC: what users ask for runs, whatever dies meanwhile."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

import grpc
import pytest
from msgspec.structs import replace

from controller.app import Controller
from controller.config import Config
from controller.identity.caller import CONTROLLER
from controller.leader.exchanges import IMAGE_LIST, ImageList
from controller.leader.persistence import registry
from controller.store.memory import MemoryKv
from controller.store.memory_store import MemoryStore
from pyswarm_core.aio.system import SteadyClock
from pyswarm_core.api.v1 import control_pb2, dispatcher_pb2, dispatcher_pb2_grpc
from pyswarm_core.clock import MILLISECOND, Instant
from pyswarm_core.codec import to_proto
from pyswarm_core.decision import Writes
from pyswarm_core.identity.tokens import parse_join_token
from pyswarm_core.ids import IdSource, NodeId
from pyswarm_core.limits import ENCRYPTION_KEY_PERIOD, ENCRYPTION_KEY_PERIOD_MIN
from pyswarm_core.specs import NetworkSpec
from pyswarm_core.state import State
from pyswarm_core.states import NodeState
from tests.fixtures.identity import Pki
from tests.integration.controller.fleet import (
    HASTY,
    FakeAgent,
    agents_of,
    config,
    leading,
    second,
    serving,
    until,
    user,
    web,
)


@pytest.fixture
def kv() -> MemoryKv:
    return MemoryKv()


@pytest.fixture
def store(kv: MemoryKv) -> MemoryStore:
    return MemoryStore(kv, SteadyClock())


@pytest.fixture
def settings(tmp_path: Path) -> Config:
    return config(tmp_path)


@pytest.fixture
async def controller(settings: Config, store: MemoryStore) -> AsyncIterator[Controller]:
    async with serving(settings, store) as found:
        await leading(found)
        yield found


def token_of(controller: Controller) -> str:
    return controller.current().state.cluster.worker_token


def ready_nodes(controller: Controller) -> int:
    state = controller.current().state
    return sum(node.status.state is NodeState.READY for node in state.nodes.values())


def running(controller: Controller, name: str = "web") -> int:
    state = controller.current().state
    found = state.service_of_name.get(name)
    return state.tasks_of_service(found).running if found else 0


async def test_an_agent_that_joins_and_says_hello_is_ready(
    controller: Controller, settings: Config
) -> None:
    async with agents_of(settings.advertise_addr, token_of(controller), 2) as agents:
        await until(lambda: ready_nodes(controller) == 2, "both nodes are ready")
        await until(lambda: all(agent.full_sets for agent in agents), "both got a full set")
        numbers = sorted(node.number for node in controller.current().state.nodes.values())
        assert numbers == [1, 2]


async def test_what_a_user_asks_for_runs_on_the_agents(
    controller: Controller, settings: Config
) -> None:
    async with (
        agents_of(settings.advertise_addr, token_of(controller), 3) as agents,
        user(settings) as stub,
    ):
        await until(lambda: ready_nodes(controller) == 3, "all nodes are ready")
        await stub.CreateService(web(7), timeout=60)
        await until(lambda: running(controller) == 7, "7 replicas run")
        assert sorted(len(agent.running) for agent in agents) == [2, 2, 3]


async def test_removed_tasks_are_forgotten_by_their_agents(
    controller: Controller, settings: Config
) -> None:
    async with (
        agents_of(settings.advertise_addr, token_of(controller), 2) as agents,
        user(settings) as stub,
    ):
        await until(lambda: ready_nodes(controller) == 2, "all nodes are ready")
        await stub.CreateService(web(4), timeout=60)
        await until(lambda: running(controller) == 4, "4 replicas run")
        await stub.RemoveService(control_pb2.RemoveServiceRequest(ref="web"), timeout=60)
        await until(lambda: not controller.current().state.services, "the service is gone")
        await until(lambda: not any(agent.tasks for agent in agents), "agents hold no tasks")


async def test_new_keys_of_encrypted_networks_reach_their_nodes(
    controller: Controller, settings: Config
) -> None:
    request = control_pb2.CreateNetworkRequest()
    to_proto(NetworkSpec(name="secret", encrypted=True), request.spec)
    service = web(2)
    async with (
        agents_of(settings.advertise_addr, token_of(controller), 2) as agents,
        user(settings) as stub,
    ):
        await until(lambda: ready_nodes(controller) == 2, "both nodes are ready")
        made = await stub.CreateNetwork(request, timeout=60)
        service.spec.task_template.networks.add(target=made.network.id)
        await stub.CreateService(service, timeout=60)
        await until(lambda: running(controller) == 2, "both replicas run")
        assert [key_numbers(agent)[-1] for agent in agents] == [[1], [1]]
        await controller.current().submit(_aged, CONTROLLER)
        await until(
            lambda: all(key_numbers(agent)[-1] == [2, 1] for agent in agents), "both have the new"
        )


async def test_a_host_that_sent_too_much_gets_everybody_another_key(
    controller: Controller, settings: Config
) -> None:
    request = control_pb2.CreateNetworkRequest()
    to_proto(NetworkSpec(name="secret", encrypted=True), request.spec)
    async with (
        agents_of(settings.advertise_addr, token_of(controller), 1) as (agent,),
        user(settings) as stub,
    ):
        await stub.CreateNetwork(request, timeout=60)
        loop = controller.current()
        await loop.submit(partial(_aged, by=ENCRYPTION_KEY_PERIOD_MIN), CONTROLLER)
        agent.worn_key, target = 7, agent.beats + 3
        await until(lambda: agent.beats > target, "a key is worn that nobody sends with")
        assert len(loop.state.cluster.encryption_keys) == 1
        agent.worn_key = 1
        await until(lambda: len(loop.state.cluster.encryption_keys) == 2, "there is another key")


async def test_a_hosts_addresses_of_ipv6_are_kept_as_it_says_them(
    controller: Controller, settings: Config
) -> None:
    async with agents_of(settings.advertise_addr, token_of(controller), 1) as (agent,):
        await until(lambda: ready_nodes(controller) == 1, "the node is ready")
        (node,) = controller.current().state.nodes.values()
        assert node.status.addrs6 == (agent.addrs6[0].lower().replace(":0::", "::"),)
        agent.addrs6 = ("no address",)
        with pytest.raises(grpc.aio.AioRpcError, match="no address"):
            await agent.converse(settings.advertise_addr)


def key_numbers(agent: FakeAgent) -> list[list[int]]:
    """The numbers of the keys that came with each overlay, in order of arrival."""
    return [
        [key.number for key in overlay.encryption_keys]
        for message in agent.messages
        for overlay in map(dispatcher_pb2.Overlay.FromString, message.assignments.overlays)
    ]


def _aged(
    state: State, now: Instant, ids: IdSource, *, by: int = ENCRYPTION_KEY_PERIOD
) -> tuple[Writes, None]:
    """The key has served so long, by default all of its time."""
    (key,) = state.cluster.encryption_keys
    old = replace(key, created_at=Instant(now - by))
    return Writes(cluster=replace(state.cluster, encryption_keys=(old,))), None


async def test_a_wrong_token_is_refused(controller: Controller, settings: Config) -> None:
    token = str(replace(parse_join_token(token_of(controller)), secret="0" * 25))
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await FakeAgent("stranger").join(settings.advertise_addr, token)
    assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED
    assert "join token" in (refused.value.details() or "")


async def test_an_unknown_node_is_told_to_join(controller: Controller, settings: Config) -> None:
    agent = FakeAgent("stranger")
    agent.credentials = Pki(controller.current().state.cluster).node("0" * 25)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await agent.converse(settings.advertise_addr)
    assert refused.value.code() is grpc.StatusCode.NOT_FOUND


async def test_silence_is_a_verdict_and_its_replicas_run_elsewhere(
    tmp_path: Path, store: MemoryStore
) -> None:
    settings = config(tmp_path, heartbeat=HASTY)
    async with (
        serving(settings, store) as controller,
        user(settings) as stub,
        AsyncExitStack() as stack,
    ):
        await leading(controller)
        agents = await stack.enter_async_context(
            agents_of(settings.advertise_addr, token_of(controller), 2)
        )
        await until(lambda: ready_nodes(controller) == 2, "both nodes are ready")
        await stub.CreateService(web(4), timeout=60)
        await until(lambda: running(controller) == 4, "4 replicas run")
        agents[0].is_mute = True
        await until(lambda: len(agents[1].running) == 4, "all replicas moved")
        agents[0].is_mute = False
        await until(lambda: not agents[0].running, "the lost node was told to stop its own")
        await until(lambda: ready_nodes(controller) == 2, "it came back")


async def test_a_broken_stream_is_only_a_hint(controller: Controller, settings: Config) -> None:
    agent = FakeAgent("host1")
    await agent.join(settings.advertise_addr, token_of(controller))
    session = asyncio.create_task(agent.run(settings.advertise_addr))
    await until(lambda: ready_nodes(controller) == 1, "the node is ready")
    session.cancel()
    await until(lambda: not len(controller.current().sessions), "the session is closed")
    assert ready_nodes(controller) == 1


async def test_a_second_session_replaces_the_first(
    controller: Controller, settings: Config
) -> None:
    agent = FakeAgent("host1")
    await agent.join(settings.advertise_addr, token_of(controller))
    first = asyncio.create_task(agent.converse(settings.advertise_addr))
    await until(lambda: agent.full_sets == 1, "the first session got its set")
    second = asyncio.create_task(agent.converse(settings.advertise_addr))
    await asyncio.wait_for(first, 60)
    await until(lambda: agent.full_sets == 2, "the second session got its set")
    assert len(controller.current().sessions) == 1
    second.cancel()


async def test_nothing_is_lost_when_the_controller_comes_back(
    settings: Config, store: MemoryStore
) -> None:
    async with serving(settings, store) as first:
        await leading(first)
        token = token_of(first)
    agents = [FakeAgent("host1"), FakeAgent("host2")]
    sessions = []
    async with serving(settings, store) as second:
        await leading(second)
        for agent in agents:
            await agent.join(settings.advertise_addr, token)
            sessions.append(asyncio.create_task(agent.run(settings.advertise_addr)))
        async with user(settings) as stub:
            await stub.CreateService(web(5), timeout=60)
        await until(lambda: running(second) == 5, "5 replicas run")
    before = {task_id for agent in agents for task_id in agent.running}
    async with serving(settings, store) as third:
        await leading(third)
        await until(lambda: ready_nodes(third) == 2, "both nodes are back")
        await until(lambda: running(third) == 5, "5 replicas run")
        assert {task_id for agent in agents for task_id in agent.running} == before
        assert set(third.current().state.tasks) == before
        for session in sessions:
            session.cancel()


async def test_users_get_unavailable_while_the_store_is_away_and_nothing_else_happens(
    controller: Controller, settings: Config, store: MemoryStore
) -> None:
    async with (
        agents_of(settings.advertise_addr, token_of(controller), 1) as agents,
        user(settings) as stub,
    ):
        await until(lambda: ready_nodes(controller) == 1, "the node is ready")
        await stub.CreateService(web(2), timeout=60)
        await until(lambda: running(controller) == 2, "2 replicas run")
        before = agents[0].running
        store.set_away(True)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stub.CreateService(web(1, "late"), timeout=60)
        assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
        store.set_away(False)
        await leading(controller)
        await until(lambda: running(controller) == 2, "2 replicas run again")
        assert agents[0].running == before


async def test_a_deposed_leader_steps_down_and_may_win_again(
    controller: Controller, kv: MemoryKv, settings: Config
) -> None:
    loop = controller.current()
    lease = next(item.lease for item in kv.read(b"/pyswarm/leader", None).items)
    kv.revoke(lease)
    await until(lambda: controller.leading and controller.current() is not loop, "a new term")
    with pytest.raises(Exception, match="no longer leads"):
        await loop.submit(lambda state, now, ids: pytest.fail("ran on a dead state"), CONTROLLER)


async def test_a_follower_redirects_agents_to_the_leader(
    controller: Controller, settings: Config, kv: MemoryKv, tmp_path: Path
) -> None:
    other = second(settings, tmp_path / "other")
    async with serving(other, MemoryStore(kv, SteadyClock())) as follower:
        await until(lambda: follower.leader, "the follower knows the leader")
        agent = FakeAgent("host1")
        await agent.join(settings.advertise_addr, token_of(controller))
        await agent.converse(other.advertise_addr)
        assert [m.redirect.leader for m in agent.messages] == [settings.advertise_addr]


async def test_agents_are_told_of_every_living_controller_the_leader_first(
    settings: Config, kv: MemoryKv, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "CONTROLLER_PERIOD", 50 * MILLISECOND)
    other = second(settings, tmp_path / "other")
    both = [settings.advertise_addr, other.advertise_addr]
    async with serving(settings, MemoryStore(kv, SteadyClock())) as controller:
        await leading(controller)
        async with agents_of(settings.advertise_addr, token_of(controller), 1) as (agent,):

            def told() -> list[str]:
                settings_ = [m.settings for m in agent.messages if m.HasField("settings")]
                return list(settings_[-1].controllers) if settings_ else []

            await until(lambda: told() == both[:1], "one controller is known")
            async with serving(other, MemoryStore(kv, SteadyClock())):
                await until(lambda: told() == both, "the other is told of")
            await until(lambda: told() == both[:1], "it has left")


async def test_the_node_of_a_controllers_host_is_a_manager(
    controller: Controller, settings: Config
) -> None:
    loop = controller.current()
    async with agents_of(settings.advertise_addr, token_of(controller), 2) as (first, second):
        await until(lambda: ready_nodes(controller) == 2, "both are ready")
        loop.controllers_changed((f"{first.addr}:2377",))
        roles = {node.id: node.spec.role for node in loop.state.nodes.values()}
        assert roles == {first.node_id: "manager", second.node_id: "worker"}


async def test_an_agent_that_comes_before_anybody_leads_waits_and_is_served(
    controller: Controller, settings: Config, store: MemoryStore
) -> None:
    agent = FakeAgent("host1")
    await agent.join(settings.advertise_addr, token_of(controller))
    store.set_away(True)
    await until(lambda: not controller.leading, "leadership is lost")
    session = asyncio.create_task(agent.converse(settings.advertise_addr))
    store.set_away(False)
    await until(lambda: agent.messages, "the agent is answered")
    assert agent.messages[0].WhichOneof("kind") == "settings"
    session.cancel()


async def test_a_follower_takes_over_when_the_leader_ends(
    settings: Config, kv: MemoryKv, tmp_path: Path
) -> None:
    other = second(settings, tmp_path / "other")
    async with serving(other, MemoryStore(kv, SteadyClock())) as follower:
        await leading(follower)
        token = token_of(follower)
        async with serving(settings, MemoryStore(kv, SteadyClock())) as candidate:
            await until(lambda: candidate.leader == other.advertise_addr, "it follows")
            assert not candidate.leading
    async with serving(settings, MemoryStore(kv, SteadyClock())) as successor:
        await leading(successor)
        assert token_of(successor) == token


async def test_a_tunnel_carries_frames_from_the_agent(
    controller: Controller, settings: Config
) -> None:
    async with agents_of(settings.advertise_addr, token_of(controller), 1) as (agent,):
        await until(lambda: agent.full_sets, "the session stands")

        async def dial_back() -> None:
            await until(lambda: agent.messages[-1].HasField("open_tunnel"), "asked for a tunnel")
            asked = agent.messages[-1].open_tunnel
            async with agent.dial(settings.advertise_addr) as channel:
                call = dispatcher_pb2_grpc.DispatcherStub(channel).Tunnel(None)
                report = dispatcher_pb2.ImageReport(images=[dispatcher_pb2.Image(id="i1")])
                for frame in (
                    dispatcher_pb2.TunnelFrame(tunnel_id=asked.tunnel_id),
                    dispatcher_pb2.TunnelFrame(image_report=report),
                    dispatcher_pb2.TunnelFrame(end=dispatcher_pb2.TunnelEnd()),
                ):
                    await call.write(frame)
                await call.done_writing()
                assert not isinstance(await call.read(), dispatcher_pb2.TunnelFrame)

        dialing = asyncio.create_task(dial_back())
        answers = []
        node_id, tunnels = NodeId(agent.node_id), controller.current().tunnels
        async with tunnels.open(node_id, IMAGE_LIST, ImageList()) as tunnel:
            while (report := await tunnel.read()) is not None:
                answers.append([image.id for image in report.images])
        await dialing
        assert answers == [["i1"]]
