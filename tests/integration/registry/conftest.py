"""A controller with the fleet's registry, real processes and callers over TLS."""

import asyncio
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TypeVar

import pytest
from msgspec.structs import replace

from agent.images.base import ImageConfig
from cli.client import Client
from cli.context.model import Context, Material
from cli.registry.opening import Endpoint, opened
from controller.registry.registry import FleetRegistry
from controller.registry.settings import RegistrySettings
from pyswarm_core.clock import Instant
from pyswarm_core.docker.reference import parse_reference
from pyswarm_core.identity.users import Role
from tests.fixtures.ports import free_port
from tests.integration.controller.identified import Identified, identified
from tests.integration.images.registry import write_layout

T = TypeVar("T")


def needing(*digests: str) -> Callable[[], Awaitable[frozenset[str]]]:
    """What a collection asks for what services need."""

    async def needed() -> frozenset[str]:
        return frozenset(digests)

    return needed


class Later:
    """A clock that a test puts forward."""

    def __init__(self) -> None:
        self.by = 0

    def now(self) -> Instant:
        return Instant(time.time_ns() + self.by)


class Rig:
    """A controller that leads, its registry, and what its callers do with it."""

    def __init__(self, folder: Path, settings: RegistrySettings) -> None:
        self.folder = folder
        self.settings = settings
        self.clock = Later()
        self.fleet: Identified
        self.registry: FleetRegistry

    def made(self, fleet: Identified) -> FleetRegistry:
        self.fleet = fleet
        self.registry = self.another()
        return self.registry

    def another(self, **changes: object) -> FleetRegistry:
        """Another one on the same directories, as of a restarted controller."""
        settings = replace(self.settings, **changes) if changes else self.settings
        return FleetRegistry(settings, self.clock, lambda: self.fleet.cluster)

    async def serving(self) -> None:
        """Return when it serves nodes."""
        async with asyncio.timeout(60):
            while self.registry.state.problem:  # noqa: ASYNC110
                await asyncio.sleep(0.02)

    async def client(self, name: str, role: Role, *stacks: str) -> Client:
        """The client of a new user."""
        user = await self.fleet.user(name, role, *stacks)
        shown = self.fleet.ca.user(user.id)
        material = Material(
            ca=self.fleet.cluster.ca.certificate,
            cert=shown.cert_pem.decode(),
            key=shown.key_pem.decode(),
        )
        return Client(Context(host=f"127.0.0.1:{self.fleet.port}", material=material))

    async def with_registry(
        self, client: Client, work: Callable[[Endpoint], T], *, write: bool = True
    ) -> T:
        """What a command does with the registry, in a thread as in a process of its own."""

        def command() -> T:
            with opened(client, write=write) as endpoint:
                return work(endpoint)

        return await asyncio.to_thread(command)

    async def push(self, client: Client, name: str, content: bytes = b"x") -> str:
        """Push an image with skopeo; returns its digest. Raises AssertionError with its error."""
        layout = self.folder / f"layout-{len(list(self.folder.iterdir()))}"
        digest = write_layout(layout, [{"data": content}], ImageConfig(cmd=("/x",)))

        def work(endpoint: Endpoint) -> None:
            where = endpoint.reference(parse_reference(name))
            command = ["skopeo", "--insecure-policy", "copy", "--preserve-digests"]
            command += ["--dest-tls-verify=false", "--dest-authfile", str(endpoint.authfile)]
            done = subprocess.run(
                [*command, f"oci:{layout}", f"docker://{where}"],
                capture_output=True,
                text=True,
                check=False,
                timeout=60,
            )
            assert not done.returncode, done.stderr

        await self.with_registry(client, work)
        return digest


@asynccontextmanager
async def running(folder: Path, settings: RegistrySettings) -> AsyncIterator[Rig]:
    """A rig whose processes end with the block."""
    rig = Rig(folder, settings)
    async with identified(folder, rig.made):
        keeping = asyncio.create_task(rig.registry.run())
        try:
            yield rig
        finally:
            keeping.cancel()
            with suppress(asyncio.CancelledError):
                await keeping
            await rig.registry.stop()


@pytest.fixture
def settings(tmp_path: Path) -> RegistrySettings:
    address = f"127.0.0.1:{free_port()}"
    folder = tmp_path / "registry"
    return RegistrySettings(
        folder=folder, storage=folder / "images", listen=address, advertised=address
    )


@pytest.fixture
async def rig(tmp_path: Path, settings: RegistrySettings) -> AsyncIterator[Rig]:
    """With a registry that serves."""
    async with running(tmp_path, settings) as found:
        await found.serving()
        yield found
