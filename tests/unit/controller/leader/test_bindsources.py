"""The exchange with agents about sources of binds: what is sent to whom, and what a report does."""

import asyncio

from msgspec.structs import replace

from controller.leader.agenda import Agenda
from controller.leader.bindsources import BindSourceReports
from controller.leader.sessions import NodeSession, Sessions
from pyswarm_core.api.v1.dispatcher_pb2 import FoundSources
from pyswarm_core.decision import Writes
from pyswarm_core.ids import NodeId, ServiceId
from pyswarm_core.indexes.sources import Presence
from pyswarm_core.kinds import SERVICE
from pyswarm_core.objects import Service
from pyswarm_core.state import State
from pyswarm_core.states import TaskState
from pyswarm_core.volumes.limits import BINDS_PROTOCOL
from pyswarm_core.volumes.mounts import Mount, MountType
from tests.fixtures import build

N1, OLD = NodeId("n1"), NodeId("n2")


def binding(name: str, source: str) -> Service:
    made = build.service(name)
    template = made.spec.task_template
    mount = Mount(type=MountType.BIND, source=source, target="/x")
    container = replace(template.container_spec, mounts=(mount,))
    template = replace(template, container_spec=container)
    return replace(made, spec=replace(made.spec, task_template=template))


class World:
    def __init__(self, *services: Service) -> None:
        old = build.node("n2", protocol=BINDS_PROTOCOL - 1)
        self.state: State = build.state(nodes=[build.node("n1"), old], services=services)
        self.sessions = Sessions(())
        self.agenda = Agenda()
        self.work = asyncio.Event()
        self.reports = BindSourceReports(self.state, self.sessions, self.agenda, self.work)

    def open(self, node_id: NodeId) -> NodeSession:
        return self.reports.opened(self.sessions.open(node_id))

    def presence(self, source: str, node_id: NodeId = N1) -> int:
        return int(self.state.sources.column(source)[self.state.node_table.rows[node_id]])


def sent(session: NodeSession) -> list[list[str]]:
    return [list(one.bind_sources.paths) for one in session.take_notices()]


def test_a_session_begins_with_all_sources() -> None:
    world = World(binding("a", "/x"), binding("b", "/y"))
    session = world.open(N1)
    assert session.wake.is_set()
    assert sent(session) == [["/x", "/y"]]
    assert sent(session) == []


def test_without_sources_nothing_is_sent() -> None:
    world = World()
    session = world.open(N1)
    world.reports.send()
    assert sent(session) == []


def test_a_change_is_sent_once_and_replaces_what_is_not_sent_yet() -> None:
    world = World(binding("a", "/x"))
    session = world.open(N1)
    sent(session)
    world.state.apply(Writes(objects=(binding("b", "/y"),)))
    world.reports.send()
    world.state.apply(Writes(removed=(SERVICE.object_name(ServiceId("a")),)))
    world.reports.send()
    world.reports.send()
    assert sent(session) == [["/y"]]
    world.state.apply(Writes(removed=(SERVICE.object_name(ServiceId("b")),)))
    world.reports.send()
    assert sent(session) == [[]]


def test_an_old_agent_is_sent_nothing_and_its_former_reports_are_forgotten() -> None:
    world = World(binding("a", "/x"))
    world.reports.found(OLD, FoundSources(present=["/x"]))
    session = world.open(OLD)
    assert sent(session) == []
    assert world.presence("/x", OLD) == Presence.UNKNOWN


def test_a_report_wakes_the_services_that_wait_for_a_node() -> None:
    world = World(binding("a", "/x"), binding("b", "/x"))
    task = replace(build.task("a.1", node=""), service_id=ServiceId("a"))
    waiting = replace(task, state=TaskState.PENDING)
    world.state.apply(Writes(tasks=[waiting]))
    told = FoundSources(present=["/x"], absent=["/unasked"], unclear=["/y"])
    world.reports.found(N1, told)
    assert list(world.agenda.services) == ["a"]
    assert world.work.is_set()
    assert world.presence("/x") == Presence.PRESENT
    world.agenda.services.clear()
    world.work.clear()
    world.reports.found(N1, told)
    assert not world.agenda.services
    assert not world.work.is_set()
    world.reports.found(N1, FoundSources(unclear=["/x"]))
    assert world.presence("/x") == Presence.UNCLEAR
    assert list(world.agenda.services) == ["a"]
