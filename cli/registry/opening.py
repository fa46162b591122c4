"""Connections to the fleet's registry for the time of one command: a port of this host whose
connections the controller forwards. SHELL.

skopeo and buildah use it as any registry without TLS. The port is on 127.0.0.1 and requires a
password of this command, which is in a file that only this user may read: other users of this host
cannot use the rights of this one.
"""

import asyncio
import base64
import http.client
import json
import secrets
import socket
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from cli.errors import Broken
from cli.registry import loop
from pyswarm_core.docker.reference import Reference
from pyswarm_core.errors import PyswarmError, Unavailable, causes
from pyswarm_core.registry.names import repository_of
from pyswarm_core.streams.requests import (
    READ_REGISTRY,
    WRITE_REGISTRY,
    ReadRegistryRequest,
    WriteRegistryRequest,
)

if TYPE_CHECKING:
    from cli.calls.connection import Connection
    from cli.streams.call import Call

START_TIMEOUT_S = 150.0
"""Who pushes waits for a collection of garbage."""
ANSWER_TIMEOUT_S = 60.0
_USER = "pyswarm"


class Answer(NamedTuple):
    """A response of the registry."""

    status: int
    headers: Mapping[str, str]
    """By names in lower case."""
    content: bytes


class Endpoint(msgspec.Struct, frozen=True):
    """The registry as this command reaches it."""

    address: str
    """127.0.0.1:PORT, without TLS."""
    authfile: Path
    """For `--authfile` of skopeo and buildah; removed at the end."""
    password: str

    def __repr__(self) -> str:
        return f"Endpoint(address={self.address!r})"

    def reference(self, image: Reference) -> str:
        """The image in the registry, for `docker://` of skopeo and buildah. Raises
        InvalidArgument.
        """
        mark, which = ("@", image.digest) if image.digest else (":", image.tag)
        return f"{self.address}/{repository_of(image)}{mark}{which}"

    def ask(
        self, method: str, path: str, headers: Mapping[str, str] | None = None, body: bytes = b""
    ) -> Answer:
        """A request to the registry's HTTP API, such as `GET /v2/_catalog`. Raises Unavailable."""
        connection = http.client.HTTPConnection(self.address, timeout=ANSWER_TIMEOUT_S)
        pair = base64.b64encode(f"{_USER}:{self.password}".encode()).decode("ascii")
        try:
            given = {**(headers or {}), "Authorization": f"Basic {pair}"}
            connection.request(method, path, body or None, given)
            response = connection.getresponse()
            found = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, found, response.read())
        except (OSError, http.client.HTTPException) as error:
            raise Unavailable(f"the fleet's registry does not answer: {error}") from None
        finally:
            connection.close()


@contextmanager
def opened(connection: "Connection", *, write: bool = False) -> Iterator[Endpoint]:
    """The registry while the block runs; with `write` for pushes too, which need the role operator.

    Raises PermissionDenied, Unavailable if there is none, and Broken if the connection to the
    controller is lost within the block.
    """
    password = secrets.token_urlsafe(24)
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        tempfile.TemporaryDirectory(prefix="pyswarm-") as folder,
    ):
        listener.setblocking(False)
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        authfile = Path(folder) / "auth.json"
        _write_login(authfile, address, password)
        tunnel = _Tunnel(connection, listener, password, write=write)
        with loop.started(tunnel.run(), START_TIMEOUT_S) as work:
            tunnel.await_ready()
            try:
                yield Endpoint(address, authfile, password)
            except PyswarmError:
                work.cancel(START_TIMEOUT_S)
                if tunnel.error is not None:
                    raise tunnel.error from None
                raise


def _write_login(file: Path, address: str, password: str) -> None:
    pair = base64.b64encode(f"{_USER}:{password}".encode()).decode("ascii")
    file.touch(mode=0o600)
    file.write_text(json.dumps({"auths": {address: {"auth": pair}}}))


class _Tunnel:
    """Forwards the connections of a socket, in the loop of `cli/registry/loop.py`."""

    def __init__(
        self, connection: "Connection", listener: socket.socket, password: str, *, write: bool
    ) -> None:
        self._connection = connection
        self._listener = listener
        self._password = password
        self._writes = write
        self._ready = threading.Event()
        self.error: PyswarmError | None = None
        """Why it ended before it was stopped."""

    def await_ready(self) -> None:
        """Return when connections are forwarded. Raises PyswarmError."""
        if not self._ready.wait(START_TIMEOUT_S):
            raise Unavailable("the fleet's registry: the controller did not answer in time")
        if self.error is not None:
            raise self.error

    async def run(self) -> None:
        """Forward until it is cancelled or the connection is lost."""
        try:
            await self._forward()
        except Exception as raised:
            error = next(causes(raised))
            if not isinstance(error, asyncio.CancelledError):
                self.error = error if isinstance(error, PyswarmError) else Broken(str(error))
        finally:
            self._ready.set()

    async def _forward(self) -> None:
        from cli.streams.call import conversing

        if self._writes:
            asked: ReadRegistryRequest = WriteRegistryRequest(password=self._password)
            await conversing(self._connection, WRITE_REGISTRY, asked, self._serve)
        else:
            asked = ReadRegistryRequest(password=self._password)
            await conversing(self._connection, READ_REGISTRY, asked, self._serve)

    async def _serve(self, call: "Call") -> None:
        from pyswarm_core.aio.streams.accepting import accepting
        from pyswarm_core.aio.streams.carrying import Carrier
        from pyswarm_core.registry.limits import CARRIED_FRAME_BYTES, CARRIED_WINDOW
        from pyswarm_core.streams.frames import Exit, Started

        carrier = Carrier(call.send, CARRIED_WINDOW, CARRIED_FRAME_BYTES)
        async with asyncio.TaskGroup() as group:
            with ExitStack() as stack:
                while True:
                    frame = await call.receive()
                    if isinstance(frame, Started):
                        opening = accepting(self._listener, call.send, carrier, group)
                        stack.enter_context(opening)
                        self._ready.set()
                    elif isinstance(frame, Exit):
                        raise Broken("the controller ended the connection to the registry")
                    else:
                        carrier.take(frame)
