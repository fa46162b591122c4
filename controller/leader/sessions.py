"""The open sessions of agents, and what each has yet to send. SHELL (waits only, no IO).

A session queues no messages about tasks. It records *which* tasks changed, which versions of
overlays it sent, and its position in the log of endpoints; when the stream is free, a message is
made from the current state. A slow agent therefore delays no other, changes coalesce, and beyond
ASSIGNMENT_CHANGES or ENDPOINT_CHANGES a full set is sent instead.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from hashlib import sha256

from controller.leader.assignments import (
    Source,
    Unsent,
    changed_assignments,
    full_assignments,
    networks_of,
)
from controller.registry.settings import nodes_password
from pyswarm_core.api.v1 import dispatcher_pb2
from pyswarm_core.codec import to_proto
from pyswarm_core.controlplane import ControlHost
from pyswarm_core.errors import Unavailable
from pyswarm_core.ids import NetworkId, NodeId, ServiceId
from pyswarm_core.limits import ASSIGNMENT_CHANGES, ASSIGNMENT_QUEUE, PROBERS, PROTOCOL
from pyswarm_core.objects import Cluster, Node, Task
from pyswarm_core.state import State
from pyswarm_core.states import is_terminal
from pyswarm_core.volumes.volume import VolumeId

Message = dispatcher_pb2.ControllerMessage
DIGESTS_KEPT = 64
"""Of the messages sent last. An agent that is further behind is compared once it has caught up."""


class NodeSession:
    """One agent's stream, seen from the controller."""

    def __init__(self, node_id: NodeId) -> None:
        self.node_id = node_id
        self.peer = ""
        """The address from which the agent calls."""
        self.wake = asyncio.Event()
        self.closed = False
        self.sent_revision = 0
        self.acknowledged = 0
        self._digests: deque[tuple[int, int | None]] = deque(maxlen=DIGESTS_KEPT)
        self._is_healing = False
        self._needs_full = True
        self._changes = Unsent()
        self._notices: deque[Message] = deque()
        self._sources: Message | None = None
        self.wake.set()

    @property
    def behind(self) -> int:
        """How many sent revisions the agent has yet to acknowledge."""
        return max(0, self.sent_revision - self.acknowledged)

    def close(self) -> None:
        """End the stream: the node was removed, has a newer session, or leadership is lost."""
        self.closed = True
        self.wake.set()

    def notify(self, message: Message) -> None:
        """Queue a message that is not about tasks. Raises Unavailable if too many are queued."""
        if len(self._notices) >= ASSIGNMENT_QUEUE:
            raise Unavailable(f"node {self.node_id} is too slow to take more requests")
        self._notices.append(message)
        self.wake.set()

    def sources_changed(self, message: Message) -> None:
        """Queue the sources of binds; they replace those that are not sent yet."""
        self._sources = message
        self.wake.set()

    def task_changed(self, task: Task) -> None:
        """The task was written or removed."""
        changes = self._changes
        changes.tasks[task.id] = None
        if len(changes.tasks) > ASSIGNMENT_CHANGES:
            self._needs_full = True
            changes.tasks.clear()
        self.wake.set()

    def limits_changed(self, service_id: ServiceId) -> None:
        """The limits of the service's tasks changed."""
        services = self._changes.limits
        services[service_id] = None
        if len(services) > ASSIGNMENT_CHANGES:
            self._needs_full = True
            services.clear()
        self.wake.set()

    def layer_gone(self, service_id: ServiceId) -> None:
        """The node does not keep the writable layer of this container any longer."""
        layers = self._changes.layers
        layers[service_id] = None
        if len(layers) > ASSIGNMENT_CHANGES:
            self._needs_full = True
            layers.clear()
        self.wake.set()

    def volume_gone(self, volume_id: VolumeId) -> None:
        """The node is to delete its copy of this volume."""
        volumes = self._changes.volumes
        volumes[volume_id] = None
        if len(volumes) > ASSIGNMENT_CHANGES:
            self._needs_full = True
            volumes.clear()
        self.wake.set()

    def overlays_changed(self) -> None:
        """A network changed, or a task on one has ended."""
        self._changes.overlays_may_differ = True
        self.wake.set()

    def endpoints_changed(self, sequence: int) -> None:
        """Endpoints on the node's networks changed, up to this position in the log."""
        if self._changes.sequence < sequence:
            self._changes.endpoints = True
            self.wake.set()

    def verify(self, revision: int, digest: int) -> bool:
        """Return whether the agent's endpoints at this revision differ from those that were sent.
        If so, everything is sent again, once until they agree.
        """
        while self._digests and self._digests[0][0] < revision:
            self._digests.popleft()
        sent = [was for at, was in self._digests if at == revision]
        if not sent or None in sent or digest in sent:
            self._is_healing &= not sent
            return False
        if self._is_healing:
            return False
        self._is_healing = self._needs_full = True
        self.wake.set()
        return True

    def take_notices(self) -> list[Message]:
        """Messages that are not about tasks; they need no commit."""
        messages = list(self._notices)
        self._notices.clear()
        if self._sources is not None:
            messages.append(self._sources)
            self._sources = None
        return messages

    def take(self, source: Source, revision: int) -> Iterator[Message | None]:
        """Yield the parts of the next message, each as soon as it is made; None after a slice of
        work without one. Continue only while the store has what the state holds.
        """
        changes, endpoints = self._changes, source.endpoints
        is_full = self._needs_full or not endpoints.remembers(changes.sequence)
        if not is_full and not changes:
            return
        sent: dict[NetworkId, int] = {} if is_full else changes.overlays_sent
        # From here on, what changes before the last part is sent again afterwards.
        self._needs_full = False
        self._changes = Unsent(sent, endpoints.sequence)
        self.sent_revision = revision
        if is_full:
            parts = full_assignments(source, self.node_id, sent, revision)
        else:
            parts = changed_assignments(source, self.node_id, changes, revision)
        for part in parts:
            if part is None:
                yield None
                continue
            if not part.more:
                # Endpoints that changed meanwhile may have been sent as they were before.
                is_known = endpoints.sequence == self._changes.sequence
                self._digests.append((revision, endpoints.digest(sent) if is_known else None))
            yield Message(assignments=part)


