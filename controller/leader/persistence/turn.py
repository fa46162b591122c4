"""What one turn of the loop changed, and what services gave up in it. SHELL: requests await it.

A turn may be stored in several transactions, in any order. If one service took a name, an address
or a port that another gave up in the same turn, a leader that loads what was stored in between
would find it at both. So it is taken only once the store knows that it was given up. In the same
way a container leaves its writable layer once the store knows that the node with it was removed.
"""

from asyncio import Future
from collections.abc import Iterator
from typing import Any

from controller.leader.audit.log import Draft
from controller.leader.persistence.unsaved import Unsaved
from pyswarm_core.decision import Writes
from pyswarm_core.ids import NetworkId, NodeId, ServiceId
from pyswarm_core.kinds import NODE, SERVICE, VOLUME
from pyswarm_core.objects import Cluster, Network, Service, Task
from pyswarm_core.state import State
from pyswarm_core.views import Event
from pyswarm_core.volumes.volume import VolumeId, to_delete

_Held = str | tuple[str, int] | tuple[NetworkId, str]


class Turn:
    """What one turn changed: first saved, then published."""

    def __init__(self) -> None:
        self.unsaved = Unsaved()
        self.services: list[ServiceId] = []
        self.tasks: list[Task] = []
        self.networks: list[Network] = []
        self.clusters: list[Cluster] = []
        self.layers: list[tuple[NodeId, ServiceId]] = []
        """Containers whose writable layers their nodes keep no longer."""
        self.volumes: list[tuple[NodeId, VolumeId]] = []
        """Volumes whose copies nodes are to delete."""
        self.events: list[Event] = []
        self.answers: list[tuple[Future[Any], Any]] = []
        self._given_up: dict[_Held, dict[ServiceId, None]] = {}
        """By whom, and the store may not know it yet."""
        self._removed_nodes: dict[NodeId, None] = {}
        """The store may have them still."""

    def applying(self, state: State, writes: Writes) -> None:
        """The writes are to be applied to the state."""
        self.clusters += [writes.cluster] if writes.cluster is not None else []
        self._removed_nodes.update(dict.fromkeys(writes.removed_of(NODE)))
        for volume in writes.of(VOLUME):
            known = state.of(VOLUME).get(volume.id)
            leaving = to_delete(known) if known is not None else ()
            self.volumes += [(n, volume.id) for n in to_delete(volume) if n not in leaving]
        after: dict[ServiceId, Service | None] = dict.fromkeys(writes.removed_of(SERVICE))
        after.update((service.id, service) for service in writes.of(SERVICE))
        for service_id, service in after.items():
            if (before := state.services.get(service_id)) is None:
                continue
            pinned = service.pinned_node if service is not None else ""
            if before.pinned_node and before.pinned_node != pinned:
                self.layers.append((before.pinned_node, service_id))
            if service is not None and service.spec.name != before.spec.name:
                self.tasks += state.tasks_of_service(service_id)  # their agents know the name
            kept = {} if service is None else dict.fromkeys(_held(service))
            for held in _held(before):
                if held not in kept:
                    self._given_up.setdefault(held, {})[service_id] = None

    def holds_up(self, state: State, writes: Writes, draft: Draft | None = None) -> bool:
        """Whether the writes have to wait until the turn so far is stored: they take over what it
        freed, follow from a node's removal, or do not fit into the transaction of their record.
        """
        is_full = draft is not None and not self.unsaved.has_room(draft.name, draft.beside)
        return is_full or self.takes_over(writes) or self._leaves_layer(state, writes)

    def _leaves_layer(self, state: State, writes: Writes) -> bool:
        """Whether a container is placed anew or removed because its node was, and that is not
        stored yet: otherwise a leader that loads the node would delete the layer there.
        """
        if not self._removed_nodes:
            return False
        known = (state.services.get(service.id) for service in writes.of(SERVICE))
        return any(one is not None and one.pinned_node in self._removed_nodes for one in known)

    def takes_over(self, writes: Writes) -> bool:
        """Whether a service takes a name, address or port that another gave up, and that is not
        stored yet.
        """
        return bool(self._given_up) and any(
            holder != service.id
            for service in writes.of(SERVICE)
            for held in _held(service)
            for holder in self._given_up.get(held, ())
        )

    def answer(self) -> None:
        """Answer the requests that still wait."""
        for answer, result in self.answers:
            if not answer.done():
                answer.set_result(result)

    def saved(self) -> None:
        """The store has everything so far."""
        self.unsaved = Unsaved()
        self._given_up.clear()
        self._removed_nodes.clear()


def _held(service: Service) -> Iterator[_Held]:
    """What services may not share: the name, virtual addresses and published ports."""
    if (name := SERVICE.unique_name(service)) is not None:
        yield name
    for vip in service.endpoint.virtual_ips:
        yield vip.network_id, vip.addr
    for port in service.endpoint.ports:
        if port.published_port:
            yield port.protocol.value, port.published_port
