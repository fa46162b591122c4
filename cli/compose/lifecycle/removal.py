"""How `down` removes a project. SHELL."""

from contextlib import suppress
from typing import TYPE_CHECKING

import click
import msgspec

from cli.compose import flags, project
from cli.compose.lifecycle import ending
from cli.compose.members import Member
from cli.compose.names import IMAGE_LABEL, of_project
from cli.converge import Watched, until_gone
from cli.failures import Failures
from cli.render.plans import done
from pyswarm_core.errors import Conflict, NotFound, quoted
from pyswarm_core.kinds import CONFIG, NETWORK, SECRET, SERVICE, STACK, VOLUME, Kind

if TYPE_CHECKING:
    from typing import Any

    from cli.compose.project import Project

LOCAL, ALL = "local", "all"


class Down(msgspec.Struct, frozen=True):
    """What `down` removes, beside services and networks."""

    services: tuple[str, ...] = ()
    """Only these services, with nothing else; empty: all."""
    volumes: bool = False
    orphans: bool = False
    images: str = ""
    """`local`: those without a name in the file; `all`; empty: none."""
    timeout: str | None = None


def down(opened: "Project", asked: Down) -> None:
    """Remove the services, dependents first, and what only they used; wait until all is gone."""
    chosen = opened.chosen(asked.services)
    left = () if asked.services else opened.orphans
    if asked.orphans:
        chosen, left = (*chosen, *left), ()
    with Failures() as failures:
        if not asked.services:
            ending.oneoffs_removed(opened, failures)
            tell_orphans(left)
        found = bool(opened.members)
        if not (asked.services or left):
            found |= _stack_removed(opened, asked, failures)
        ending.removed(opened, _present(opened, chosen), failures, asked.timeout)
        if not asked.services:
            found |= _objects_removed(opened, asked, failures)
        if not found:
            click.echo(
                f"Warning: No resource found to remove for project {quoted(opened.name)}", err=True
            )
        if asked.images:
            _images_removed(opened, chosen, asked.images, failures)


def _present(opened: "Project", chosen: tuple[Member, ...]) -> tuple[Member, ...]:
    """Those that are still there."""
    fresh = project.of(opened.client, opened.name, opened.loaded)
    there = {member.service.id for member in fresh.members}
    return tuple(member for member in chosen if member.service.id in there)


def _stack_removed(opened: "Project", asked: Down, failures: Failures) -> bool:
    """Remove the project as a stack, and wait until it is gone; returns whether it was one."""
    from cli.stack import calls
    from cli.stack.applying import until_removed

    client = opened.client
    try:
        stack = client.object(STACK, opened.name)
    except NotFound:
        return False
    with failures.collected():
        if asked.timeout is not None:
            ending.stopped(opened, opened.members, asked.timeout)
        reply = calls.remove(client, stack.id, volumes=asked.volumes)
        if not flags.is_quiet():
            for line in done(reply.changes):
                click.echo(line, err=True)
        gone = [Watched(one.id, one.name) for one in reply.changes if one.kind == SERVICE.name]
        if gone:
            until_gone(client, gone, quiet=flags.is_quiet())
        until_removed(client, stack.id)
    return True


def tell_orphans(left: tuple[Member, ...]) -> None:
    """Name the services that the files do not define."""
    if left:
        names = " ".join(member.name for member in left)
        click.echo(
            f"Notice: services that the files do not define stay: {names};"
            " --remove-orphans removes them",
            err=True,
        )


def _objects_removed(opened: "Project", asked: Down, failures: Failures) -> bool:
    """Remove networks, secrets and configs of the project, and its volumes if they are asked for.
    What a service still uses stays, with a notice. External objects have no label of the project.
    Returns whether there were any.
    """
    kinds: list[Kind[Any, Any]] = [NETWORK, SECRET, CONFIG]
    if asked.volumes:
        kinds.append(VOLUME)
    client, found = opened.client, False
    for kind in kinds:
        for item in client.objects(kind, (of_project(opened.name),)):
            found = True
            with failures.collected(), suppress(NotFound):
                try:
                    client.remove_object(kind, item.id)
                except Conflict as error:
                    if not opened.orphans or asked.orphans:
                        raise
                    click.echo(f"Notice: {kind.name} {kind.title(item)} stays: {error}", err=True)
    return found


def _images_removed(
    opened: "Project", chosen: tuple[Member, ...], which: str, failures: Failures
) -> None:
    """Remove images of these services from the fleet, unless others need them."""
    from cli.image import rm, shared
    from pyswarm_core.docker.reference import parse_reference

    names: dict[str, None] = {}
    for member in chosen:
        spec = member.service.spec
        image = parse_reference(spec.task_template.container_spec.image).familiar.partition("@")[0]
        own = parse_reference(f"{opened.name}-{member.name}").familiar
        if which == ALL or (image == own and IMAGE_LABEL not in spec.labels):
            names[image] = None
    with shared.opened_or_none(opened.client, write=True) as registry:
        for name in names:
            with failures.collected():
                try:
                    rm.remove(opened.client, registry, name, failures, force=False)
                except (Conflict, NotFound) as error:
                    click.echo(f"Notice: image {name} stays: {error}", err=True)