class Sessions:
    """All open sessions, one per node."""

    def __init__(
        self, controllers: Iterable[str], registries: Callable[[], tuple[str, ...]] = tuple
    ) -> None:
        self.controllers = tuple(controllers)
        """Addresses of controllers, the leader first."""
        self._registries = registries
        self._control: Message | None = None
        """Where the control plane listens, once that is known."""
        self._of_node: dict[NodeId, NodeSession] = {}
        self._settings: Message | None = None
        """As they were sent last."""
        self._limits: dict[ServiceId, tuple[int, int]] = {}
        """The versions of limits and template of which agents have been sent all limits, of
        services whose limits changed.
        """

    def __len__(self) -> int:
        return len(self._of_node)

    def __iter__(self) -> Iterator[NodeSession]:
        return iter(tuple(self._of_node.values()))

    def open(self, node_id: NodeId) -> NodeSession:
        """A new session; an older one of the same node is closed."""
        self.close_node(node_id)
        session = self._of_node[node_id] = NodeSession(node_id)
        return session

    def peer_of(self, node_id: NodeId) -> str:
        """The address from which the node's agent calls; "" without a session."""
        session = self._of_node.get(node_id)
        return session.peer if session is not None else ""

    def holds(self, session: NodeSession) -> bool:
        """Whether it is still its node's session."""
        return self._of_node.get(session.node_id) is session

    def close(self, session: NodeSession) -> None:
        """The stream has ended. A newer session of the node stays."""
        session.close()
        if self._of_node.get(session.node_id) is session:
            del self._of_node[session.node_id]

    def close_node(self, node_id: NodeId) -> None:
        """The node was removed or replaced its session."""
        session = self._of_node.pop(node_id, None)
        if session is not None:
            session.close()

    def close_all(self) -> None:
        """Leadership is lost."""
        for node_id in tuple(self._of_node):
            self.close_node(node_id)

    def settings(self, cluster: Cluster, heartbeat_period: int) -> Message:
        """The settings that every agent receives."""
        token, registries = cluster.scrape_token.encode(), self._registries()
        return Message(
            settings=dispatcher_pb2.Settings(
                heartbeat_period=heartbeat_period,
                data_path_port=cluster.spec.data_path_port,
                controllers=self.controllers,
                protocol=PROTOCOL,
                roots="".join((cluster.ca.certificate, *cluster.former_roots)).encode(),
                scrape_digest=sha256(token).digest() if token else b"",
                registries=registries,
                registry_password=nodes_password(cluster) if registries else "",
            )
        )

    def opening(self, cluster: Cluster, heartbeat_period: int) -> list[Message]:
        """The messages that every session begins with."""
        known = [self._control] if self._control is not None else []
        return [self.settings(cluster, heartbeat_period), *known]

    def tell_control_plane(self, hosts: Iterable[ControlHost]) -> bool:
        """The control plane listens there: notify agents if that changed, and return whether it
        did.
        """
        messages = [to_proto(host, dispatcher_pb2.ControlHost()) for host in hosts]
        message = Message(control_plane=dispatcher_pb2.ControlPlane(hosts=messages))
        if message == self._control:
            return False
        self._control = message
        self._notify_all(message)
        return True

    def settings_changed(self, cluster: Cluster, heartbeat_period: int) -> None:
        """Send the settings to every agent if they differ from those that were sent."""
        message = self.settings(cluster, heartbeat_period)
        if message != self._settings:
            self._settings = message
            self._notify_all(message)

    def _notify_all(self, message: Message) -> None:
        """Send the message to every agent; the session of one that is too slow is closed."""
        for session in tuple(self._of_node.values()):
            try:
                session.notify(message)
            except Unavailable:
                self.close(session)

    def ask(self, node_id: NodeId, request: dispatcher_pb2.OpenTunnel) -> None:
        """Have the node's agent open a tunnel. Raises Unavailable if it is not connected."""
        session = self._of_node.get(node_id)
        if session is None:
            raise Unavailable(f"node {node_id} is not connected")
        session.notify(Message(open_tunnel=request))

    def probe(
        self, state: State, node: Node, agents: Iterable[NodeId], window: int
    ) -> list[NodeId]:
        """Request PROBERS of these agents, connected and on other hosts, to probe the node's host
        for `window` nanoseconds. Return those agents.
        """
        address = node.status.addr
        message = Message(probe=dispatcher_pb2.Probe(node_id=node.id, addr=address, window=window))
        asked: list[NodeId] = []
        for agent in agents:
            session, host = self._of_node.get(agent), state.nodes.get(agent)
            if session is None or host is None or host.status.addr == address:
                continue
            with suppress(Unavailable):
                session.notify(message)
                asked.append(agent)
            if len(asked) == PROBERS:
                break
        return asked

    def tasks_changed(self, tasks: Iterable[Task]) -> None:
        """These tasks were written or removed."""
        sessions = self._of_node
        for task in tasks:
            if (session := sessions.get(task.node_id)) is not None:
                session.task_changed(task)

    def services_changed(
        self,
        state: State,
        services: Iterable[ServiceId],
        layers_gone: Iterable[tuple[NodeId, ServiceId]] = (),
        volumes_gone: Iterable[tuple[NodeId, VolumeId]] = (),
    ) -> None:
        """These services were written or removed: agents receive limits that changed, also those
        whose tasks have the service's template again. `layers_gone`: containers, and the nodes that
        keep their writable layers no longer. `volumes_gone`: nodes, and volumes whose copies they
        are to delete.
        """
        self._data_gone(layers_gone, volumes_gone)
        for service_id in services:
            service = state.services.get(service_id)
            if service is None or not service.in_place_version:
                self._limits.pop(service_id, None)
                continue
            versions = service.in_place_version, service.template_version
            sent = self._limits.get(service_id, (0, 0))
            self._limits[service_id] = versions
            if versions[0] == sent[0] and (versions == sent or not service.same_template):
                continue
            for node_id in state.tasks_of_service(service_id).placed:
                if (session := self._of_node.get(node_id)) is not None:
                    session.limits_changed(service_id)
                    if service.spec.mode.is_container:  # perhaps its networks
                        session.overlays_changed()

    def _data_gone(
        self,
        layers: Iterable[tuple[NodeId, ServiceId]],
        volumes: Iterable[tuple[NodeId, VolumeId]],
    ) -> None:
        for node_id, volume_id in volumes:
            if (session := self._of_node.get(node_id)) is not None:
                session.volume_gone(volume_id)
        for node_id, service_id in layers:
            if (session := self._of_node.get(node_id)) is not None:
                session.layer_gone(service_id)

    def overlays_changed(self, nodes: Iterable[NodeId]) -> None:
        """Networks changed for these nodes, see `OverlayMessages`."""
        for node_id in nodes:
            if (session := self._of_node.get(node_id)) is not None:
                session.overlays_changed()

    def endpoints_changed(self, nodes: Iterable[NodeId], sequence: int) -> None:
        """Endpoints on these nodes' networks changed, up to this position in the log."""
        for node_id in nodes:
            if (session := self._of_node.get(node_id)) is not None:
                session.endpoints_changed(sequence)

    def tasks_observed(self, state: State, tasks: Iterable[Task]) -> None:
        """An agent reported these; one that ended may have been the last user of an overlay."""
        for task in tasks:
            if not is_terminal(task.state):
                continue
            session = self._of_node.get(task.node_id)
            if session and networks_of(state, task.service_id, task.spec_version):
                session.overlays_changed()
