"""`pyswarm compose build`."""

import click

from cli.compose import mapping, notices
from cli.compose.verb import ProjectVerb


@click.command(
    "build",
    cls=ProjectVerb,
    help="Build or rebuild services, one per processor at a time, and push the images to the"
    " fleet's registry\n\n"
    "Example: pyswarm compose build --no-cache app",
)
@click.option(
    "--build-arg", "build_args", multiple=True, metavar="NAME=VALUE",
    help="Set build-time variables for services",
)  # fmt: skip
@click.option("--no-cache", is_flag=True, help="Do not use cache when building the image")
@click.option("--pull", is_flag=True, help="Always attempt to pull a newer version of the image")
@click.option("--push", is_flag=True, help="Push service images: they always are")
@click.option("-q", "--quiet", is_flag=True, help="Suppress the build output")
@click.option("--with-dependencies", is_flag=True, help="Also build dependencies (transitively)")
@click.argument("services", nargs=-1, metavar="[SERVICE...]")
def build(
    *,
    build_args: tuple[str, ...],
    no_cache: bool,
    pull: bool,
    push: bool,
    quiet: bool,
    with_dependencies: bool,
    services: tuple[str, ...],
) -> None:
    del push
    from cli import session
    from cli.compose.images import building

    files = mapping.read(services)
    names = files.with_needed(services) if with_dependencies else files.chosen(services)
    builds = {name: one for name, one in files.mapped.builds.items() if name in names}
    if not builds:
        click.echo("No services to build", err=True)
        return
    notices.tell_of(files.mapped, *(f"services.{name}.build" for name in builds))
    asked = building.Asked(build_args=build_args, no_cache=no_cache, pull=pull, quiet=quiet)
    building.build_all(session.connect(), builds, asked)
