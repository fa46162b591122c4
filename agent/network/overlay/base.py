"""The overlay part of a dataplane: tunnels, bridges, routes, encryption and tasks' interfaces.

`kernel.py` (real) and `fake.py` (in memory) implement `Overlay` and pass the same contract tests.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple, Protocol

from agent.network.base import Attachment, DesiredOverlay, Drift, Fault
from agent.network.overlay.plug import Plug
from agent.network.vips.base import InNamespace
from pyswarm_core.ids import NetworkId, TaskId
from pyswarm_core.objects import Capability


class AttachedTask(NamedTuple):
    """An attached task: the path of its namespace, its interfaces, and which were made just now."""

    path: str
    plugs: tuple[Plug, ...]
    made: Sequence[Plug]


class Overlay(Protocol):
    """Every method is idempotent and none blocks the event loop. `set_desired`, `sync` and `check`
    must not overlap; attaching and detaching go on beside them, but not for one task. Each raises
    NetworkFailed when the kernel refuses.
    """

    @property
    def carried(self) -> Mapping[NetworkId, DesiredOverlay]:
        """The networks that were taken and that this host can carry; another mapping each time."""
        ...

    @property
    def refused(self) -> Mapping[NetworkId, str]:
        """The networks that this host cannot carry, and why."""
        ...

    @property
    def underlay_mtu(self) -> int:
        """The MTU of the underlay's device, 0 before the first sync of a network."""
        ...

    @property
    def devices_made(self) -> int:
        """Rises whenever devices were made or removed: what names devices is to be written anew."""
        ...

    def plugs(self) -> list[Plug]:
        """The interfaces of attached tasks that are there."""
        ...

    def plugs_of(self, task_id: TaskId) -> tuple[Plug, ...]:
        """The interfaces of one attached task, there or not."""
        ...

    async def set_desired(self, overlays: Sequence[DesiredOverlay]) -> None:
        """Have these networks, and no others; `sync` makes them."""
        ...

    async def sync(
        self, published: Collection[NetworkId], paths: Mapping[str, int]
    ) -> tuple[Fault, ...]:
        """Make the devices, routes and encryption of the carried networks, heal what somebody
        disturbed, remove what is no longer desired. Ports of this host are forwarded to tasks of
        the `published` networks; `paths` are path MTUs by peer.

        An entry that the kernel refuses costs that entry alone, and is told.
        """
        ...

    async def check(self) -> tuple[Drift, ...]:
        """What differs from what `sync` makes, cheaply."""
        ...

    async def attach(
        self, task_id: TaskId, attachments: Sequence[Attachment], inside: InNamespace
    ) -> AttachedTask:
        """Make the task's namespace with these interfaces and with what `inside` programs there;
        of one that exists, mend the host's side. If it fails, nothing is left of it.
        """
        ...

    async def detach(self, task_id: TaskId, inside: InNamespace) -> None:
        """Let go of the task's namespace. Unknown: no error."""
        ...

    async def found(self) -> set[TaskId]:
        """The tasks whose namespaces exist, whoever made them."""
        ...

    async def missing_capabilities(self) -> Mapping[Capability, str]:
        """What this host's kernel has not, and a line for people on each."""
        ...

    async def addresses6(self) -> tuple[str, ...]:
        """The host's own addresses of IPv6."""
        ...

    def worn_key(self) -> int:
        """The number of the key that encrypted networks need a new one for; 0 if they do not."""
        ...
