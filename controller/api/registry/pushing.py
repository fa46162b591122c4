"""Pushes of a node's images to the fleet's registry. SHELL.

A node's own credentials only read. So its agent opens connections over the stream of the push,
which are served as those of the caller: by the caller's rights, and with the caller in the audit
log.
"""

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from typing import Any

from controller.api.images.details import holders
from controller.api.registry.serving import Access, Link, serve_registry
from controller.identity.caller import Caller
from controller.leader.exchanges import PUSH_IMAGE
from controller.leader.leadership import Leadership
from controller.leader.tunnels import Answers
from controller.registry.registry import FleetRegistry, NoRegistry
from pyswarm_core.docker.reference import Reference, parse_reference
from pyswarm_core.errors import Unavailable, invalid
from pyswarm_core.registry.names import repository_of
from pyswarm_core.streams.frames import Exit, Frame, decode
from pyswarm_core.streams.requests import PushImageRequest
from pyswarm_core.streams.wire import packed, unpacked

PASSWORD_BYTES = 24


async def push_from_node(
    leadership: Leadership,
    registry: FleetRegistry | NoRegistry,
    caller: Caller,
    request: PushImageRequest,
    begun: Callable[[], Awaitable[None]],
) -> Exit:
    """Have a node push an image; returns how that ended. `begun` is called before it does; not if
    the registry has that image under that name already.

    Raises InvalidArgument, NotFound if no node has it, Unavailable.
    """
    name = parse_reference(request.name)
    if name.digest:
        raise invalid("name", request.name, "expected a name without a digest")
    leader = leadership.current()
    image, same = await holders(leader, request.ref, request.node)
    if await _has(registry, name, image.id):
        return Exit()
    await begun()
    password = secrets.token_urlsafe(PASSWORD_BYTES)
    asked = PushImageRequest(ref=image.id, name=str(name), password=password)
    async with leader.tunnels.open(same[0][0].id, PUSH_IMAGE, asked) as tunnel:
        agent = PushingAgent(tunnel)
        link = Link(agent.send, agent.receive)
        await serve_registry(leadership, registry, Access(caller, password, writes=True), link)
    if agent.exit is None:
        raise Unavailable("the agent ended the push without a result")
    return agent.exit


async def _has(registry: FleetRegistry | NoRegistry, name: Reference, image_id: str) -> bool:
    if isinstance(registry, NoRegistry):
        return False
    storage = registry.upkeep.storage
    found = await asyncio.to_thread(storage.config_of, repository_of(name), name.tag)
    return found.removeprefix("sha256:") == image_id.removeprefix("sha256:")


class PushingAgent:
    """The agent as who opens connections to the registry."""

    def __init__(self, tunnel: Answers[Any]) -> None:
        self._tunnel = tunnel
        self._turn = asyncio.Lock()
        self.exit: Exit | None = None

    async def send(self, frame: Frame) -> None:
        """Send a frame; several callers may do so at once. One after its exit is dropped."""
        async with self._turn:
            if self.exit is None:
                await self._tunnel.write(packed(frame))

    async def receive(self) -> Frame | None:
        """The next frame of a known kind; None once it has ended."""
        while True:
            message = await self._tunnel.read()
            if message is None:
                return None
            frame = unpacked(message) if isinstance(message, bytes) else decode(message)
            if isinstance(frame, Exit):
                self.exit = frame
                return None
            if frame is not None:
                return frame
