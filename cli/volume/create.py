"""`pyswarm volume create`."""

from collections.abc import Mapping
from typing import Any

import click
from msgspec.structs import replace

from cli import flags, session
from cli.lazy import Verb
from cli.volume import refused
from pyswarm_core.docker import entries
from pyswarm_core.validation import require, volume_problems
from pyswarm_core.volumes.drivers import DRIVERS, LOCAL
from pyswarm_core.volumes.volume import VolumePlacement, VolumeSpec, default_placement


@click.command(
    cls=Verb,
    params=refused.of_create(),
    help="Create a volume: its copy is made on the node of its first task, and later tasks run"
    " there\n\nExample: pyswarm volume create --opt size=10g data",
)
@click.option(
    "-d", "--driver", metavar="DRIVER", default=LOCAL, show_default=True,
    help=f"Specify volume driver name: {', '.join(DRIVERS)}",
)  # fmt: skip
@click.option("-l", "--label", multiple=True, metavar="KEY=VALUE", help="Set metadata for a volume")
@click.option(
    "-o", "--opt", multiple=True, metavar="KEY=VALUE",
    help="Set driver specific options: type, device, o and size of local, share of the others",
)  # fmt: skip
@click.option(
    "--placement", type=flags.Choice(["pinned", "any"]), default=None,
    help="One copy, where all its tasks run (pinned), or one on each node that runs a task (any)"
    " (default pinned; any for nfs and cifs)",
)  # fmt: skip
@click.option("--name", "old_name", default="", hidden=True)
@click.argument("name", required=False, default="", metavar="[VOLUME]")
def create(*, name: str, old_name: str, **given: Any) -> None:
    if name and old_name:
        raise click.UsageError(
            "conflicting options: cannot specify a volume-name through both --name and as a"
            " positional arg"
        )
    name = name or old_name
    spec = spec_of(name, given)
    named = spec if name else replace(spec, name="chosen-by-the-controller")
    require(volume_problems(named))
    click.echo(session.connect().create_volume(spec).spec.name)


def spec_of(name: str, given: Mapping[str, Any]) -> VolumeSpec:
    """The spec of the flags. Raises InvalidArgument."""
    driver, options = given["driver"], entries.labels("--opt", given["opt"])
    return VolumeSpec(
        name=name,
        driver=driver,
        driver_opts=options,
        labels=entries.labels("--label", given["label"]),
        placement=VolumePlacement(given["placement"] or default_placement(driver, options)),
    )
