"""Docker's flags for how a service's tasks run, as click options; for create and update alike."""

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
    """A flag that may be given several times."""
    return click.option(*names, multiple=True, metavar=metavar, help=help)


TEMPLATE = (
    _number("--replicas", help="Number of tasks"),
    _number("--replicas-max-per-node", help="Most tasks per node (0 = no limit)"),
    _text("--limit-cpu", metavar="DECIMAL", help="Limit CPUs"),
    _text("--limit-memory", metavar="BYTES", help="Limit memory"),
    _number("--limit-pids", help="Limit processes (0 = unlimited)"),
    _text("--reserve-cpu", metavar="DECIMAL", help="Reserve CPUs"),
    _text("--reserve-memory", metavar="BYTES", help="Reserve memory"),
    _text("--memory-swap", metavar="BYTES", help="Swap (-1 for unlimited)"),
    _number("--memory-swappiness", help="Memory swappiness, 0 to 100 (-1 = the kernel's)"),
    _number("--oom-score-adj", help="Preference of the OOM killer, -1000 to 1000"),
    _text("--entrypoint", metavar="COMMAND", help="Replace the image's entrypoint"),
    _text("--hostname", metavar="NAME", help="Host name of the containers"),
    _text("-w", "--workdir", metavar="DIR", help="Working directory in the container"),
    _text("-u", "--user", metavar="USER[:GROUP]", help="Name or number of user and group"),
    _switch("-t", "--tty", help="Give it a terminal"),
    _switch("--init", help="Run an init that forwards signals and reaps processes"),
    _switch("--read-only", help="Mount the container's root read-only"),
    _text("--stop-signal", metavar="SIGNAL", help="Signal to stop the containers with"),
    _text("--stop-grace-period", metavar="DURATION", help="Time before SIGKILL (default 10s)"),
    click.option("--restart-condition", type=click.Choice(CONDITIONS), help="When to restart"),
    _text("--restart-delay", metavar="DURATION", help="Delay between restarts (default 5s)"),
    _number("--restart-max-attempts", help="Restarts before giving up (0 = endless)"),
    _text("--restart-window", metavar="DURATION", help="Time in which restarts count"),
    click.option(
        "--endpoint-mode",
        type=click.Choice(ENDPOINT_MODES),
        help="The name leads to one address (vip, the default), or to each task's (dnsrr)",
    ),
)


with_registry_auth = click.option(
    "--with-registry-auth",
    is_flag=True,
    help="Send this user's login for the image's registry to the agents",
)


def template(command: F) -> F:
    """Decorate a verb with all flags that set one value of the task template."""
    for option in reversed(TEMPLATE):
        command = option(command)
    return command
