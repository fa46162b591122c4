"""Flags that say which Compose files, variables and profiles count."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from cli.flags import Choice, Number
from pyswarm_core.errors import invalid

if TYPE_CHECKING:
    from compose.files import Disk
    from compose.model import Loaded
    from compose.projects import Request
    from compose.report import Remark

PARALLEL_MAX = 1_000
F = TypeVar("F", bound=Callable[..., Any])

_OPTIONS = (
    click.option(
        "-f", "--file", "files", multiple=True, metavar="FILE",
        help="Compose configuration files; - is standard input",
    ),
    click.option(
        "--env-file", "env_files", multiple=True, metavar="FILE",
        help="Specify an alternate environment file",
    ),
    click.option("--profile", "profiles", multiple=True, metavar="NAME", help="Enable a profile"),
    click.option("-p", "--project-name", default="", metavar="NAME", help="Project name"),
    click.option(
        "--project-directory", default="", metavar="DIRECTORY",
        help="Working directory of the project (default: the directory of the first file)",
    ),
)  # fmt: skip
_GROUP = (
    click.option(
        "--ansi", type=Choice(["never", "always", "auto"]), default="auto", envvar="COMPOSE_ANSI",
        help="Control when to print ANSI control characters (never, always, auto)",
    ),
    click.option(
        "--parallel", type=Number(-1, PARALLEL_MAX), default=0, metavar="NUMBER",
        envvar="COMPOSE_PARALLEL_LIMIT",
        help="Control max parallelism, -1 for unlimited (default: builds one per processor)",
    ),
    click.option(
        "--progress", type=Choice(["auto", "tty", "plain", "quiet"]), default="auto",
        envvar="COMPOSE_PROGRESS", help="Set type of progress output (auto, tty, plain, quiet)",
    ),
)  # fmt: skip
_LISTS = ("files", "env_files", "profiles")
strict = click.option(
    "--strict",
    is_flag=True,
    help="Refuse files with notices, and keys that a fleet does not honour",
)
stack_files = click.option(
    "-c", "--compose-file", "files", multiple=True, required=True, metavar="FILE",
    help="Path to a Compose file, or - to read from stdin",
)  # fmt: skip
no_env_file = click.option("--no-env-file", is_flag=True, help="Do not read .env")


def project_flags(function: F) -> F:
    """The flags of a project, for the group and for each verb."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


def group_flags(function: F) -> F:
    """The flags of `compose` itself, which stand before the verb."""
    for option in reversed(_GROUP):
        function = option(function)
    return function


def of_group(name: str) -> Any:
    """The value of a flag of `compose` itself."""
    context = click.get_current_context()
    return context.parent.params[name] if context.parent is not None else None


def is_quiet() -> bool:
    """Whether --progress says quiet."""
    return bool(of_group("progress") == "quiet")


def project_options() -> list[click.Option]:
    """The same as a list."""

    def holder() -> None:
        """Carries the options."""

    found: list[click.Option] = project_flags(holder).__click_params__  # type: ignore[attr-defined]
    return list(reversed(found))


def request(context: click.Context, **given: Any) -> "Request":
    """What is loaded: flags of the verb, after those of the group."""
    from os import environ

    from compose.projects import Request
    from pyswarm_core.aio.system import home_directory

    outer = context.parent.params if context.parent is not None else {}
    flags = dict(given)
    for name in _LISTS:
        flags[name] = (*outer.get(name, ()), *given.get(name, ()))
    for name in ("project_name", "project_directory"):
        flags[name] = given.get(name) or outer.get(name, "")
    home = str(home_directory())
    return Request(directory=_directory(), home=home, environ=dict(environ), **flags)


def _directory() -> str:
    try:
        return str(Path.cwd())
    except FileNotFoundError:
        raise invalid("working directory", ".", "it was removed: change to another") from None


def load(
    wanted: "Request", *, is_strict: bool = False, told: bool = True, disk: "Disk | None" = None
) -> "Loaded":
    """The model; warnings and, if `told`, notices are printed on standard error. Every fault is a
    line. Who gives a `disk` reads more of it, and then expects it unchanged.
    """
    from compose.files import Disk
    from compose.model import load as load_model
    from compose.report import Refused

    try:
        read = disk or Disk()
        loaded = load_model(wanted, read)
        if disk is None:
            read.expect_unchanged()
    except Refused as error:
        _print("Error", error.faults[:-1])
        raise Refused(error.faults[-1:]) from None
    _print("Warning", loaded.warnings)
    if is_strict and (remarks := [*loaded.notices, *_endings(loaded)]):
        _print("Error", remarks[:-1])
        raise Refused(remarks[-1:])
    if told:
        _print("Notice", loaded.notices)
    return loaded


def _endings(loaded: "Loaded") -> "list[Remark]":
    """The keys that a fleet refuses, and those that have no effect on it."""
    from compose.keys.fates import endings
    from compose.report import Remark
    from compose.tree import shown_path

    return [
        Remark(one.node.place, shown_path(one.path), f"{one.fate.kind.value}: {one.fate.text}")
        for one in endings(loaded.tree)
    ]


def _print(what: str, remarks: "Iterable[Remark]") -> None:
    from cli.render.listing import one_line

    for remark in remarks:
        click.echo(f"{what}: {one_line(str(remark))}", err=True)


def print_remarks(what: str, remarks: "Iterable[Remark]") -> None:
    """Print warnings or notices on standard error, a line each."""
    _print(what, remarks)
