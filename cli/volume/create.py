"""`pyswarm volume create`."""

from collections.abc import Mapping
from typing import Any

import click
from msgspec.structs import replace

from cli import flags, session
from cli.lazy import Verb
from pyswarm_core.docker import entries
from pyswarm_core.validation import require, volume_problems
from pyswarm_core.volumes.volume import LOCAL, VolumePlacement, VolumeSpec


@click.command(
    cls=Verb,
    help="Create a volume: its copy is made on the node of its first task, and later tasks run"
    " there\n\nExample: pyswarm volume create --label team=db data",
)
@click.option("-d", "--driver", default=LOCAL, show_default=True, help="Specify volume driver name")
@click.option("--label", multiple=True, metavar="KEY=VALUE", help="Set metadata for a volume")
@click.option("-o", "--opt", multiple=True, metavar="KEY=VALUE", help="Set driver specific options")
@click.option(
    "--placement", type=flags.Choice(["pinned", "any"]), default="pinned", show_default=True,
    help="One copy, where all its tasks run (pinned), or one on each node that runs a task (any)",
)  # fmt: skip
@click.argument("name", required=False, default="", metavar="[VOLUME]")
def create(*, name: str, **given: Any) -> None:
    spec = spec_of(name, given)
    named = spec if name else replace(spec, name="chosen-by-the-controller")
    require(volume_problems(named))
    click.echo(session.connect().create_volume(spec).spec.name)


def spec_of(name: str, given: Mapping[str, Any]) -> VolumeSpec:
    """The spec of the flags. Raises InvalidArgument."""
    return VolumeSpec(
        name=name,
        driver=given["driver"],
        driver_opts=entries.labels("--opt", given["opt"]),
        labels=entries.labels("--label", given["label"]),
        placement=VolumePlacement(given["placement"]),
    )
