"""A way to a registry that lets one blob through only so far, so that a pull stands still there."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

_CHUNK = 64 * 1024


class Dam:
    """`reached` is set once the blob came as far as it may."""

    def __init__(self, port: int, digest: str, after: int) -> None:
        self.address = ""
        self.reached = asyncio.Event()
        self._port = port
        self._digest = digest.encode("ascii")
        self._left = after

    async def join(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        """Serve one connection until either side ends it or the dam is taken down."""
        registry, to_registry = await asyncio.open_connection("127.0.0.1", self._port)
        held = asyncio.Event()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._up(client, to_registry, held))
                group.create_task(self._down(registry, to_client, held))
        except* OSError:
            pass
        finally:
            to_registry.close()
            to_client.close()

    async def _up(
        self, client: asyncio.StreamReader, registry: asyncio.StreamWriter, held: asyncio.Event
    ) -> None:
        while chunk := await client.read(_CHUNK):
            if self._digest in chunk:
                held.set()
            registry.write(chunk)
        registry.close()

    async def _down(
        self, registry: asyncio.StreamReader, client: asyncio.StreamWriter, held: asyncio.Event
    ) -> None:
        while chunk := await registry.read(_CHUNK):
            if held.is_set():
                passed = chunk[: self._left]
                self._left -= len(passed)
                client.write(passed)
                if not self._left:
                    self.reached.set()
                    await asyncio.Event().wait()
            else:
                client.write(chunk)
            await client.drain()
        client.close()


@asynccontextmanager
async def held_back(port: int, digest: str, after: int) -> AsyncIterator[Dam]:
    """The registry at `port`, but of the answer with blob `digest` only `after` bytes arrive."""
    dam = Dam(port, digest, after)
    connections: set[asyncio.Task[None]] = set()
    async with asyncio.TaskGroup() as group:

        def connected(client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
            connections.add(group.create_task(dam.join(client, to_client)))

        async with await asyncio.start_server(connected, "127.0.0.1", 0) as server:
            host, bound = server.sockets[0].getsockname()
            dam.address = f"{host}:{bound}"
            yield dam
        for connection in connections:
            connection.cancel()
