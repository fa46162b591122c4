"""How `stop`, `restart` and `rm --force` stop what a name means. SHELL."""

from typing import Self

import msgspec

from cli.client import Client
from cli.container import calls
from cli.container.calls import Named
from cli.container.spec.seconds import seconds
from cli.converge import Watched
from cli.service.change import with_stopped
from pyswarm_core.errors import Conflict, NotFound
from pyswarm_core.specs import ContainerMode
from pyswarm_core.states import TaskState
from pyswarm_core.validation import require
from pyswarm_core.validation.container import signal_problems


class Stop(msgspec.Struct, frozen=True):
    """The signal and the grace period of one stop; empty and None: those of the spec."""

    signal: str = ""
    timeout: int | None = None
    """Nanoseconds, at least 1."""

    @classmethod
    def of(cls, signal: str, timeout: str | None) -> Self:
        """The flags' values. Raises InvalidArgument."""
        if signal:
            require(list(signal_problems("--signal", signal)))
        given = None if timeout is None else max(1, seconds("--timeout", timeout))
        return cls(signal, given)

    def request(self, client: Client, named: Named) -> Watched | None:
        """Stop it; returns the service to wait for, none of a single task."""
        if named.task is not None and not named.is_container:
            self.end(client, named.task.task.id)
            return None
        if self.signal or self.timeout is not None:
            self._signal_all(client, named)
        if named.service.spec.stopped:
            return None
        try:
            return Watched.of(with_stopped(client, named.service.id, stopped=True))
        except (Conflict, NotFound):
            if not removes_itself(named):
                raise
            return Watched.of(named.service)  # it has ended, and removes itself

    def _signal_all(self, client: Client, named: Named) -> None:
        for view in client.tasks(services=(named.service.id,), filters=("state=running",)):
            try:
                self.end(client, view.task.id)
            except Conflict:
                continue  # it has ended meanwhile

    def end(self, client: Client, task_id: str) -> None:
        """Have the task's process stopped. Raises Conflict if it does not run."""
        calls.stop_task(client, task_id, self.signal, self.timeout or 0)


def runs(named: Named) -> bool:
    """Whether its task has not ended, or is about to start."""
    task = named.task.task if named.task else None
    return task is not None and task.state <= TaskState.RUNNING


def removes_itself(named: Named) -> bool:
    """Whether it is removed once it has ended (`--rm`)."""
    mode = named.service.spec.mode
    return isinstance(mode, ContainerMode) and mode.auto_remove
