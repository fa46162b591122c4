"""The ports of this host that its tasks hold (mode host), and the task that each is forwarded to.
PURE.

A port without a number gets the lowest free one of the kernel's range for such purposes. Invariant:
one task of this host holds a number at a time.
"""

from collections.abc import Collection, Iterable

from msgspec.structs import replace

from pyswarm_core.ids import TaskId
from pyswarm_core.ports import CHOSEN_BY_AGENTS
from pyswarm_core.specs import PortConfig, Protocol, PublishMode

Number = tuple[Protocol, int]


class HostPorts:
    """The ports that tasks hold until they are detached."""

    def __init__(self) -> None:
        self._held: dict[TaskId, tuple[PortConfig, ...]] = {}

    def hold(self, task_id: TaskId, ports: tuple[PortConfig, ...]) -> None:
        """Assign exactly these ports to the task."""
        self._held[task_id] = ports

    def choose(
        self, ports: Iterable[PortConfig], meshed: Iterable[PortConfig]
    ) -> tuple[PortConfig, ...] | None:
        """The ports of mode host among these, with numbers that neither a task nor the routing mesh
        uses; None if too few are free.
        """
        taken = {number(port) for held in self._held.values() for port in held}
        taken |= {number(port) for port in meshed}
        return with_numbers(ports, taken)

    def release(self, task_id: TaskId) -> None:
        """Release the task's ports. An unknown task is no error."""
        self._held.pop(task_id, None)


def is_of_host(port: PortConfig) -> bool:
    """Whether the port is published on the task's own host only."""
    return port.publish_mode is PublishMode.HOST


def number(port: PortConfig) -> Number:
    """The part of a port that must be unique on a host."""
    return port.protocol, port.published_port


def with_numbers(
    ports: Iterable[PortConfig], taken: Collection[Number]
) -> tuple[PortConfig, ...] | None:
    """The ports of mode host, each with its number; None if too few are free."""
    given = set(taken)
    chosen = []
    for port in filter(is_of_host, ports):
        if not port.published_port:
            free = (n for n in CHOSEN_BY_AGENTS if (port.protocol, n) not in given)
            if not (found := next(free, 0)):
                return None
            port = replace(port, published_port=found)
        given.add(number(port))
        chosen.append(port)
    return tuple(chosen)
