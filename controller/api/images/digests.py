"""Looks up, through agents, the digest of a service's image and the ports that it exposes. SHELL.

A tag may move, and each host that pulls it later would get another image: so the digest goes into
the spec. One agent is asked, the next one when it fails or is slow, because not every host reaches
every registry. If none finds the digest, the service is created with the tag and a warning; if none
finds the ports that are to be published, it is refused.
"""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import islice
from typing import TypeVar
from zlib import crc32

from msgspec.structs import replace

from controller.api.images.targets import eligible_nodes
from controller.leader.exchanges import IMAGE_PORTS, IMAGE_RESOLVE, Exchange, ImageResolve
from controller.leader.leadership import Leader
from pyswarm_core.docker import publishing
from pyswarm_core.docker.reference import Reference, parse_reference
from pyswarm_core.errors import InvalidArgument, PyswarmError, Unavailable
from pyswarm_core.ids import NodeId
from pyswarm_core.limits import RESOLVERS_ASKED, RESOLVES_AT_ONCE
from pyswarm_core.specs import RegistryLogin, ServiceSpec
from pyswarm_core.stacks.limits import STACK_SLICE
from pyswarm_core.templates.context import is_template
from pyswarm_core.validation import require, service_problems
from pyswarm_core.validation.endpoint import PORTS_MAX

A = TypeVar("A")
TIMEOUT_S = 5.0
"""The longest wait of a user for a registry."""
PATIENCE_S = 1.5
"""The wait after which the next agent is asked as well."""

_slots = asyncio.Semaphore(RESOLVES_AT_ONCE)


async def pinned(
    leader: Leader, spec: ServiceSpec, login: RegistryLogin | None
) -> tuple[ServiceSpec, tuple[str, ...]]:
    """The spec with the digests of its image and of the images that it mounts; with a warning for
    each that was not found.

    Raises InvalidArgument for a spec that is not valid.
    """
    _image(spec)
    container = spec.task_template.container_spec
    named = dict.fromkeys((container.image, *(one.image for one in container.mounts if one.image)))
    found = {one: await _pinned(leader, spec, login, one) for one in named if not is_template(one)}
    mounts = tuple(
        replace(one, source=found.get(one.image) or one.source) if one.image else one
        for one in container.mounts
    )
    container = replace(container, image=found[container.image] or container.image, mounts=mounts)
    missing = (parse_reference(one).familiar for one, pinned in found.items() if not pinned)
    template = replace(spec.task_template, container_spec=container)
    return replace(spec, task_template=template), tuple(map(_warning, missing))


async def pinned_all(
    leader: Leader, specs: Sequence[ServiceSpec], logins: Sequence[RegistryLogin]
) -> tuple[tuple[ServiceSpec, ...], tuple[str, ...]]:
    """The specs with the digests of their images, each looked up once, side by side; with a warning
    for each that was not found.

    Raises InvalidArgument for a spec that is not valid.
    """
    first: dict[str, ServiceSpec] = {}
    for count, spec in enumerate(specs):
        if count % STACK_SLICE == 0:
            await asyncio.sleep(0)  # each may be as large as the limits of specs
        _image(spec)
        container = spec.task_template.container_spec
        for one in (container.image, *(mount.image for mount in container.mounts if mount.image)):
            if not is_template(one):
                first.setdefault(one, spec)

    async def found(name: str) -> str:
        registry = parse_reference(name).registry
        login = next((one for one in logins if one.registry == registry), None)
        return await _pinned(leader, first[name], login, name)

    pairs = zip(first, await asyncio.gather(*map(found, first)), strict=True)
    digests = {name: digest for name, digest in pairs if digest}
    missing = (parse_reference(one).familiar for one in first if one not in digests)
    return tuple(_with_digests(one, digests) for one in specs), tuple(map(_warning, missing))


def _with_digests(spec: ServiceSpec, digests: Mapping[str, str]) -> ServiceSpec:
    container = spec.task_template.container_spec
    mounts = tuple(
        replace(one, source=digests.get(one.image, one.source)) if one.image else one
        for one in container.mounts
    )
    image = digests.get(container.image, container.image)
    container = replace(container, image=image, mounts=mounts)
    return replace(spec, task_template=replace(spec.task_template, container_spec=container))


async def _pinned(leader: Leader, spec: ServiceSpec, login: RegistryLogin | None, name: str) -> str:
    """The image with its digest; empty if no agent finds it."""
    image = parse_reference(name)
    if image.digest:
        return name
    with suppress(PyswarmError):
        images = await _asked(leader, spec, login, IMAGE_RESOLVE, image)
        if digest := next((one.digest for one in images), ""):
            return image.pinned(digest).familiar
    return ""


