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
    """The rules inside a task's namespace. The methods may block: they are called in a thread of
    the pool. `connect` opens a netfilter socket in the namespace.
    """

    def new(
        self, task_id: TaskId, networks: tuple[NetworkId, ...], connect: Callable[[], Netlink]
    ) -> AbstractContextManager[None]:
        """Program a new namespace. The block ends once the namespace is bound; an exception forgets
        the task.
        """
        ...

    def adopt(
        self, task_id: TaskId, networks: tuple[NetworkId, ...], connect: Callable[[], Netlink]
    ) -> None:
        """Program a namespace that exists, whoever created it, for exactly these networks."""
        ...

    def forget(self, task_id: TaskId) -> None:
        """Forget a removed task. An unknown task is no error."""
        ...


class Vips(InNamespace, Protocol):
    """`set_desired`, `update_desired` and `sync` must not overlap; tasks may come and go
    concurrently.
    """

    def set_desired(
        self, overlays: Mapping[NetworkId, DesiredOverlay], endpoints: Iterable[DesiredEndpoint]
    ) -> None:
        """Set the virtual addresses of exactly these endpoints as desired; `sync` programs them. A
        task that is attached in between gets them at once.
        """
        ...

    def update_desired(
        self,
        overlays: Mapping[NetworkId, DesiredOverlay],
        changed: Mapping[EndpointKey, DesiredEndpoint | None],
    ) -> frozenset[NetworkId]:
        """Replace these endpoints (None: remove). Returns the networks that `sync` has to
        program.
        """
        ...

    async def sync(self, networks: frozenset[NetworkId] | None = None) -> list[RefusedTask]:
        """Program every task (on one of these networks, if given), and delete the UDP flows to
        removed backends. A task that refuses its rules costs that task only.
        """
        ...

    async def check(self) -> tuple[Drift, ...]:
        """The tasks in whose namespaces others changed the rules; `sync` repairs them."""
        ...

    async def backends(self, task_id: TaskId, address: str) -> tuple[str, ...] | None:
        """The backends that the task's namespace forwards a virtual address to, in any order; None
        if it does not translate that address.
        """
        ...
