"""`pyswarm compose scale`."""

from typing import TYPE_CHECKING

import click

from cli.compose import flags, mapping, project
from cli.compose.verb import ProjectVerb
from cli.failures import Failures

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from cli.compose.project import Project
    from pyswarm_core.specs import ServiceSpec


@click.command(
    "scale",
    cls=ProjectVerb,
    help="Scale services\n\n"
    "The number stays until the files say another one. A service that is not on the fleet is"
    " created.\n\n"
    "Example: pyswarm compose scale web=3",
)
@click.option("--no-deps", is_flag=True, help="Don't start linked services")
@click.argument("scales", nargs=-1, required=True, metavar="[SERVICE=REPLICAS...]")
def scale(*, no_deps: bool, scales: tuple[str, ...]) -> None:
    replicas = mapping.scales_of(scales)
    opened = project.opened()
    there = {member.name for member in opened.chosen(replicas)}
    scaled_to(opened, {name: number for name, number in replicas.items() if name in there})
    if missing := tuple(name for name in replicas if name not in there):
        from cli.compose.deploying import applying

        files = mapping.read(missing, {name: replicas[name] for name in missing})
        asked = applying.Asked(services=missing, no_deps=no_deps)
        applying.wait(opened.client, applying.apply(opened.client, files, asked))


def scaled_to(opened: "Project", replicas: "Mapping[str, int]") -> None:
    """Set the numbers of replicas, and wait for these services."""
    from cli import converge
    from cli.converge import Watched
    from cli.service.change import changed, tell_stopped

    watched: list[Watched] = []
    with Failures() as failures:
        for member in opened.chosen(replicas) if replicas else ():
            with failures.collected():
                resized = _resized(member.name, replicas[member.name])
                service = changed(opened.client, member.service.id, resized)
                tell_stopped(service)
                watched.append(Watched.of(service))
        if watched:
            converge.until_converged(opened.client, watched, quiet=flags.is_quiet())


def _resized(name: str, replicas: int) -> "Callable[[ServiceSpec], ServiceSpec]":
    from cli.service.spec.template import with_replicas

    return lambda spec: with_replicas(spec, replicas, given_as=f"{name}: scale")
