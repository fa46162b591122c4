"""A node pushes an image by the rights of a caller, over the caller's stream."""

import asyncio
from typing import Any

from agent.streams.base import Link
from agent.streams.pushing import serve_push
from controller.api.registry.pushing import PushingAgent
from controller.api.registry.serving import Access, serve_registry
from controller.api.registry.serving import Link as CallersLink
from controller.identity.caller import Caller, CallerKind
from pyswarm_core.identity.users import Role
from pyswarm_core.streams.frames import Data, Exit, Frame, encode
from pyswarm_core.streams.requests import PushImageRequest
from pyswarm_core.streams.wire import packed, unpacked
from tests.integration.registry.conftest import Rig
from tests.integration.registry.test_nodes import node
from tests.integration.registry.test_users import records, service

PASSWORD = "p" * 32
CI = Caller(CallerKind.USER, name="ci", role=Role.OPERATOR, stacks=("web",))


class Tunnel:
    """A tunnel in memory, which takes one frame at a time, as a call of gRPC does."""

    def __init__(self) -> None:
        self._to_agent: asyncio.Queue[Frame] = asyncio.Queue(1)
        self._to_controller: asyncio.Queue[Frame] = asyncio.Queue(1)
        self._writes = False
        self.agent = Link(self._to_controller.put, self._to_agent.get)

    async def write(self, raw: bytes) -> None:
        assert not self._writes
        self._writes = True
        frame = unpacked(raw)
        assert frame is not None
        await self._to_agent.put(frame)
        await asyncio.sleep(0)
        self._writes = False

    async def read(self) -> Any:
        frame = await self._to_controller.get()
        return packed(frame) if isinstance(frame, Data) else encode(frame)


async def pushed(rig: Rig, name: str, *, password: str = PASSWORD) -> tuple[Exit | None, str]:
    """How the push of an image of a node ended, and the image's id."""
    client = await rig.client("ops", Role.OPERATOR)
    await rig.push(client, "base:1", b"x" * 3_000_000)
    tunnel = Tunnel()
    agent = PushingAgent(tunnel)  # type: ignore[arg-type]
    async with node(rig) as images, asyncio.TaskGroup() as group:
        image = await images.pull("base:1")
        request = PushImageRequest(ref=image.id, name=name, password=password)
        serving = group.create_task(serve_push(images, request, tunnel.agent))
        link = CallersLink(agent.send, agent.receive)
        access = Access(CI, PASSWORD, writes=True)
        await serve_registry(rig.fleet, rig.registry, access, link)
        serving.cancel()
    return agent.exit, image.id


async def test_a_node_pushes_by_the_rights_of_the_caller(rig: Rig) -> None:
    ended, image_id = await pushed(rig, "docker.io/library/web:1")
    assert ended == Exit()
    config = rig.registry.upkeep.storage.config_of("docker.io/library/web", "1")
    assert config == f"sha256:{image_id}"
    found = await records(rig, 2)
    assert ("ci", "image push", "web:1", "ok") in found


async def test_what_the_caller_may_not_push_is_refused_with_the_reason(rig: Rig) -> None:
    await rig.fleet.put(service(rig, "shop", "shop:1", "shop"))
    ended, _ = await pushed(rig, "docker.io/library/shop:2")
    assert ended is not None
    assert ended.code
    assert "services of other stacks use that repository" in ended.message


async def test_others_on_the_host_of_the_node_cannot_use_the_port(rig: Rig) -> None:
    ended, _ = await pushed(rig, "docker.io/library/web:1", password="another password")
    assert ended is not None
    assert ended.code
    assert "unauthorized" in ended.message
    assert rig.registry.upkeep.storage.config_of("docker.io/library/web", "1") == ""


async def test_an_image_that_is_gone_is_named(rig: Rig) -> None:
    tunnel = Tunnel()
    agent = PushingAgent(tunnel)  # type: ignore[arg-type]
    async with node(rig) as images, asyncio.TaskGroup() as group:
        request = PushImageRequest(ref="0" * 64, name="docker.io/library/web:2", password=PASSWORD)
        serving = group.create_task(serve_push(images, request, tunnel.agent))
        link = CallersLink(agent.send, agent.receive)
        await serve_registry(rig.fleet, rig.registry, Access(CI, PASSWORD, writes=True), link)
        serving.cancel()
    assert agent.exit is not None
    assert agent.exit.message == "no such image here: 000000000000"
