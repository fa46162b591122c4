"""How `compose run` runs a container of a service's spec. SHELL."""

from secrets import token_hex
from typing import TYPE_CHECKING

from msgspec.structs import replace

from cli.compose import notices
from cli.compose.deploying import applying, oneoff
from cli.compose.mapping import Files
from pyswarm_core.errors import AlreadyExists
from pyswarm_core.kinds import CONFIG, NETWORK, SECRET
from pyswarm_core.specs import PREDEFINED_NETWORKS, RegistryLogin, ServiceSpec
from pyswarm_core.validation import require, service_problems

if TYPE_CHECKING:
    from cli.client import Client
    from cli.compose.project import Project
    from cli.container.creating import Created


def started_dependencies(opened: "Project", files: Files, name: str, asked: applying.Asked) -> None:
    """Start what the service depends on, and wait for it."""
    needed = tuple(one for one in files.with_needed((name,)) if one != name)
    if needed:
        applied = applying.apply(opened.client, files, replace(asked, services=needed))
        applying.wait(opened.client, applied)


def made(
    opened: "Project", files: Files, name: str, asked: oneoff.Asked, images: applying.Asked
) -> "Created":
    """Create the container, with the networks, volumes, secrets and configs that it uses.

    Raises InvalidArgument, AlreadyExists.
    """
    from cli.container.creating import Created

    client = opened.client
    stack = applying.prepared(opened, files, replace(images, services=(name,)), (name,))
    if name not in [member.name for member in opened.members]:
        notices.tell_of(stack.mapped, f"services.{name}")
    full = files.mapped.services[name]
    (spec,) = (one for one in stack.spec.services if one.name == full)
    wanted = oneoff.container(spec, asked)
    require(service_problems(wanted))
    _objects(client, files, wanted)
    has_digest = "@" in wanted.task_template.container_spec.image
    service, _ = client.create_service(wanted, _login(wanted), query_registry=not has_digest)
    return Created(client, service)


def name_of(project: str, service: str) -> str:
    """A name of its own, as Compose makes it."""
    return f"{project}-{service}-run-{token_hex(6)}"


def _objects(client: "Client", files: Files, spec: ServiceSpec) -> None:
    """What the container uses of the project and is not there yet; `up` finds it by its name."""
    from cli.payload import calls

    stack, template = files.mapped.spec, spec.task_template
    joined = {one.target for one in template.networks} - {*PREDEFINED_NETWORKS}
    known = {one.spec.name for one in client.objects(NETWORK)} if joined else set()
    for network in stack.networks:
        if network.name in joined and network.name not in known:
            client.create_network(network)
    for volume in stack.volumes:
        if volume.name in template.volumes:
            client.create_volume(volume)
    container = template.container_spec
    for kind, payloads, used in (
        (SECRET, stack.secrets, container.secrets),
        (CONFIG, stack.configs, container.configs),
    ):
        names = {one.source for one in used}
        for payload in payloads:
            if payload.spec.name in names:
                try:
                    calls.create(client, kind, payload.spec, payload.data)
                except AlreadyExists:
                    continue


def _login(spec: ServiceSpec) -> RegistryLogin | None:
    import os

    from cli.service.spec.logins import login_for
    from pyswarm_core.docker.reference import parse_reference

    return login_for(parse_reference(spec.task_template.container_spec.image), os.environ)
