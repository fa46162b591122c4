"""Builds on a node: the context as an archive to its agent, what buildah prints back. SHELL."""

import asyncio
import os
import re
from collections.abc import AsyncIterator, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING

import click

from cli.errors import Broken
from cli.image.building import bases
from cli.image.building.context import Sources, excluded
from cli.image.building.display import Display
from cli.image.building.progress import Place, Progress
from cli.image.building.running import images, secret_data
from cli.streams.call import Call, conversing
from pyswarm_core.aio.archives.packing import pack_root
from pyswarm_core.aio.archives.pulling import Chunks, pulled
from pyswarm_core.aio.streams.duplex import Duplex
from pyswarm_core.docker.building.recipe import Recipe
from pyswarm_core.docker.reference import Reference, parse_reference
from pyswarm_core.errors import InvalidArgument, PyswarmError, reason_of
from pyswarm_core.specs import RegistryLogin
from pyswarm_core.streams.failures import error_in
from pyswarm_core.streams.frames import STDIN, STDOUT, Exit, HalfClose, Started
from pyswarm_core.streams.limits import STREAM_WINDOW
from pyswarm_core.streams.requests import (
    BUILD_FAILED,
    BUILD_IMAGE,
    PUSH_IMAGE,
    BuildImageRequest,
    PushImageRequest,
)

if TYPE_CHECKING:
    from cli.calls.connection import Connection

_LINE_BYTES = 64 * 1024
_PLACE = Place(
    re.compile(r"^.*?/build-[a-z0-9_]+/context/"),
    "`pyswarm system prune --all` removes what is unused on nodes",
)


def build(
    connection: "Connection",
    node: str,
    recipe: Recipe,
    found: Sources,
    shown: Display,
    *,
    quiet: bool,
) -> str:
    """Build on the node, show the progress, and have the node push the image under its tags;
    returns the image's id.

    Raises BuildFailed with the step, and PyswarmError.
    """
    progress = Progress(recipe.target, found, shown)
    request = request_of(node, recipe, found)

    async def built() -> str:
        ended = await _conversed(connection, request, found, progress)
        progress.end(failed=ended.code == BUILD_FAILED, place=_PLACE)
        for tag in recipe.tags:
            await _pushed(connection, node, ended.message, tag, quiet=quiet)
        return ended.message

    # One event loop: that of another thread would take what gRPC sends to this one.
    return asyncio.run(built())


def request_of(node: str, recipe: Recipe, found: Sources) -> BuildImageRequest:
    """What the node is asked for: values of this environment, secrets and logins included."""
    given = recipe.given_args(os.environ)
    return BuildImageRequest(
        ref=node,
        dockerfile=found.dockerfile.read_bytes(),
        name=found.content.name,
        tags=tuple(str(tag) for tag in recipe.tags),
        build_args=tuple(f"{name}={value}" for name, value in given.items()),
        labels=recipe.labels,
        target=recipe.target,
        no_cache=recipe.no_cache,
        pull=recipe.pull,
        secrets=tuple(secret_data(text) for text in recipe.secrets),
        platform=recipe.platform,
        network=recipe.network,
        add_hosts=recipe.add_hosts,
        cache_from=recipe.cache_from,
        cache_to=recipe.cache_to,
        logins=_logins(recipe, found),
    )


def _logins(recipe: Recipe, found: Sources) -> tuple[RegistryLogin, ...]:
    """This user's logins for the registries of base images and of the cache. One that cannot be
    read is a warning: the image may be public.
    """
    from cli.service.spec.logins import login_for

    named = list(bases.references(images(recipe, found)))
    named += [parse_reference(text) for text in (recipe.cache_from, recipe.cache_to) if text]
    logins: dict[str, RegistryLogin | None] = {}
    for one in named:
        if one.registry in logins:
            continue
        try:
            logins[one.registry] = login_for(one, os.environ)
        except InvalidArgument as error:
            logins[one.registry] = None
            click.echo(f"warning: {error}", err=True)
    return tuple(login for login in logins.values() if login is not None)


async def _conversed(
    connection: "Connection", request: BuildImageRequest, found: Sources, progress: Progress
) -> Exit:
    lines = Lines(progress)

    async def converse(call: Call) -> Exit:
        # Nothing is sent to a call that may be refused: the refusal would be lost.
        if isinstance(frame := await call.receive(), Exit):
            raise error_in(frame) or Broken("the build ended before it began")
        duplex = Duplex(call.send, STREAM_WINDOW, (STDIN, STDOUT))
        async with (
            _in_thread(packed(found)) as archive,
            asyncio.TaskGroup() as group,
        ):
            group.create_task(_send(duplex, archive))
            showing = group.create_task(duplex.drain(STDOUT, lines.write))
            ended = await _until_exit(call, duplex)
            duplex.take(HalfClose(STDOUT))
            await showing
        lines.end()
        return ended

    return await conversing(connection, BUILD_IMAGE, request, converse)


@asynccontextmanager
async def _in_thread(archive: Generator[bytes]) -> AsyncIterator[Chunks]:
    with ThreadPoolExecutor(1) as threads:
        async with aclosing(pulled(threads, archive)) as chunks:
            yield Chunks(chunks)


async def _send(duplex: Duplex, archive: Chunks) -> None:
    try:
        await duplex.pump(STDIN, archive)
    except OSError as error:
        name = f" {error.filename}" if error.filename else ""
        raise PyswarmError(f"the context cannot be read:{name} {reason_of(error)}") from None


async def _until_exit(call: Call, duplex: Duplex) -> Exit:
    while True:
        frame = await call.receive()
        if not duplex.take(frame) and isinstance(frame, Exit):
            if frame.code != BUILD_FAILED and (error := error_in(frame)):
                raise error
            return frame


class Lines:
    """Bytes of output as lines."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._rest = b""

    async def write(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._line(line)
        while len(self._rest) > _LINE_BYTES:
            line, self._rest = self._rest[:_LINE_BYTES], self._rest[_LINE_BYTES:]
            self._line(line)

    def end(self) -> None:
        """The last line may have no end."""
        if self._rest:
            self._line(self._rest)

    def _line(self, line: bytes) -> None:
        self._progress.line(line.decode(errors="replace").removesuffix("\r"))


def packed(found: Sources) -> Generator[bytes]:
    """The archive of the context without what .dockerignore excludes. Files have no owner, as
    COPY gives them one.
    """
    left_out = frozenset(excluded(found.directory, found.ignored) if found.ignored.patterns else ())
    descriptor = os.open(found.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield from pack_root(descriptor, lambda _: (0, 0), left_out)
    finally:
        os.close(descriptor)


async def _pushed(
    connection: "Connection", node: str, image: str, tag: Reference, *, quiet: bool
) -> None:
    """Have the node push the image to the fleet's registry, unless that has it by this tag."""

    async def converse(call: Call) -> None:
        while not isinstance(frame := await call.receive(), Exit):
            if isinstance(frame, Started) and not quiet:
                click.echo(f"pushing {tag.familiar}", err=True)
        if error := error_in(frame):
            raise type(error)(f"{tag.familiar} could not be pushed: {error}")

    request = PushImageRequest(ref=image, node=node, name=str(tag))
    await conversing(connection, PUSH_IMAGE, request, converse)
