"""`pyswarm compose up`."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click
from msgspec.structs import replace

from cli import session
from cli.compose import mapping, project
from cli.compose.deploying import flags
from cli.compose.deploying.create import require_apart
from cli.compose.lifecycle.stop import TIMEOUT
from cli.compose.verb import ProjectVerb
from cli.flags import Number
from pyswarm_core.errors import invalid, similar

if TYPE_CHECKING:
    from cli.client import Client
    from cli.compose.deploying.applying import Asked
    from cli.compose.deploying.attached import Attached

WAIT_MAX_S = 86_400
F = TypeVar("F", bound=Callable[..., Any])


def _flag(*names: str, help: str) -> Callable[[F], F]:
    return click.option(*names, is_flag=True, help=help)


@click.command(
    "up",
    cls=ProjectVerb,
    help="Create and start services, and follow their output; Ctrl-C stops them\n\n"
    "Only services change whose configuration or image changed. With --detach the command ends once"
    " all services are started, and healthy if they have a check.\n\n"
    "Example: pyswarm compose up -d --build --scale app=3",
)
@_flag("--abort-on-container-exit",
       help="Stops all containers if any container was stopped. Incompatible with -d")  # fmt: skip
@_flag("--abort-on-container-failure",
       help="Stops all containers if any container exited with failure. Incompatible with"
       " -d")  # fmt: skip
@_flag("--always-recreate-deps",
       help="Recreate dependent containers. Incompatible with --no-recreate")  # fmt: skip
@click.option("--attach", "attached", multiple=True, metavar="SERVICE",
              help="Restrict attaching to the specified services. Incompatible with"
              " --attach-dependencies")  # fmt: skip
@_flag("--attach-dependencies", help="Automatically attach to log output of dependent services")
@flags.BUILD
@flags.DRY_RUN
@_flag("-d", "--detach", help="Detached mode: Run containers in the background")
@click.option("--exit-code-from", default="", metavar="SERVICE",
              help="Return the exit code of the selected service container. Implies"
              " --abort-on-container-exit")  # fmt: skip
@flags.FORCE_RECREATE
@click.option("--no-attach", "unattached", multiple=True, metavar="SERVICE",
              help="Do not attach (stream logs) to the specified services")  # fmt: skip
@flags.NO_BUILD
@_flag("--no-color", help="Produce monochrome output")
@_flag("--no-deps", help="Don't start linked services")
@_flag("--no-log-prefix", help="Don't print prefix in logs")
@flags.NO_RECREATE
@_flag("--no-start", help="Don't start the services after creating them")
@flags.PULL
@_flag("--quiet-build", help="Suppress the build output")
@flags.QUIET_PULL
@flags.REMOVE_ORPHANS
@_flag("-V", "--renew-anon-volumes",
       help="Recreate anonymous volumes instead of retrieving data from the previous containers:"
       " they always are")  # fmt: skip
@flags.SCALE
@TIMEOUT
@_flag("--timestamps", help="Show timestamps")
@_flag("--wait", "waits", help="Wait for services to be running|healthy. Implies detached mode")
@click.option("--wait-timeout", type=Number(0, WAIT_MAX_S), default=0, metavar="SECONDS",
              help="Maximum duration in seconds to wait for the project to be"
              " running|healthy")  # fmt: skip
@flags.YES
@click.argument("services", nargs=-1, metavar="[SERVICE...]")
def up(*, services: tuple[str, ...], scales: tuple[str, ...], **given: Any) -> int:
    _require_valid(given)
    replicas = mapping.scales_of(scales)
    files = mapping.read(services, replicas)
    for name in (given["exit_code_from"], *given["attached"], *given["unattached"]):
        if name and name not in files.mapped.services:
            flag = "--exit-code-from" if name == given["exit_code_from"] else "--attach"
            expected = f"there is no such service{similar(name, files.mapped.services)}"
            raise invalid(flag, name, expected)
    from cli.compose.deploying import applying, attached

    client = session.connect()
    asked = _asked(services, given, replicas)
    since, gone = attached.now(), frozenset[str]()
    if not given["no_start"]:
        follows = not (given["detach"] or given["waits"])
        asked, gone = _starting(client, files, asked, completed=follows)
    applied = applying.apply(client, files, asked)
    if given["dry_run"]:
        return 0
    if given["detach"] or given["waits"] or given["no_start"]:
        applying.wait(client, applied, float(given["wait_timeout"]))
        return 0
    followed = replace(_attached(files, services, given), gone=gone)
    return attached.follow(client, files, followed, since)


def _starting(
    client: "Client", files: mapping.Files, asked: "Asked", *, completed: bool
) -> "tuple[Asked, frozenset[str]]":
    """What is asked for, with the services that have ended and are started again; and the ended
    tasks of these and of stopped services.
    """
    from cli.compose.deploying.ended import ended, replaced

    opened = project.of(client, files.name, files.loaded)
    found = opened.containers(every=True) if opened.members else []
    again = ended(opened.members, found, completed=completed)
    stopped = [member for member in opened.members if member.service.spec.stopped]
    asked = replace(asked, started=tuple(member.name for member in again))
    return asked, replaced((*again, *stopped), found)


def _require_valid(given: dict[str, Any]) -> None:
    """Raise UsageError for flags that exclude each other, in Compose's words."""
    from cli.container.lifecycle.stopping import Stop

    Stop.of("", given["timeout"])  # refuses a value that is not valid
    require_apart(("--build", given["build"]), ("--no-build", given["no_build"]))
    require_apart(
        ("--force-recreate", given["force_recreate"]), ("--no-recreate", given["no_recreate"])
    )
    require_apart(
        ("--always-recreate-deps", given["always_recreate_deps"]),
        ("--no-recreate", given["no_recreate"]),
    )
    require_apart(
        ("--attach", bool(given["attached"])),
        ("--attach-dependencies", given["attach_dependencies"]),
    )
    background = given["detach"] or given["waits"]
    for flag in ("abort_on_container_exit", "abort_on_container_failure", "exit_code_from"):
        name = f"--{flag.replace('_', '-')}"
        require_apart((name, bool(given[flag])), ("--detach", bool(background)))
    if given["wait_timeout"] and not background:
        raise click.UsageError("--wait-timeout needs --wait or --detach")


