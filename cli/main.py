"""`pyswarm`: the root command, its errors and exit codes."""

import os
import signal
import sys
from collections.abc import Mapping, Sequence
from types import FrameType, MappingProxyType
from typing import NoReturn

import click

from cli.errors import Broken, ConvergenceFailed, NoAnswer, NotConverged, Unplaced
from cli.exits import ExitCode
from cli.lazy import LazyGroup
from pyswarm_core.errors import InvalidArgument, PyswarmError, quoted, reason_of
from pyswarm_core.plaintext import is_utf8

CODES: Mapping[type[Exception], ExitCode] = MappingProxyType(
    {
        NoAnswer: ExitCode.UNFINISHED,
        NotConverged: ExitCode.UNFINISHED,
        ConvergenceFailed: ExitCode.CONVERGENCE_FAILED,
        Unplaced: ExitCode.UNPLACED,
        InvalidArgument: ExitCode.USAGE,
        Broken: ExitCode.BROKEN,
        PyswarmError: ExitCode.FAILURE,
        UnicodeError: ExitCode.USAGE,
        OSError: ExitCode.FAILURE,
    }
)
"""Exit codes by error class; the first class that matches counts."""

COMMANDS = {
    "run": ("cli.container.run:run", "Create and run a new container from an image"),
    "ps": ("cli.container.ps:ps", "List containers"),
    "create": ("cli.container.run:create", "Create a new container"),
    "start": ("cli.container.lifecycle.start:start", "Start one or more stopped containers"),
    "stop": ("cli.container.lifecycle.stop:stop", "Stop one or more running containers"),
    "restart": ("cli.container.lifecycle.restart:restart", "Restart one or more containers"),
    "rm": ("cli.container.lifecycle.rm:rm", "Remove one or more containers"),
    "rename": ("cli.container.lifecycle.rename:rename", "Rename a container"),
    "inspect": (
        "cli.container.inspect:inspect",
        "Return low-level information on pyswarm objects of any kind",
    ),
    "logs": ("cli.container.logs:logs", "Fetch the logs of a container"),
    "container": ("cli.container:container", "Manage containers"),
    "service": ("cli.service:service", "Manage services"),
    "task": ("cli.task:task", "Manage tasks"),
    "node": ("cli.node:node", "Manage nodes"),
    "network": ("cli.network:network", "Manage networks"),
    "volume": ("cli.volume:volume", "Manage volumes"),
    "secret": ("cli.secret:secret", "Manage secrets"),
    "config": ("cli.config:config", "Manage configs"),
    "stack": ("cli.stack:stack", "Manage stacks"),
    "compose": ("cli.compose:compose", "Run the application that Compose files define"),
    "net": ("cli.net:net", "Diagnose networking between tasks"),
    "image": ("cli.image:image", "Manage images"),
    "build": ("cli.image.build:build", "Build an image from a Dockerfile"),
    "builder": ("cli.image.building.groups:builder", "Manage builds"),
    "buildx": ("cli.image.building.groups:buildx", "Build images, with Docker's newer name of it"),
    "system": ("cli.system:system", "Manage the fleet's data"),
    "images": ("cli.image.ls:ls_", "List images"),
    "rmi": ("cli.image.rm:rm", "Remove one or more images of the fleet"),
    "pull": ("cli.image.pull:pull", "Download an image to nodes"),
    "history": ("cli.image.history:history", "Show the history of an image"),
    "tag": ("cli.image.transfer.tag:tag", "Create a tag that refers to another image"),
    "push": ("cli.image.transfer.push:push", "Upload an image to a registry"),
    "save": ("cli.image.transfer.save:save", "Save one or more images to a tar archive"),
    "load": ("cli.image.transfer.load:load", "Load images from a tar archive or STDIN"),
    "import": (
        "cli.image.transfer.import_:import_",
        "Import the contents from a tarball to create a filesystem image",
    ),
    "search": ("cli.image.transfer.search:search", "Search a registry for images"),
    "login": ("cli.image.accounts.login:login", "Authenticate to a registry"),
    "logout": ("cli.image.accounts.logout:logout", "Log out from a registry"),
    "context": ("cli.context:context", "Manage contexts"),
    "swarm": ("cli.swarm:swarm", "Manage the fleet"),
    "user": ("cli.user:user", "Manage users"),
    "playground": ("cli.playground.commands:playground", "Run a fleet on this machine"),
    "stats": (
        "cli.container.stats:stats",
        "Display a live stream of container(s) resource usage statistics",
    ),
    "attach": ("cli.container.attach:attach", "Attach to the streams of a running container"),
    "port-forward": (
        "cli.container.port_forward:port_forward",
        "Forward a local port to a task",
    ),
    "exec": ("cli.container.exec:exec_", "Execute a command in a running container"),
    "cp": (
        "cli.container.files.cp:cp",
        "Copy files/folders between a container and the local filesystem",
    ),
    "diff": (
        "cli.container.files.diff:diff",
        "Inspect changes to files or directories on a container's filesystem",
    ),
    "export": (
        "cli.container.files.export:export",
        "Export a container's filesystem as a tar archive",
    ),
    "kill": ("cli.container.control.kill:kill", "Kill one or more running containers"),
    "pause": (
        "cli.container.control.pause:pause",
        "Pause all processes within one or more containers",
    ),
    "unpause": (
        "cli.container.control.pause:unpause",
        "Unpause all processes within one or more containers",
    ),
    "port": (
        "cli.container.control.port:port",
        "List port mappings or a specific mapping for the container",
    ),
    "update": (
        "cli.container.control.update:update",
        "Update configuration of one or more containers",
    ),
    "top": ("cli.container.control.top:top", "Display the running processes of a container"),
    "wait": (
        "cli.container.control.wait:wait",
        "Block until one or more containers stop, then print their exit codes",
    ),
    "events": ("cli.verbs.events:events", "Get real time events from the fleet"),
    "audit": ("cli.verbs.audit:audit", "Show who changed what, from the audit log"),
    "why": ("cli.verbs.why:why", "Explain the state of a task, service or container"),
    "info": ("cli.verbs.info:info", "Display fleet-wide information"),
    "alias": ("cli.verbs.alias:alias", "Print a shell function with which docker calls pyswarm"),
    "version": ("cli.verbs.version:version", "Show the version information of CLI and controller"),
    "completion": ("cli.verbs.completion:completion", "Generate the completion script of a shell"),
}

