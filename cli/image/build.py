"""`pyswarm image build`."""

from pathlib import Path

import click

from cli import session
from cli.image import builder
from cli.image.builder import Recipe
from cli.lazy import Verb
from pyswarm_core.docker.reference import parse_reference


@click.command(
    cls=Verb,
    help="Build an image and push it to the fleet's registry\n\n"
    "Example: pyswarm image build -t web:1 examples/web",
)
@click.option(
    "-t",
    "--tag",
    "tags",
    multiple=True,
    required=True,
    metavar="NAME",
    help="Name and optionally a tag, NAME:TAG",
)
@click.option(
    "-f",
    "--file",
    type=click.Path(path_type=Path),
    help="Name of the Containerfile (default Containerfile, then Dockerfile)",
)
@click.option(
    "--build-arg",
    "build_args",
    multiple=True,
    metavar="NAME=VALUE",
    help="Set build-time variables",
)
@click.option(
    "--label", "labels", multiple=True, metavar="KEY=VALUE", help="Set metadata for an image"
)
@click.option("--target", default="", metavar="STAGE", help="Set the target build stage to build")
@click.option("--no-cache", is_flag=True, help="Do not use cache when building the image")
@click.option("-q", "--quiet", is_flag=True, help="Suppress progress output")
@click.argument("path", type=click.Path(path_type=Path))
def build(
    *,
    tags: tuple[str, ...],
    file: Path | None,
    build_args: tuple[str, ...],
    labels: tuple[str, ...],
    target: str,
    no_cache: bool,
    quiet: bool,
    path: Path,
) -> None:
    references = [parse_reference(tag) for tag in tags]
    destinations = [builder.destination(reference, session.fleet()) for reference in references]
    recipe = Recipe(
        directory=path,
        file=file,
        build_args=build_args,
        labels=labels,
        target=target,
        no_cache=no_cache,
        quiet=quiet,
    )
    builder.build(recipe, references)
    for reference, where in zip(references, destinations, strict=True):
        builder.push(reference, where, quiet=quiet)
        click.echo(reference.familiar)
