"""A user's commands against a whole controller with agents: create, watch, scale, remove."""

from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest

from controller.app import Controller
from controller.store.memory import MemoryKv
from controller.store.memory_store import MemoryStore
from pyswarm_core.aio.system import SteadyClock
from pyswarm_core.api.v1 import control_pb2 as pb
from tests.fixtures.parts import whole
from tests.integration.controller.fleet import agents_of, config, leading, serving, user, web

WATCH_S = 60.0


@pytest.fixture
async def fleet(tmp_path: Path) -> AsyncIterator[Controller]:
    settings = config(tmp_path)
    async with serving(settings, MemoryStore(MemoryKv(), SteadyClock())) as controller:
        await leading(controller)
        token = controller.current().state.cluster.worker_token
        async with agents_of(settings.advertise_addr, token, 3):
            yield controller


async def test_a_service_converges_scales_and_goes(fleet: Controller, tmp_path: Path) -> None:
    async with user(config(tmp_path)) as stub:
        service = (await stub.CreateService(web(6))).service
        watch = stub.WatchService(pb.WatchServiceRequest(ref="web"), timeout=WATCH_S)
        last = [progress async for progress in watch][-1]
        assert (last.running, last.desired, last.converged) == (6, 6, True)

        service.spec.mode.replicated.replicas = 2
        update = pb.UpdateServiceRequest(ref="web", version=service.version, spec=service.spec)
        await stub.UpdateService(update)
        watch = stub.WatchService(pb.WatchServiceRequest(ref="web"), timeout=WATCH_S)
        last = [progress async for progress in watch][-1]
        assert (last.running, last.alive) == (2, 2)

        await stub.RemoveService(pb.RemoveServiceRequest(ref="web"))
        try:
            watch = stub.WatchService(pb.WatchServiceRequest(ref=service.id), timeout=WATCH_S)
            assert [progress.gone async for progress in watch][-1]
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.NOT_FOUND:  # gone before we looked
                raise
        assert not (await whole(pb.ListTasksReply, stub.ListTasks(pb.ListTasksRequest()))).tasks


async def test_what_users_did_is_told_as_events(fleet: Controller, tmp_path: Path) -> None:
    async with user(config(tmp_path)) as stub:
        await stub.CreateService(web(1))
        await stub.RemoveService(pb.RemoveServiceRequest(ref="web"))
        request = pb.EventsRequest(filters=["service=web", "type=service"])
        told = await whole(pb.EventsReply, stub.Events(request))
        assert [event.action for event in told.events][:2] == ["create", "remove"]


async def test_a_drained_node_is_emptied_and_a_removed_one_forgotten(
    fleet: Controller, tmp_path: Path
) -> None:
    async with user(config(tmp_path)) as stub:
        await stub.CreateService(web(6))
        watch = stub.WatchService(pb.WatchServiceRequest(ref="web"), timeout=WATCH_S)
        assert [progress.converged async for progress in watch][-1]
        node = (await stub.GetNode(pb.RefRequest(ref="host2"))).node.node
        node.spec.availability = "drain"
        update = pb.UpdateNodeRequest(ref=node.id, version=node.version, spec=node.spec)
        await stub.UpdateNode(update)
        follow = stub.WatchService(pb.WatchServiceRequest(ref="web", follow=True), timeout=WATCH_S)
        async for progress in follow:
            hosts = [slot.node for slot in progress.slots]
            if progress.converged and "host2" not in hosts:
                break
        follow.cancel()
        await stub.RemoveNode(pb.RemoveNodeRequest(ref="host2", force=True))
        listed = await whole(pb.ListNodesReply, stub.ListNodes(pb.ListRequest()))
        assert [view.node.description.hostname for view in listed.nodes] == ["host1", "host3"]