SECTIONS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "Common Commands": tuple(
            "run exec ps build pull push images login logout search version info why".split()
        ),
        "Management Commands": tuple(
            "builder buildx compose container context image net network playground system task user"
            " volume".split()
        ),
        "Swarm Commands": tuple("config node secret service stack swarm".split()),
    }
)
"""The commands as Docker's help groups them; the others are listed below these by name."""


def _print_version(ctx: click.Context, _: click.Parameter, is_given: bool) -> None:
    if is_given and not ctx.resilient_parsing:
        from pyswarm_core.version import version

        click.echo(f"pyswarm version {version()}")
        ctx.exit()


class RootGroup(LazyGroup):
    """A kind of objects without a folder of its own gets the commands of `cli/objects.py`."""

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """A command of COMMANDS, or the generated commands of a kind."""
        if cmd_name in self.list_commands(ctx):
            return super().get_command(ctx, cmd_name)
        from cli import objects

        return objects.group(cmd_name)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """In the sections of Docker's help."""
        listed = {name for names in SECTIONS.values() for name in names}
        others = [name for name in self.list_commands(ctx) if name not in listed]
        for title, names in (*SECTIONS.items(), ("Commands", others)):
            with formatter.section(title):
                formatter.write_dl([(name, COMMANDS[name][1]) for name in names])


