"""The overlay part of a dataplane: tunnels, bridges, routes, encryption and tasks' interfaces.

`kernel.py` (real) and `fake.py` (in memory) implement `Overlay` and pass the same contract tests.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple, Protocol

from agent.network.base import Attachment, Bandwidth, DesiredOverlay, Drift, Fault
from agent.network.overlay.plug import Plug
from agent.network.vips.base import InNamespace
from pyswarm_core.ids import NetworkId, TaskId
from pyswarm_core.states import Capability


class AttachedTask(NamedTuple):
    """An attached task: the path of its namespace, its interfaces, and those that were just
    created.
    """

    path: str
    plugs: tuple[Plug, ...]
    made: Sequence[Plug]


class Overlay(Protocol):
    """Every method is idempotent and none blocks the event loop. `set_desired`, `sync` and `check`
    must not overlap; attaching and detaching run concurrently with them, but not for one task. Each
    raises NetworkFailed when the kernel refuses.
    """

    @property
    def carried(self) -> Mapping[NetworkId, DesiredOverlay]:
        """The desired networks that this host can carry; a new mapping after each change."""
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
        """Incremented whenever devices are created or removed: rules that name devices must be
        rewritten.
        """
        ...

    def plugs(self) -> list[Plug]:
        """The interfaces of attached tasks that exist."""
        ...

    def plugs_of(self, task_id: TaskId) -> tuple[Plug, ...]:
        """The interfaces of one attached task, whether they exist or not."""
        ...

    async def set_desired(self, overlays: Sequence[DesiredOverlay]) -> None:
        """Set exactly these networks as desired; `sync` creates them."""
        ...

    async def sync(
        self, published: Collection[NetworkId], paths: Mapping[str, int]
    ) -> tuple[Fault, ...]:
        """Create the devices, routes and encryption of the carried networks, repair what others
        changed, remove what is no longer desired. Ports of this host are forwarded to tasks of the
        `published` networks; `paths` are path MTUs by peer.

        An entry that the kernel refuses costs that entry only, and a fault is returned.
        """
        ...

    async def check(self) -> tuple[Drift, ...]:
        """The differences from what `sync` configures. Cheap."""
        ...

    async def attach(
        self,
        task_id: TaskId,
        attachments: Sequence[Attachment],
        inside: InNamespace,
        gone: Sequence[NetworkId] = (),
    ) -> AttachedTask:
        """Create the task's namespace with these interfaces and with what `inside` programs in it.
        After a failure nothing is left of it. If it exists, make the interfaces that are missing,
        and remove those on the networks that are `gone`.
        """
        ...

    async def limit(self, task_id: TaskId, bandwidth: Bandwidth) -> None:
        """Change the bandwidth of an attached task's interfaces."""
        ...

    async def detach(self, task_id: TaskId, inside: InNamespace) -> None:
        """Remove the task's namespace. An unknown task is no error."""
        ...

    async def found(self) -> set[TaskId]:
        """The tasks whose namespaces exist, whoever created them."""
        ...

    async def missing_capabilities(self) -> Mapping[Capability, str]:
        """The capabilities that this host's kernel lacks, with one line for operators on each."""
        ...

    async def addresses6(self) -> tuple[str, ...]:
        """The host's own IPv6 addresses."""
        ...

    def worn_key(self) -> int:
        """The number of the key that must be replaced on encrypted networks; 0 if none must."""
        ...
