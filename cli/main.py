"""`pyswarm`: the root of all commands, and what an ending means to scripts.

Exit codes: 0 done; 1 refused or failed; 2 the command line or a value is wrong; 3 accepted but not
finished (waiting was interrupted, or no answer came in time); 130 interrupted; 141 nobody reads the
output any more.
"""

import os
import sys
from collections.abc import Sequence
from typing import NoReturn

import click

from cli.faults import NoAnswer, NotConverged
from cli.lazy import LazyGroup
from pyswarm_core.errors import InvalidArgument, PyswarmError

FAILED = 1
WRONG = 2
UNFINISHED = 3
INTERRUPTED = 130
NO_READER = 141

COMMANDS = {
    "service": ("cli.service:service", "Create, watch, scale and remove services"),
    "task": ("cli.task:task", "Look into tasks"),
    "node": ("cli.node:node", "Look into and change nodes"),
    "network": ("cli.network:network", "Create and remove overlay networks"),
    "net": ("cli.net:net", "Look for faults between tasks"),
    "image": ("cli.image:image", "Build, pull and remove images"),
    "swarm": ("cli.swarm:swarm", "Make, join and leave a fleet"),
    "playground": ("cli.playground.commands:playground", "A whole fleet on this machine"),
    "events": ("cli.verbs.events:events", "Show what happens in the fleet"),
    "why": ("cli.verbs.why:why", "Say why a task or service is not running"),
    "version": ("cli.verbs.version:version", "Show the versions of CLI and controller"),
    "completion": ("cli.verbs.completion:completion", "Print a shell's completion script"),
}


def _print_version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        from pyswarm_core.version import VERSION

        click.echo(f"pyswarm version {VERSION}")
        ctx.exit()


@click.group(
    cls=LazyGroup,
    commands_at=COMMANDS,
    help="Run services on a fleet of Linux hosts, in Docker Swarm's words.",
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.option("-H", "--host", metavar="ADDRESS", help="Controller: unix:///PATH or HOST:PORT")
@click.option(
    "-v", "--version", is_flag=True, expose_value=False, is_eager=True, callback=_print_version,
    help="Show the version",
)  # fmt: skip
def root(host: str | None) -> None:
    del host  # Read from the root's parameters by whoever connects.


def run(arguments: Sequence[str]) -> int:
    """Run one command line; errors become one line on stderr and an exit code."""
    stdout = sys.stdout
    try:
        code = root.main(list(arguments), prog_name="pyswarm", standalone_mode=False)
        return code if isinstance(code, int) else 0
    except click.exceptions.Exit as ending:
        return ending.exit_code
    except click.ClickException as error:
        return _usage(error)
    except (click.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except InvalidArgument as error:
        return _told(error, WRONG)
    except PyswarmError as error:
        return _told(error, FAILED)
    except SystemExit:
        # Click answers a BrokenPipeError by wrapping stdout and leaving with 1.
        if sys.stdout is stdout:
            raise
        return _no_reader()
    except OSError as error:
        return _told(error, FAILED)


def _usage(error: click.ClickException) -> int:
    _told(error.format_message(), error.exit_code)
    context = error.ctx if isinstance(error, click.UsageError) else None
    if context is not None:
        click.echo(f"See `{context.command_path} --help`.", err=True)
    return error.exit_code


def _told(error: object, code: int) -> int:
    click.echo(f"Error: {' '.join(str(error).split())}", err=True)
    return UNFINISHED if isinstance(error, NoAnswer | NotConverged) else code


def _no_reader() -> int:
    # What is still buffered would raise again.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return NO_READER


def run_and_flush(arguments: Sequence[str]) -> int:
    """`run`, with everything written out; returns the exit code."""
    code = run(arguments)
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        code = _no_reader()
    except OSError as error:
        code = _told(error, FAILED)
    sys.stderr.flush()
    return code


def main() -> NoReturn:
    """The console script."""
    # Taking gRPC and the interpreter apart would be a sixth of what `service ls` costs.
    os._exit(run_and_flush(sys.argv[1:]))