@click.group(
    cls=RootGroup,
    commands_at=COMMANDS,
    help="Run services on a fleet of Linux hosts, with Docker Swarm's commands",
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.option(
    "-c",
    "--context",
    metavar="CONTEXT",
    help="Context to use: overrides PYSWARM_HOST and the context set with `pyswarm context use`",
)
@click.option(
    "-H", "--host", metavar="ADDRESS", help="Controller to connect to: unix:///PATH or HOST:PORT"
)
@click.option(
    "-v", "--version", is_flag=True, expose_value=False, is_eager=True, callback=_print_version,
    help="Print the version and exit",
)  # fmt: skip
def root(host: str | None, context: str | None) -> None:
    del host, context  # `session.fleet` reads them from the root's parameters.


def run(arguments: Sequence[str]) -> int:
    """Run one command line; print an error as one line on stderr and return the exit code."""
    stdout = sys.stdout
    try:
        _require_utf8(arguments)
        code = root.main(list(arguments), prog_name="pyswarm", standalone_mode=False)
        return code if isinstance(code, int) else ExitCode.SUCCESS
    except click.exceptions.Exit as ending:
        return ending.exit_code
    except click.ClickException as error:
        return _usage(error)
    except click.Abort as error:
        return _unanswered(error)
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED
    except SystemExit:
        # On a BrokenPipeError, click wraps stdout and exits with 1.
        if sys.stdout is stdout:
            raise
        return ExitCode.BROKEN_PIPE
    except BrokenPipeError:
        return ExitCode.BROKEN_PIPE
    except tuple(CODES) as error:
        code = next(code for cls, code in CODES.items() if isinstance(error, cls))
        return _fail(_message(error), code)
    except Exception as error:
        return _fail(f"a bug of pyswarm at {_place(error)}: {error!r}", ExitCode.FAILURE)


def _message(error: Exception) -> str:
    """The error's text; that of an OSError says whether it is about output."""
    if not isinstance(error, OSError):
        return str(error)
    from traceback import walk_tb

    in_echo = any(frame.f_code is click.echo.__code__ for frame, _ in walk_tb(error.__traceback__))
    return _unwritable(error) if in_echo else reason_of(error)


def _unanswered(error: click.Abort) -> int:
    """The end of a question: Ctrl-C, or the end of the input, as in a pipeline."""
    try:
        click.echo(err=True)  # the question has no line end
    except OSError:
        return ExitCode.BROKEN_PIPE
    if not isinstance(error.__context__, EOFError):
        return ExitCode.INTERRUPTED
    ended = "standard input ended before the question was answered: nothing was changed"
    return _fail(ended, ExitCode.FAILURE)


def _unwritable(error: OSError) -> str:
    return f"cannot write output: {error.strerror}"


def _place(error: Exception) -> str:
    """`FILE:LINE` where the error was raised."""
    at = error.__traceback__
    while at is not None and at.tb_next is not None:
        at = at.tb_next
    return f"{at.tb_frame.f_code.co_filename}:{at.tb_lineno}" if at else "an unknown place"


def _require_utf8(arguments: Sequence[str]) -> None:
    for number, word in enumerate(arguments, 1):
        if not is_utf8(word):
            before = arguments[number - 2] if number > 1 else ""
            flag = f" (of {before})" if before.startswith("-") else ""
            raise InvalidArgument(
                f"argument {number}{flag}: value {quoted(word)} is not valid UTF-8"
            )


def _usage(error: click.ClickException) -> int:
    context = error.ctx if isinstance(error, click.UsageError) else None
    hint = f"\nSee `{context.command_path} --help`." if context else ""
    return _fail(_text(error), error.exit_code, hint)


def _text(error: click.ClickException) -> str:
    """The error's text; values that are not valid are reported in the form of `errors.invalid`."""
    if type(error) is not click.BadParameter or error.param is None:
        return error.format_message()
    param = error.param
    is_flag = isinstance(param, click.Option)
    field = max(param.opts, key=len) if is_flag else param.human_readable_name
    return f"{field}: {error.message}"


def _fail(error: object, code: int, hint: str = "") -> int:
    """Print the error; return the code. It may have words of agents, which are not trusted: no
    terminal obeys them.
    """
    from cli.render.listing import one_line

    try:
        click.echo(f"Error: {one_line(' '.join(str(error).split()))}{hint}", err=True)
    except OSError:
        return ExitCode.BROKEN_PIPE
    return code


def run_and_flush(arguments: Sequence[str]) -> int:
    """`run`, then flush stdout and stderr; return the exit code."""
    code = run(arguments)
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except BrokenPipeError:
        return ExitCode.BROKEN_PIPE
    except OSError as error:
        return code or _fail(_unwritable(error), ExitCode.FAILURE)
    return code


def main() -> NoReturn:
    """The console script. Ctrl-C raises KeyboardInterrupt; a second one ends the process."""
    sys.unraisablehook = _unraisable
    try:
        signal.signal(signal.SIGINT, _interrupt)
        # Shutting down gRPC and the interpreter would be a sixth of the time of `service ls`.
        os._exit(run_and_flush(sys.argv[1:]))
    except KeyboardInterrupt:
        os._exit(ExitCode.INTERRUPTED)


def _interrupt(number: int, frame: FrameType | None) -> None:
    del frame
    signal.signal(number, _leave)
    raise KeyboardInterrupt


def _leave(*_: object) -> NoReturn:
    os._exit(ExitCode.INTERRUPTED)


def _unraisable(ignored: "sys.UnraisableHookArgs") -> None:
    """End on a KeyboardInterrupt in a destructor or callback, which Python would drop."""
    if issubclass(ignored.exc_type, KeyboardInterrupt):
        os._exit(ExitCode.INTERRUPTED)
    sys.__unraisablehook__(ignored)
