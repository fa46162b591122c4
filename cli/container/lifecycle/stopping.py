"""How `stop`, `restart` and `rm --force` stop what a name means. SHELL."""

from typing import Self

import msgspec

from cli.client import Client
from cli.container.calls import Named
from cli.converge import Watched
from cli.service.change import with_stopped
from pyswarm_core.clock import SECOND
from pyswarm_core.docker.units import parse_integer
from pyswarm_core.errors import Conflict, InvalidArgument, invalid
from pyswarm_core.states import TaskState
from pyswarm_core.validation import require
from pyswarm_core.validation.container import signal_problems
from pyswarm_core.validation.ranges import DURATION_MAX


class Stop(msgspec.Struct, frozen=True):
    """The signal and the grace period of one stop; empty and None: those of the spec."""

    signal: str = ""
    timeout: int | None = None
    """Nanoseconds."""

    @classmethod
    def of(cls, signal: str, timeout: str | None) -> Self:
        """The flags' values. Raises InvalidArgument."""
        if signal:
            require(list(signal_problems("--signal", signal)))
        return cls(signal, None if timeout is None else seconds("--timeout", timeout))

    def request(self, client: Client, named: Named) -> Watched | None:
        """Stop it; returns the service to wait for, none of a single task."""
        if named.task is not None and not named.is_container:
            self._signal(client, named.task.task.id)
            return None
        if self.signal or self.timeout is not None:
            self._signal_all(client, named)
        if named.service.spec.stopped:
            return None
        return Watched.of(with_stopped(client, named.service.id, stopped=True))

    def _signal_all(self, client: Client, named: Named) -> None:
        for view in client.tasks(services=(named.service.id,), filters=("state=running",)):
            try:
                self._signal(client, view.task.id)
            except Conflict:
                continue  # it has ended meanwhile

    def _signal(self, client: Client, task_id: str) -> None:
        client.signal_task(task_id, self.signal, stop=True, timeout=self.timeout)


def seconds(flag: str, text: str) -> int:
    """Nanoseconds of whole seconds; -1 is for ever in Docker, here the longest duration.

    Raises InvalidArgument.
    """
    expected = f"expected -1, or 0 to {DURATION_MAX // SECOND}"
    try:
        number = parse_integer(text)
    except InvalidArgument:
        raise invalid(flag, text, expected) from None
    if not -1 <= number <= DURATION_MAX // SECOND:
        raise invalid(flag, text, expected)
    return DURATION_MAX if number < 0 else number * SECOND


def runs(named: Named) -> bool:
    """Whether its task has not ended, or is about to start."""
    task = named.task.task if named.task else None
    return task is not None and task.state <= TaskState.RUNNING
