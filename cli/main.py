"""`pyswarm`: the root of all commands, and how they end."""

import os
import signal
import sys
from collections.abc import Mapping, Sequence
from types import FrameType, MappingProxyType
from typing import NoReturn

import click

from cli.errors import GoalUnreachable, NoAnswer, NotConverged
from cli.exits import Exit
from cli.lazy import LazyGroup
from pyswarm_core.errors import InvalidArgument, PyswarmError
from pyswarm_core.plaintext import is_utf8

CODES: Mapping[type[Exception], Exit] = MappingProxyType(
    {
        NoAnswer: Exit.UNFINISHED,
        NotConverged: Exit.UNFINISHED,
        GoalUnreachable: Exit.UNREACHABLE_GOAL,
        InvalidArgument: Exit.WRONG,
        PyswarmError: Exit.FAILED,
        UnicodeError: Exit.WRONG,
        OSError: Exit.FAILED,
    }
)
"""What an error's end is worth; the first class that it belongs to counts."""

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
        from pyswarm_core.version import version

        click.echo(f"pyswarm version {version()}")
        ctx.exit()


class Root(LazyGroup):
    """Kinds of objects without commands of their own have those that every kind has."""

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """As LazyGroup's, or the commands of a kind."""
        if cmd_name in self.list_commands(ctx):
            return super().get_command(ctx, cmd_name)
        from cli import objects

        return objects.group(cmd_name)


@click.group(
    cls=Root,
    commands_at=COMMANDS,
    help="Run services on a fleet of Linux hosts, in Docker Swarm's words.",
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.option(
    "-H", "--host", metavar="ADDRESS", help="Controller to connect to: unix:///PATH or HOST:PORT"
)
@click.option(
    "-v", "--version", is_flag=True, expose_value=False, is_eager=True, callback=_print_version,
    help="Print the version and exit",
)  # fmt: skip
def root(host: str | None) -> None:
    del host  # Read from the root's parameters by whoever connects.


def run(arguments: Sequence[str]) -> int:
    """Run one command line; errors become one line on stderr and an exit code."""
    stdout = sys.stdout
    try:
        _require_utf8(arguments)
        code = root.main(list(arguments), prog_name="pyswarm", standalone_mode=False)
        return code if isinstance(code, int) else Exit.DONE
    except click.exceptions.Exit as ending:
        return ending.exit_code
    except click.ClickException as error:
        return _usage(error)
    except (click.Abort, KeyboardInterrupt):
        return Exit.INTERRUPTED
    except SystemExit:
        # Click answers a BrokenPipeError by wrapping stdout and leaving with 1.
        if sys.stdout is stdout:
            raise
        return Exit.NO_READER
    except BrokenPipeError:
        return Exit.NO_READER
    except tuple(CODES) as error:
        return _told(error, next(code for cls, code in CODES.items() if isinstance(error, cls)))
    except Exception as error:
        return _told(f"a bug of pyswarm, {_place(error)}: {error!r}", Exit.FAILED)


def _place(error: Exception) -> str:
    """Where it was raised, as `FILE:LINE`."""
    at = error.__traceback__
    while at is not None and at.tb_next is not None:
        at = at.tb_next
    return f"{at.tb_frame.f_code.co_filename}:{at.tb_lineno}" if at else "somewhere"


def _require_utf8(arguments: Sequence[str]) -> None:
    for number, word in enumerate(arguments, 1):
        if not is_utf8(word):
            before = arguments[number - 2] if number > 1 else ""
            flag = f" (of {before})" if before.startswith("-") else ""
            raise InvalidArgument(f"argument {number}{flag}, {word[:80]!a}, is not valid UTF-8")


def _usage(error: click.ClickException) -> int:
    context = error.ctx if isinstance(error, click.UsageError) else None
    hint = f"\nSee `{context.command_path} --help`." if context else ""
    return _told(error.format_message(), error.exit_code, hint)


def _told(error: object, code: int, hint: str = "") -> int:
    try:
        click.echo(f"Error: {' '.join(str(error).split())}{hint}", err=True)
    except OSError:
        return Exit.NO_READER
    return code


def run_and_flush(arguments: Sequence[str]) -> int:
    """`run`, with everything written out; returns the exit code."""
    code = run(arguments)
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except BrokenPipeError:
        return Exit.NO_READER
    except OSError as error:
        return _told(error, Exit.FAILED)
    return code


def main() -> NoReturn:
    """The console script. Ctrl-C raises KeyboardInterrupt once; the second one ends at once."""
    sys.unraisablehook = _unraisable
    try:
        signal.signal(signal.SIGINT, _interrupt)
        # Taking gRPC and the interpreter apart would be a sixth of what `service ls` costs.
        os._exit(run_and_flush(sys.argv[1:]))
    except KeyboardInterrupt:
        os._exit(Exit.INTERRUPTED)


def _interrupt(number: int, frame: FrameType | None) -> None:
    del frame
    signal.signal(number, _leave)
    raise KeyboardInterrupt


def _leave(*_: object) -> NoReturn:
    os._exit(Exit.INTERRUPTED)


def _unraisable(ignored: "sys.UnraisableHookArgs") -> None:
    """A KeyboardInterrupt in a destructor or a callback would be printed and lost."""
    if issubclass(ignored.exc_type, KeyboardInterrupt):
        os._exit(Exit.INTERRUPTED)
    sys.__unraisablehook__(ignored)
