"""`pyswarm compose create`."""

import click

from cli import session
from cli.compose import mapping
from cli.compose.deploying import flags
from cli.compose.verb import ProjectVerb


@click.command(
    "create",
    cls=ProjectVerb,
    help="Create services without starting them: `pyswarm compose start` does\n\n"
    "Services that exist get the configuration of the files, and run on if they run.\n\n"
    "Example: pyswarm compose create web",
)
@flags.BUILD
@flags.DRY_RUN
@flags.FORCE_RECREATE
@flags.NO_BUILD
@flags.NO_RECREATE
@flags.PULL
@flags.QUIET_PULL
@flags.REMOVE_ORPHANS
@flags.SCALE
@flags.YES
@click.argument("services", nargs=-1, metavar="[SERVICE...]")
def create(
    *,
    build: bool,
    dry_run: bool,
    force_recreate: bool,
    no_build: bool,
    no_recreate: bool,
    pull: str,
    quiet_pull: bool,
    remove_orphans: bool,
    scales: tuple[str, ...],
    services: tuple[str, ...],
) -> None:
    del quiet_pull
    require_apart(("--build", build), ("--no-build", no_build))
    require_apart(("--force-recreate", force_recreate), ("--no-recreate", no_recreate))
    replicas = mapping.scales_of(scales)
    files = mapping.read(services, replicas)
    from cli.compose.deploying import applying

    asked = applying.Asked(
        services=services,
        build=build,
        no_build=no_build,
        pull=pull,
        force_recreate=force_recreate,
        no_recreate=no_recreate,
        remove_orphans=remove_orphans,
        stopped=True,
        dry_run=dry_run,
        scales=replicas,
    )
    client = session.connect()
    applying.wait(client, applying.apply(client, files, asked))


def require_apart(*flags_given: tuple[str, bool]) -> None:
    """Raise UsageError if more than one of these flags is given."""
    given = [name for name, is_given in flags_given if is_given]
    if len(given) > 1:
        raise click.UsageError(f"{' and '.join(given)} cannot be used together")
