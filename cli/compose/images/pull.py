"""`pyswarm compose pull`."""

import click

from cli.compose import flags, mapping, project
from cli.compose.verb import ProjectVerb
from cli.failures import Failures
from cli.flags import Choice
from pyswarm_core.errors import PyswarmError


@click.command(
    "pull",
    cls=ProjectVerb,
    help="Pull service images on all nodes, and record their digests: the next `up` replaces"
    " services whose image changed\n\n"
    "Example: pyswarm compose pull app",
)
@click.option("--ignore-buildable", is_flag=True, help="Ignore images that can be built")
@click.option(
    "--ignore-pull-failures", is_flag=True,
    help="Pull what it can and ignores images with pull failures",
)  # fmt: skip
@click.option("--include-deps", is_flag=True, help="Also pull services declared as dependencies")
@click.option(
    "--policy", type=Choice(["missing", "always"]), default="always",
    help='Apply pull policy ("missing"|"always")',
)  # fmt: skip
@click.option("-q", "--quiet", is_flag=True, help="Pull without printing progress information")
@click.argument("services", nargs=-1, metavar="[SERVICE...]")
def pull(
    *,
    ignore_buildable: bool,
    ignore_pull_failures: bool,
    include_deps: bool,
    policy: str,
    quiet: bool,
    services: tuple[str, ...],
) -> None:
    from cli import session
    from cli.compose.images import building, pulling

    files = mapping.read(services)
    names = files.with_needed(services) if include_deps else files.chosen(services)
    client = session.connect()
    opened = project.of(client, files.name, files.loaded)
    members = {member.name: member for member in opened.members}
    mapped, is_quiet = files.mapped, quiet or flags.is_quiet()
    builds = {name: one.image for name, one in mapped.builds.items()}
    unbuilt = set(builds) - set(building.digests(client, builds))
    pulled: dict[str, None] = {}
    with Failures() as failures:
        for name in names:
            image = mapped.images[name]
            left_out = name in builds and (ignore_buildable or name in unbuilt)
            is_kept = mapped.pull_policies.get(name) in ("never", "build")
            if left_out or is_kept or (policy == "missing" and name in members):
                continue
            with failures.collected():
                try:
                    if image not in pulled:
                        pulled[image] = None
                        pulling.pull(client, image, quiet=is_quiet)
                    if name in members and pulling.record(client, members[name], image):
                        click.echo(f"{name}: {image} is newer: `up` replaces its tasks", err=True)
                except PyswarmError as error:
                    if not ignore_pull_failures:
                        raise
                    click.echo(f"Warning: {error}", err=True)
