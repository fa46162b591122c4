"""The part of a dataplane that programs services' virtual addresses into tasks' namespaces.

`programs.py` (real) and `fake.py` (in memory) implement `Vips` and pass the same contract tests.
"""

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from typing import NamedTuple, Protocol

from agent.network.base import DesiredEndpoint, DesiredOverlay, Drift, EndpointKey
from agent.network.netlink import Netlink
from pyswarm_core.ids import NetworkId, TaskId


class RefusedTask(NamedTuple):
    """A task whose namespace refused its rules."""

    task_id: TaskId
    networks: tuple[NetworkId, ...]
    reason: str


class InNamespace(Protocol):
    """What is programmed inside a task's namespace. Its methods may block: they are called in a
    thread of the pool. `connect` opens a socket to the namespace's packet filter.
    """

    def new(
        self, task_id: TaskId, networks: tuple[NetworkId, ...], connect: Callable[[], Netlink]
    ) -> AbstractContextManager[None]:
        """Program a namespace that nobody has seen yet. Leave the block once it is bound; an
        exception forgets the task.
        """
        ...

    def adopt(
        self, task_id: TaskId, networks: tuple[NetworkId, ...], connect: Callable[[], Netlink]
    ) -> None:
        """Bring a namespace that exists up to date, whoever made it."""
        ...

    def forget(self, task_id: TaskId) -> None:
        """The task is gone; unknown: no error."""
        ...


class Vips(InNamespace, Protocol):
    """`take`, `change` and `sync` must not overlap; tasks may come and go beside them."""

    def take(
        self, overlays: Mapping[NetworkId, DesiredOverlay], endpoints: Iterable[DesiredEndpoint]
    ) -> None:
        """Have the virtual addresses of exactly these endpoints; `sync` programs them. A task that
        comes in between has them already.
        """
        ...

    def change(
        self,
        overlays: Mapping[NetworkId, DesiredOverlay],
        changed: Mapping[EndpointKey, DesiredEndpoint | None],
    ) -> frozenset[NetworkId]:
        """Have these endpoints as they are now (None: gone); the networks on which `sync` has to
        program that.
        """
        ...

    async def sync(self, networks: frozenset[NetworkId] | None = None) -> list[RefusedTask]:
        """Program every task (on one of these networks, if any is named), and forget the UDP flows
        to backends that left. A task that refuses its rules costs that task alone.
        """
        ...

    async def check(self) -> tuple[Drift, ...]:
        """The tasks in whose namespaces somebody else changed the rules; `sync` heals them."""
        ...

    async def backends(self, task_id: TaskId, address: str) -> tuple[str, ...] | None:
        """Where the task's namespace sends connections to a virtual address, in any order; None if
        it translates none to it.
        """
        ...
