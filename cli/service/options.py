"""Docker's flags of the task template, for `service create` and `service update`."""

from collections.abc import Callable
from typing import Any, TypeVar

import click

from cli import flags
from cli.service.template import CONDITIONS, ENDPOINT_MODES

F = TypeVar("F", bound=Callable[..., Any])


def _text(*names: str, metavar: str, help: str) -> Callable[[F], F]:
    return click.option(*names, metavar=metavar, help=help)


def _number(*names: str, help: str) -> Callable[[F], F]:
    return click.option(*names, type=flags.number, help=help)


def _switch(*names: str, help: str) -> Callable[[F], F]:
    return click.option(f"{names[-1]}/--no-{names[-1][2:]}", *names[:-1], default=None, help=help)


def many(*names: str, metavar: str, help: str) -> Callable[[F], F]:
    """A flag that may be given more than once."""
    return click.option(*names, multiple=True, metavar=metavar, help=help)


TEMPLATE = (
    _number("--replicas", help="Number of tasks"),
    _number(
        "--replicas-max-per-node", help="Maximum number of tasks per node (default 0 = unlimited)"
    ),
    _text("--limit-cpu", metavar="DECIMAL", help="Limit CPUs"),
    _text("--limit-memory", metavar="BYTES", help="Limit memory"),
    _number("--limit-pids", help="Limit maximum number of processes (default 0 = unlimited)"),
    _text("--reserve-cpu", metavar="DECIMAL", help="Reserve CPUs"),
    _text("--reserve-memory", metavar="BYTES", help="Reserve memory"),
    _text("--memory-swap", metavar="BYTES", help="Swap in bytes (-1 for unlimited)"),
    _number("--memory-swappiness", help="Tune memory swappiness, 0 to 100 (-1 = the kernel's)"),
    _number("--oom-score-adj", help="Tune host's OOM preferences, -1000 to 1000"),
    _text("--entrypoint", metavar="COMMAND", help="Overwrite the default ENTRYPOINT of the image"),
    _text("--hostname", metavar="NAME", help="Container hostname"),
    _text("-w", "--workdir", metavar="DIR", help="Working directory inside the container"),
    _text(
        "-u",
        "--user",
        metavar="USER[:GROUP]",
        help="Username or UID (format: <name|uid>[:<group|gid>])",
    ),
    _switch("-t", "--tty", help="Allocate a pseudo-TTY"),
    _switch(
        "--init", help="Use an init inside each container to forward signals and reap processes"
    ),
    _switch("--read-only", help="Mount the container's root filesystem as read only"),
    _text("--stop-signal", metavar="SIGNAL", help="Signal to stop the container"),
    _text(
        "--stop-grace-period",
        metavar="DURATION",
        help="Time to wait before force killing a container (default 10s)",
    ),
    click.option(
        "--restart-condition",
        type=flags.Choice(CONDITIONS),
        help="Restart when condition is met (default any)",
    ),
    _text(
        "--restart-delay", metavar="DURATION", help="Delay between restart attempts (default 5s)"
    ),
    _number(
        "--restart-max-attempts",
        help="Maximum number of restarts before giving up (default 0 = unlimited)",
    ),
    _text(
        "--restart-window", metavar="DURATION", help="Window used to evaluate the restart policy"
    ),
    click.option(
        "--endpoint-mode",
        type=flags.Choice(ENDPOINT_MODES),
        help="Endpoint mode (default vip)",
    ),
)


with_registry_auth = click.option(
    "--with-registry-auth",
    is_flag=True,
    help="Send registry authentication details to agents",
)


def template(command: F) -> F:
    """Add all flags of TEMPLATE to a command."""
    for option in reversed(TEMPLATE):
        command = option(command)
    return command
