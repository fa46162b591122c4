"""Builds of a project's services, side by side. SHELL.

Each image goes to the fleet's registry, from which hosts pull it by its digest.
"""

import os
import posixpath
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from functools import partial
from threading import Lock
from typing import TYPE_CHECKING

import click
import msgspec

from cli.compose import flags
from cli.failures import Failures
from cli.image.building import display
from cli.image.building.transcript import Event, Kind
from pyswarm_core.docker.building import recipe
from pyswarm_core.docker.building.recipe import Recipe
from pyswarm_core.errors import InvalidArgument, PyswarmError, invalid

if TYPE_CHECKING:
    from cli.client import Client
    from compose.mapping.mapped import Build

DEFAULT = "Dockerfile"
"""The file of a build that names none: `build` looks for a Containerfile, too."""
NETWORKS = ("", "default", "host", "none")
WITHOUT_EFFECT = {
    "privileged": "steps run as root in a chroot",
    "shm_size": "steps have the machine's /dev/shm",
    "ulimits": "steps run without limits of their own",
}
"""Keys of a build that buildah's steps do not need or have."""


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What the flags say about all builds."""

    build_args: tuple[str, ...] = ()
    no_cache: bool = False
    pull: bool = False
    quiet: bool = False


def recipe_of(service: str, build: "Build", asked: Asked) -> Recipe:
    """The build of a service as that of one image. Raises InvalidArgument."""
    at = f"services.{service}.build"
    if len(build.platforms) > 1:
        expected = "expected one platform; build each one under an image of its own"
        raise invalid(f"{at}.platforms", ", ".join(build.platforms), expected)
    if build.network not in NETWORKS:
        raise invalid(f"{at}.network", build.network, "expected default, host or none")
    is_url = "://" in build.context or build.context.startswith("git@")
    file = build.dockerfile if build.dockerfile != DEFAULT else ""
    if file and not is_url:
        file = posixpath.join(build.context, file)
    names = (build.image, *build.tags)
    try:
        return Recipe(
            context=build.context,
            file="" if build.dockerfile_inline else file,
            tags=tuple(dict.fromkeys(recipe.tag(name) for name in names)),
            build_args=(*(f"{k}={v}" for k, v in build.args.items()), *asked.build_args),
            labels=tuple(f"{key}={value}" for key, value in build.labels.items()),
            target=build.target,
            no_cache=build.no_cache or asked.no_cache,
            pull=build.pull or asked.pull,
            platform=recipe.platform("".join(build.platforms)),
            network=build.network or "default",
            add_hosts=tuple(one.replace("=", ":", 1) for one in build.extra_hosts),
            cache_from=recipe.cache("--cache-from", build.cache_from[:1]),
            cache_to=recipe.cache("--cache-to", build.cache_to[:1]),
        )
    except InvalidArgument as error:
        raise InvalidArgument(f"{at}: {error}") from None


def notices(service: str, build: "Build") -> Iterable[str]:
    """What of a build has no effect."""
    at = f"services.{service}.build"
    for key, why in WITHOUT_EFFECT.items():
        if getattr(build, key):
            yield f"{at}.{key}: {why}"
    for key in ("cache_from", "cache_to"):
        if len(further := getattr(build, key)[1:]):
            yield f"{at}.{key}: buildah takes one repository: {', '.join(further)} does not count"


def build_all(client: "Client", builds: "Mapping[str, Build]", asked: Asked) -> dict[str, str]:
    """Build the images, as many at once as --parallel says, or this machine has processors. The
    digest of each in the fleet's registry, by service.

    Raises InvalidArgument before the first build, and PyswarmError with what failed.
    """
    recipes = {name: recipe_of(name, one, asked) for name, one in builds.items()}
    for name, one in builds.items():
        for text in notices(name, one):
            click.echo(f"Notice: {text}", err=True)
    lock, several = Lock(), len(builds) > 1
    width = max(map(len, builds), default=0)
    mode = "quiet" if asked.quiet else flags.of_group("progress") or "auto"
    show = partial(_display, lock, f"{{:<{width}}} | " if several else "", mode)
    limit = flags.of_group("parallel") or os.cpu_count() or 1
    with Failures() as failures, ThreadPoolExecutor(limit if limit > 0 else len(builds)) as pool:
        running = {
            pool.submit(_build, client, recipes[name], builds[name].dockerfile_inline,
                        partial(show, name)): name
            for name in builds
        }  # fmt: skip
        for done in as_completed(running):
            with failures.collected():
                _result(done.result, running[done], several)
                if not asked.quiet and not flags.is_quiet():
                    click.echo(f"{running[done]}: built {builds[running[done]].image}", err=True)
    return digests(client, {name: one.image for name, one in builds.items()})


def digests(client: "Client", images: Mapping[str, str]) -> dict[str, str]:
    """The digests that the fleet's registry has, by service; those that it lacks are left out."""
    from cli.image import shared
    from cli.image.transfer import sources
    from pyswarm_core.docker.reference import parse_reference

    if not images:
        return {}
    with shared.opened_or_none(client) as registry:
        if registry is None:
            return {}
        found = {
            name: sources.digest_of(registry, parse_reference(image))
            for name, image in images.items()
        }
    return {name: digest for name, digest in found.items() if digest}


def _result(result: Callable[[], str], name: str, several: bool) -> None:
    try:
        result()
    except PyswarmError as error:
        if not several:
            raise
        raise type(error)(f"{name}: {error}") from None


def _build(
    client: "Client", asked: Recipe, inline: str, show: Callable[[str], display.Display]
) -> str:
    from cli.image.build import built
    from cli.image.building import running
    from cli.image.building.context import sources
    from cli.image.building.storage import Storage

    storage = Storage()
    with storage.in_use() as work:
        if inline:
            (work / "Dockerfile").write_text(inline)
        found = sources(asked, work)
        running.check(asked, found)
        place = running.Workspace(storage, work)
        return built(asked, found, place, lambda: show(found.content.name), lambda: client)


class Prefixed:
    """All lines of one of several builds, each with the service."""

    has_shown_output = True

    def __init__(self, lock: Lock, prefix: str, file: str) -> None:
        self._lock, self._prefix, self._file = lock, prefix, file

    def show(self, event: Event) -> None:
        """Print the line."""
        text = event.text if event.kind is Kind.OUTPUT else ""
        if event.kind is Kind.STEP and event.step is not None:
            text = display.header(event.step, self._file)
        elif event.kind is Kind.CACHED:
            text = "CACHED"
        if text:
            with self._lock:
                click.echo(f"{self._prefix}{text}", err=True)

    def close(self, *, failed: bool) -> None:
        """Nothing is held back."""


def _display(lock: Lock, prefix: str, mode: str, name: str, file: str) -> display.Display:
    if mode == "quiet":
        return display.Silent()
    if prefix:
        return Prefixed(lock, prefix.format(name), file)
    return display.display("auto" if mode == "tty" else mode, file, quiet=False)
