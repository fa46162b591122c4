"""Flags of Docker's cluster volumes, and verbs of other tools, which are refused with what to use
instead.
"""

import click

from cli.container.spec.refused import options_of
from cli.lazy import Verb
from pyswarm_core.errors import InvalidArgument

_INSTEAD = "pyswarm volume backup VOLUME - | pyswarm volume restore OTHER -"

_CSI = (
    "it is for cluster volumes of CSI plugins, which there are none of; a volume has one copy,"
    " where its tasks run, and --placement any gives each node one"
)
_CREATE = (
    *("--availability", "--group", "--limit-bytes", "--required-bytes", "--scope", "--secret"),
    *("--sharing", "--topology-preferred", "--topology-required", "--type"),
)


def of_create() -> list[click.Option]:
    """Those of `volume create`."""
    return options_of(dict.fromkeys(_CREATE, _CSI))


def of_ls() -> list[click.Option]:
    """That of `volume ls`, a switch."""

    def refuse(ctx: click.Context, param: click.Parameter, value: bool) -> None:
        if value:
            raise click.UsageError(f"--cluster is not supported: {_CSI}", ctx)

    return [
        click.Option(["--cluster"], is_flag=True, hidden=True, expose_value=False, callback=refuse)
    ]


@click.command(
    cls=Verb,
    context_settings={"ignore_unknown_options": True},
    help="Snapshots of volumes are not supported: `volume backup` writes an archive\n\n"
    "Example: pyswarm volume snapshot pgdata",
)
@click.argument("arguments", nargs=-1)
def snapshot(*, arguments: tuple[str, ...]) -> None:
    del arguments
    raise InvalidArgument(
        "snapshots of volumes are not supported: use pyswarm volume backup --stop VOLUME FILE"
    )


@click.command(
    cls=Verb,
    context_settings={"ignore_unknown_options": True},
    help="Clones of volumes are not supported: a backup may be restored to another volume\n\n"
    "Example: pyswarm volume clone pgdata pgcopy",
)
@click.argument("arguments", nargs=-1)
def clone(*, arguments: tuple[str, ...]) -> None:
    del arguments
    raise InvalidArgument(f"clones of volumes are not supported: use {_INSTEAD}")
