"""Docker's flags of the task template, for `service create` and `service update`."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

from cli import flags
from cli.service.spec.log_options import LOGGING
from cli.service.spec.resource_options import RESOURCES
from cli.service.spec.security_options import SECURITY
from cli.service.spec.template import (
    CONDITIONS,
    ENDPOINT_MODES,
    ORDERS,
    ROLLBACK_ACTIONS,
    UPDATE_ACTIONS,
)

F = TypeVar("F", bound=Callable[..., Any])


def _text(*names: str, metavar: str, help: str) -> Callable[[F], F]:
    return click.option(*names, metavar=metavar, help=help)


def _number(*names: str, help: str) -> Callable[[F], F]:
    return click.option(*names, metavar="NUMBER", help=help)


def _switch(*names: str, help: str) -> Callable[[F], F]:
    return click.option(f"{names[-1]}/--no-{names[-1][2:]}", *names[:-1], default=None, help=help)


def _choice(name: str, words: Sequence[str], help: str) -> Callable[[F], F]:
    return click.option(name, type=flags.Choice(words), help=help)


def many(*names: str, metavar: str, help: str) -> Callable[[F], F]:
    """A flag that may be given more than once."""
    return click.option(*names, multiple=True, metavar=metavar, help=help)


def _schedule(
    prefix: str, verdict: str, unset: str = "", *, start: tuple[str, str] = ("0s", "5s")
) -> Sequence[Callable[[F], F]]:
    """When a check is made, and how many of its failures count. `start`: the defaults of its start
    period.
    """
    period, interval = start
    return (
        _text(
            f"{prefix}-interval",
            metavar="DURATION",
            help=f"Time between running the check (default {unset}30s)",
        ),
        _text(
            f"{prefix}-timeout",
            metavar="DURATION",
            help=f"Maximum time to allow one check to run (default {unset}30s)",
        ),
        _number(
            f"{prefix}-retries",
            help=f"Consecutive failures needed to report {verdict} (default {unset}3)",
        ),
        _text(
            f"{prefix}-start-period",
            metavar="DURATION",
            help="Start period for the container to initialize before counting retries towards"
            f" unstable (default {unset}{period})",
        ),
        _text(
            f"{prefix}-start-interval",
            metavar="DURATION",
            help=f"Time between running the check during the start period"
            f" (default {unset}{interval})",
        ),
    )


def _updates(
    prefix: str, done: str, noun: str, actions: Sequence[str]
) -> Sequence[Callable[[F], F]]:
    """The settings of updates, or of rollbacks."""
    name = prefix[2:]
    return (
        _number(
            f"{prefix}-parallelism",
            help=f"Maximum number of tasks {done} simultaneously (0 = all at once, default 1)",
        ),
        _text(f"{prefix}-delay", metavar="DURATION", help=f"Delay between {noun} (default 0s)"),
        _text(
            f"{prefix}-monitor",
            metavar="DURATION",
            help=f"Duration after each task {name} to monitor for failure (default 5s)",
        ),
        _choice(f"{prefix}-failure-action", actions, f"Action on {name} failure (default pause)"),
        _text(
            f"{prefix}-max-failure-ratio",
            metavar="RATIO",
            help=f"Failure rate to tolerate during {_a(name)}, 0 to 1 (default 0)",
        ),
        _choice(f"{prefix}-order", ORDERS, f"{name.capitalize()} order (default stop-first)"),
    )


def _a(noun: str) -> str:
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


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
    _choice("--restart-condition", CONDITIONS, "Restart when condition is met (default any)"),
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
    _text(
        "--restart-max-delay",
        metavar="DURATION",
        help="Double the delay with every restart in a row, up to this (default 0s = constant)",
    ),
    _switch(
        "--allow-fleet-api",
        help="Allow connections to the controllers' API, which is closed to other tasks",
    ),
    _choice(
        "--volume-placement",
        ("pinned", "any"),
        "Of volumes that it creates: one copy, where all their tasks run, or one on each node"
        " (default pinned; any in mode global)",
    ),
    _choice("--endpoint-mode", ENDPOINT_MODES, "Endpoint mode (default vip)"),
    _text("--health-cmd", metavar="COMMAND", help="Command to run to check health"),
    _text("--health-http", metavar="PORT/PATH", help="Check health by an HTTP GET request"),
    _text("--health-tcp", metavar="PORT", help="Check health by connecting to a port"),
    _text(
        "--health-grpc",
        metavar="PORT[/SERVICE]",
        help="Check health by gRPC's health checking protocol",
    ),
    *_schedule("--health", "unhealthy", unset="the image's, else "),
    click.option(
        "--no-healthcheck", is_flag=True, help="Disable any container-specified HEALTHCHECK"
    ),
    _text("--ready-cmd", metavar="COMMAND", help="Command to run to check readiness"),
    _text("--ready-http", metavar="PORT/PATH", help="Check readiness by an HTTP GET request"),
    _text("--ready-tcp", metavar="PORT", help="Check readiness by connecting to a port"),
    _text(
        "--ready-grpc",
        metavar="PORT[/SERVICE]",
        help="Check readiness by gRPC's health checking protocol",
    ),
    *_schedule("--ready", "not ready", start=("until the first success", "1s")),
    click.option("--no-readiness", is_flag=True, help="Remove the readiness check"),
    *_updates("--update", "updated", "updates", UPDATE_ACTIONS),
    *_updates("--rollback", "rolled back", "task rollbacks", ROLLBACK_ACTIONS),
    *SECURITY,
    *RESOURCES,
    *LOGGING,
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