async def published(leader: Leader, spec: ServiceSpec, login: RegistryLogin | None) -> ServiceSpec:
    """The spec with the ports that its image exposes published as well, as ports that are free.
    None if the image exposes none.

    Raises InvalidArgument for a spec that is not valid, and Unavailable if no agent finds them.
    """
    reference = _image(spec)
    image = reference.familiar
    try:
        exposed = await _asked(leader, spec, login, IMAGE_PORTS, reference)
    except PyswarmError as error:
        text = f"--publish-all: the ports that image {image} exposes are not known: {error}"
        raise Unavailable(f"{text}; use --publish PORT") from None
    try:
        each = (port for text in exposed for port in publishing.ports((text,), "EXPOSE"))
        ports = tuple(islice(each, PORTS_MAX + 1))  # an agent is not trusted with their number
    except InvalidArgument as error:
        raise InvalidArgument(f"--publish-all: image {image}: {error}") from None
    given = spec.endpoint_spec.ports
    known = {(port.target_port, port.protocol) for port in given}
    added = (port for port in ports if (port.target_port, port.protocol) not in known)
    return replace(spec, endpoint_spec=replace(spec.endpoint_spec, ports=(*given, *added)))


def _image(spec: ServiceSpec) -> Reference:
    require(service_problems(spec if spec.name else replace(spec, name="unnamed")))
    return parse_reference(spec.task_template.container_spec.image)


def _warning(image: str) -> str:
    return (
        f"image {image} could not be accessed on a registry to record its digest. Each node will"
        f" access {image} independently, possibly leading to different nodes running different"
        " versions of the image."
    )


async def _asked(
    leader: Leader,
    spec: ServiceSpec,
    login: RegistryLogin | None,
    exchange: Exchange[ImageResolve, A],
    image: Reference,
) -> A:
    """The first answer of an agent about an image. Raises the error of the last one."""
    nodes = _in_turn(eligible_nodes(leader.state, spec), image)
    request = _request(image, login)
    try:
        async with asyncio.timeout(TIMEOUT_S), _slots:
            found = await _first_answer(leader, nodes, exchange, request)
    except TimeoutError:
        raise Unavailable(f"no agent answered within {TIMEOUT_S:g} s") from None
    if isinstance(found, PyswarmError):
        raise found
    return found


def _in_turn(nodes: Sequence[NodeId], image: Reference) -> list[NodeId]:
    """The nodes to ask, starting at a node that depends on the image."""
    start = crc32(str(image).encode()) % max(1, len(nodes))
    return [*nodes[start:], *nodes[:start]][:RESOLVERS_ASKED]


def _request(image: Reference, login: RegistryLogin | None) -> ImageResolve:
    if login is None or login.registry != image.registry:
        return ImageResolve(str(image))
    return ImageResolve(str(image), login.username, login.password)


async def _first_answer(
    leader: Leader,
    nodes: Sequence[NodeId],
    exchange: Exchange[ImageResolve, A],
    request: ImageResolve,
) -> A | PyswarmError:
    """The first answer of an agent that is no error; the last error if all fail."""
    answers: asyncio.Queue[A | PyswarmError] = asyncio.Queue(RESOLVERS_ASKED)
    found: A | PyswarmError = Unavailable("no node is ready")
    answered = 0

    async def ask(node_id: NodeId) -> None:
        try:
            answer = await _ask(leader, node_id, exchange, request)
            await answers.put(answer)
        except PyswarmError as error:
            await answers.put(error)

    async with asyncio.TaskGroup() as group:
        asked = []
        for node_id in nodes:
            asked.append(group.create_task(ask(node_id)))
            with suppress(TimeoutError):
                async with asyncio.timeout(PATIENCE_S):
                    found = await answers.get()
                answered += 1
            if not isinstance(found, PyswarmError):
                break
        while isinstance(found, PyswarmError) and answered < len(asked):
            found = await answers.get()
            answered += 1
        for task in asked:
            task.cancel()
    return found


async def _ask(
    leader: Leader, node_id: NodeId, exchange: Exchange[ImageResolve, A], request: ImageResolve
) -> A:
    async with leader.tunnels.open(node_id, exchange, request) as tunnel:
        answer = await tunnel.read(TIMEOUT_S)
    if answer is None:
        raise Unavailable("an agent sent no answer")
    return answer