def _asked(services: tuple[str, ...], given: dict[str, Any], scales: dict[str, int]) -> "Asked":
    from cli.compose.deploying.applying import Asked

    return Asked(
        services=services,
        build=given["build"],
        no_build=given["no_build"],
        pull=given["pull"],
        force_recreate=given["force_recreate"],
        always_recreate_deps=given["always_recreate_deps"],
        no_recreate=given["no_recreate"],
        no_deps=given["no_deps"],
        remove_orphans=given["remove_orphans"],
        stopped=given["no_start"],
        dry_run=given["dry_run"],
        quiet_build=given["quiet_build"],
        scales=scales,
    )


def _attached(files: mapping.Files, services: tuple[str, ...], given: dict[str, Any]) -> "Attached":
    """Which services are followed, and what ends that."""
    from cli.compose.deploying.attached import Attached

    shown = given["attached"] or services or tuple(files.mapped.services)
    if given["attach_dependencies"]:
        shown = files.with_needed(services)
    hidden = (*given["unattached"], *files.mapped.unattached)
    watched = files.chosen(services) if given["no_deps"] else files.with_needed(services)
    return Attached(
        shown=tuple(name for name in shown if name not in hidden),
        watched=watched,
        is_plain=given["no_color"],
        has_prefix=not given["no_log_prefix"],
        has_time=given["timestamps"],
        aborts=given["abort_on_container_exit"] or bool(given["exit_code_from"]),
        aborts_on_failure=given["abort_on_container_failure"],
        exit_code_from=given["exit_code_from"],
        timeout=given["timeout"],
    )
