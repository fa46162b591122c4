"""A command in every replica of a service at once, with the task's name before each line. SHELL."""

import asyncio
from collections.abc import Mapping, Sequence

import click
from msgspec.structs import replace

from cli.client import Client
from cli.exits import ExitCode
from cli.streams import program
from cli.streams.program import Stdio
from cli.streams.stdio import Output
from pyswarm_core.aio.streams.duplex import Write
from pyswarm_core.errors import Conflict, PyswarmError
from pyswarm_core.states import TaskState
from pyswarm_core.streams.requests import EXEC, ExecRequest

AT_ONCE = 64
"""Commands that run at once."""
_LINE_MAX = 64 * 1024


def run(client: Client, request: ExecRequest) -> int:
    """Run the command in every running task of the service; return the highest exit code. Prints
    the error of each task where it could not run.

    Raises NotFound for the service, Conflict if no task of it runs.
    """
    views = client.tasks(services=(request.ref,), filters=("desired-state=running",))
    running = {view.name: view.task.id for view in views if view.task.state is TaskState.RUNNING}
    if not running:
        raise Conflict(
            f"service {request.ref} has no running task: `pyswarm why {request.ref}` says why"
        )
    codes = asyncio.run(_run(client, request, dict(sorted(running.items()))))
    return max(codes)


async def _run(client: Client, request: ExecRequest, tasks: Mapping[str, str]) -> Sequence[int]:
    width = max(map(len, tasks))
    out, err, places = Output(1), Output(2), asyncio.Semaphore(AT_ONCE)

    async def one(name: str, task_id: str) -> int:
        prefix = f"{name:<{width}} | ".encode()
        lines = Prefixed(prefix, out), Prefixed(prefix, err)
        stdio = Stdio(False, False, stdout=lines[0], stderr=lines[1], takes_signals=False)
        async with places:
            try:
                ended = await program.converse(client, EXEC, replace(request, ref=task_id), stdio)
            except PyswarmError as error:
                click.echo(f"Error: {name}: {error}", err=True)
                return ExitCode.BROKEN
        for line in lines:
            await line.end()
        if ended.message:
            click.echo(f"Error: {name}: {ended.message}", err=True)
        return ended.code

    async with asyncio.TaskGroup() as group:
        ran = [group.create_task(one(name, task_id)) for name, task_id in tasks.items()]
    return [task.result() for task in ran]


class Prefixed:
    """Writes whole lines, each with a prefix."""

    def __init__(self, prefix: bytes, write: Write) -> None:
        self._prefix = prefix
        self._write = write
        self._rest = b""

    async def __call__(self, data: bytes) -> None:
        """Write the lines that the data completes."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > _LINE_MAX:
            lines.append(self._rest)
            self._rest = b""
        if lines:
            await self._write(b"".join(b"%b%b\n" % (self._prefix, line) for line in lines))

    async def end(self) -> None:
        """Write what is left."""
        if self._rest:
            await self(b"\n")
