"""Which sources of binds agents look for, and what they report. SHELL (sends, waits for nothing).

Level-triggered: every session begins with all sources, and a message of a session that is not sent
yet is replaced by the next one.
"""

import asyncio
from collections.abc import Mapping

from controller.leader.agenda import Agenda
from controller.leader.sessions import Message, NodeSession, Sessions
from pyswarm_core.api.v1 import dispatcher_pb2
from pyswarm_core.ids import NodeId
from pyswarm_core.indexes.sources import Presence
from pyswarm_core.state import State
from pyswarm_core.volumes.limits import BINDS_PROTOCOL


class BindSourceReports:
    """The exchange with agents about sources; `work` is set when there is something to decide."""

    def __init__(
        self, state: State, sessions: Sessions, agenda: Agenda, work: asyncio.Event
    ) -> None:
        self._state = state
        self._sessions = sessions
        self._agenda = agenda
        self._work = work
        self._version = state.sources.version
        self._message = self._current()

    def opened(self, session: NodeSession) -> NodeSession:
        """The node has a new session: it is sent all sources, once there are some."""
        if self._message.bind_sources.paths:
            self._send(session)
        return session

    def send(self) -> None:
        """Send the sources to all agents, if they changed."""
        if self._state.sources.version == self._version:
            return
        self._version, self._message = self._state.sources.version, self._current()
        for session in self._sessions:
            self._send(session)

    def found(self, node_id: NodeId, message: dispatcher_pb2.FoundSources) -> None:
        """The node's agent reports which sources it has; those that nobody asked for are
        ignored.
        """
        columns: Mapping[Presence, object] = {
            Presence.PRESENT: message.present,
            Presence.ABSENT: message.absent,
            Presence.UNCLEAR: message.unclear,
        }
        presences = {
            path: presence
            for presence, paths in columns.items()
            for path in paths  # type: ignore[attr-defined]
        }
        waiting = self._state.unplaced
        concerned = self._state.sources.report(node_id, presences)
        self._agenda.add_services(one for one in concerned if one in waiting)
        if concerned:
            self._work.set()

    def _send(self, session: NodeSession) -> None:
        """Send the sources to the node. What an agent of an older protocol reported is forgotten:
        it reports nothing any more.
        """
        node = self._state.nodes.get(session.node_id)
        if node is not None and node.description.spoken >= BINDS_PROTOCOL:
            session.sources_changed(self._message)
        else:
            self._state.sources.forget(session.node_id)

    def _current(self) -> Message:
        paths = self._state.sources.watched
        return Message(bind_sources=dispatcher_pb2.BindSources(paths=paths))
