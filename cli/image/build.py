"""`pyswarm build`, also `image build`, `builder build` and `buildx build`."""

import os
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cli import flags
from cli.image.building import bases, refused, running
from cli.image.building.context import Sources, sources
from cli.image.building.storage import Storage
from cli.lazy import Verb
from pyswarm_core.docker.building import recipe
from pyswarm_core.docker.building.recipe import Recipe
from pyswarm_core.errors import InvalidArgument, invalid

if TYPE_CHECKING:
    from cli.calls.connection import Connection
    from cli.image.building.display import Display


@click.command(
    cls=Verb,
    params=refused.options(),
    help="Build an image from a Dockerfile, and push it to the fleet's registry\n\n"
    "Example: pyswarm build -t web:1 .",
)
@click.option("-t", "--tag", "tags", multiple=True, metavar="NAME[:TAG]",
              help="Name and optionally a tag; may be repeated")  # fmt: skip
@click.option("-f", "--file", default="", metavar="FILE",
              help="Name of the Dockerfile, or - for standard input"
              " (default PATH/Dockerfile, then PATH/Containerfile)")  # fmt: skip
@click.option("--build-arg", "build_args", multiple=True, metavar="NAME[=VALUE]",
              help="Set build-time variables")  # fmt: skip
@click.option("--label", "labels", multiple=True, metavar="KEY=VALUE",
              help="Set metadata for an image")  # fmt: skip
@click.option("--target", default="", metavar="STAGE", help="Set the target build stage to build")
@click.option("--no-cache", is_flag=True, help="Do not use cache when building the image")
@click.option("--pull", is_flag=True, help="Always attempt to pull all referenced images")
@click.option("--secret", "secrets", multiple=True, metavar="id=NAME[,src=FILE|,env=NAME]",
              help="Secret to expose to RUN --mount=type=secret")  # fmt: skip
@click.option("--platform", default="", metavar="OS/ARCH", help="Set target platform for build")
@click.option("--network", type=flags.Choice(["default", "host", "none"]), default="default",
              show_default=True,
              help="Network of RUN instructions: that of this machine, or none")  # fmt: skip
@click.option("--add-host", "add_hosts", multiple=True, metavar="HOST:IP",
              help="Add a custom host-to-IP mapping")  # fmt: skip
@click.option("--iidfile", default="", metavar="FILE", help="Write the image ID to a file")
@click.option("--cache-from", "cache_from", multiple=True, metavar="REPOSITORY",
              help="Repository of cached steps that --cache-to has filled")  # fmt: skip
@click.option("--cache-to", "cache_to", multiple=True, metavar="REPOSITORY",
              help="Push the results of steps to a repository")  # fmt: skip
@click.option("--progress", type=flags.Choice(["auto", "plain"]), default="auto",
              show_default=True, help="Set type of progress output")  # fmt: skip
@click.option("--rm", is_flag=True, default=True, hidden=True)
@click.option("--force-rm", is_flag=True, hidden=True)
@click.option("--load", is_flag=True, hidden=True)
@click.option("--push", is_flag=True, hidden=True)
@click.option("--node", default="", metavar="NODE",
              help="Build on a node, to which the context is sent (role admin)")  # fmt: skip
@click.option("-q", "--quiet", is_flag=True,
              help="Suppress the build output and print image ID on success")  # fmt: skip
@click.argument("path", metavar="PATH|-")
def build(*, path: str, progress: str, quiet: bool, iidfile: str, node: str, **given: Any) -> None:
    asked = _recipe(path, given)
    if iidfile:
        _check_iidfile(iidfile)
    image = _elsewhere(asked, node, progress, quiet) if node else _here(asked, progress, quiet)
    if iidfile:
        Path(iidfile).write_text(image)
    if quiet or not asked.tags:
        click.echo(image)
    else:
        for tag in asked.tags:
            click.echo(tag.familiar)


def _here(asked: Recipe, progress: str, quiet: bool) -> str:
    """Build on this machine; returns the image's id."""
    storage = Storage()
    with storage.in_use() as work:
        found = sources(asked, work)
        running.check(asked, found)

        def show() -> "Display":
            from cli.image.building import display

            return display.display(progress, found.content.name, quiet=quiet)

        return built(asked, found, running.Workspace(storage, work), show, _connect)


def _elsewhere(asked: Recipe, node: str, progress: str, quiet: bool) -> str:
    """Build on a node; returns the image's id."""
    from tempfile import TemporaryDirectory

    from cli.image.building import display, remote

    with TemporaryDirectory(prefix="pyswarm-build-") as work:
        found = sources(asked, Path(work))
        running.check_secrets(asked)
        shown = display.display(progress, found.content.name, quiet=quiet)
        return remote.build(_connect(), node, asked, found, shown, quiet=quiet)


def built(
    asked: Recipe,
    found: Sources,
    place: running.Workspace,
    show: Callable[[], "Display"],
    connect: Callable[[], "Connection"],
) -> str:
    """Build and push; returns the image's id. The display and the connection to the registry are
    made while buildah runs already, unless the registry may have a base image that is missing here.
    """
    storage, work = place
    wanted = bases.references(running.images(asked, found))
    has_bases = not (asked.pull or (wanted and bases.missing(wanted, storage.images())))
    if not asked.tags and has_bases:
        with running.Build(asked, found, storage, work) as build:
            return build.finish(show())
    with ExitStack() as stack:
        early = running.Build(asked, found, storage, work) if has_bases else None
        if early is not None:
            stack.enter_context(early)
        from cli.image.building import display, pushing
        from cli.registry.opening import opened

        registry = stack.enter_context(opened(connect(), write=bool(asked.tags)))
        build = early or stack.enter_context(running.Build(asked, found, storage, work, registry))
        shown = show()
        image = build.finish(shown)
        quiet = isinstance(shown, display.Silent)
        copy = partial(pushing.copy, storage, registry=registry, quiet=quiet)
        pushing.push(image, asked.tags, registry, copy)
    return image


def _connect() -> "Connection":
    from cli import session

    return session.connection()


def _recipe(path: str, given: dict[str, Any]) -> Recipe:
    for name in given["build_args"]:
        if not name.partition("=")[0]:
            raise invalid("--build-arg", name, "expected NAME=VALUE")
    for label in given["labels"]:
        if not label.partition("=")[0]:
            raise invalid("--label", label, "expected KEY=VALUE")
    return Recipe(
        context=path,
        file=given["file"],
        tags=tuple(dict.fromkeys(recipe.tag(text) for text in given["tags"])),
        build_args=given["build_args"],
        labels=given["labels"],
        target=given["target"],
        no_cache=given["no_cache"],
        pull=given["pull"],
        secrets=tuple(recipe.secret(text) for text in given["secrets"]),
        platform=recipe.platform(given["platform"]),
        network=given["network"],
        add_hosts=given["add_hosts"],
        cache_from=recipe.cache("--cache-from", given["cache_from"]),
        cache_to=recipe.cache("--cache-to", given["cache_to"]),
    )


def _check_iidfile(path: str) -> None:
    target = Path(path)
    if target.is_dir() or not os.access(target.absolute().parent, os.W_OK):
        raise InvalidArgument(f"--iidfile: {path} cannot be written: expected a file's name")
