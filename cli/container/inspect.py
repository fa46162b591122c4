"""`pyswarm inspect`, which finds any kind of object, and `pyswarm container inspect`."""

import click

from cli import flags
from cli.lazy import Verb

TYPES = (
    "container",
    "network",
    "volume",
    "node",
    "service",
    "task",
    "secret",
    "config",
    "user",
    "stack",
    "image",
)
"""The kinds, in the order in which a name is looked up; of an image every node is asked."""


@click.command(
    cls=Verb,
    help="Return low-level information on pyswarm objects of any kind\n\n"
    "Example: pyswarm inspect --format '{{.State.Status}}' db",
)
@flags.inspect_format
@click.option("-s", "--size", is_flag=True, help="Display total file sizes of containers")
@click.option(
    "--type", "kind", type=flags.Choice(TYPES), help="Only inspect objects of the given type"
)
@click.argument("names", nargs=-1, required=True, metavar="NAME|ID...")
def inspect(*, form: str, size: bool, kind: str | None, names: tuple[str, ...]) -> None:
    from cli.container import inspecting

    inspecting.show(names, form, (kind,) if kind else TYPES, with_size=size)


@click.command(
    name="inspect",
    cls=Verb,
    help="Display detailed information on one or more containers\n\n"
    "Example: pyswarm container inspect --format '{{.State.Status}}' db",
)
@flags.inspect_format
@click.option("-s", "--size", is_flag=True, help="Display total file sizes")
@click.argument("containers", nargs=-1, required=True, metavar="CONTAINER...")
def inspect_containers(*, form: str, size: bool, containers: tuple[str, ...]) -> None:
    from cli.container import inspecting

    inspecting.show(containers, form, ("container",), with_size=size)
