"""Agents are told which containers' writable layers they keep, and which they are to delete."""

from msgspec.structs import replace

from agent.assignment import parse_assignment
from controller.leader.assignments import Source, Templates, full_assignments
from controller.leader.overlays import OverlayMessages
from controller.leader.persistence.turn import Turn
from controller.leader.sessions import Sessions
from pyswarm_core.api.v1 import dispatcher_pb2
from pyswarm_core.api.v1.dispatcher_pb2 import Assignments
from pyswarm_core.decision import Writes
from pyswarm_core.ids import NodeId, ServiceId, TaskId
from pyswarm_core.indexes.columns import unpack_ids
from pyswarm_core.kinds import NODE, SERVICE
from pyswarm_core.objects import Service
from pyswarm_core.state import State
from tests.fixtures import build
from tests.unit.controller.leader.endpoints.build import known

N1, N2 = NodeId("n1"), NodeId("n2")
DB, WEB = ServiceId("db".ljust(25, "0")), ServiceId("web".ljust(25, "0"))


def pinned(service_id: ServiceId, node_id: NodeId) -> Service:
    return replace(build.container("c"), id=service_id, pinned_node=node_id)


def source_of(state: State) -> Source:
    endpoints = known(state)
    return Source(state, endpoints, OverlayMessages(state, endpoints), Templates())


def full(state: State, node_id: NodeId) -> Assignments:
    parts = [part for part in full_assignments(source_of(state), node_id, {}, 1) if part]
    assert all(not part.HasField("layers") for part in parts[:-1])
    return parts[-1]


def test_a_full_set_names_the_layers_of_its_node_and_also_that_it_has_none() -> None:
    removing = replace(pinned(WEB, N1), removing=True)
    state = build.state(nodes=build.nodes(2), services=[pinned(DB, N1), removing])
    message = full(state, N1)
    assert message.HasField("layers")
    assert sorted(map(str, unpack_ids(message.layers.kept))) == [DB, WEB]
    assert full(state, N2).HasField("layers")
    assert full(state, N2).layers.kept == b""


def test_while_a_service_is_unreadable_no_agent_deletes_layers() -> None:
    """Such a service may be a container, whose layer an agent would delete: it is not named."""
    state = build.state(nodes=build.nodes(1), services=[pinned(DB, N1)])
    state.unreadable[NODE.object_name(N2)] = "garbage"
    assert full(state, N1).HasField("layers")
    state.unreadable[SERVICE.object_name(WEB)] = "garbage"
    message = full(state, N1)
    assert not message.HasField("layers")
    assert parse_assignment(message).kept_layers is None
    state.unreadable.clear()
    assert full(state, N1).HasField("layers")


def test_a_node_is_told_of_a_removed_container_and_of_one_that_is_pinned_elsewhere() -> None:
    state = build.state(nodes=build.nodes(2), services=[pinned(DB, N1), pinned(WEB, N1)])
    sessions, turn = Sessions(()), Turn()
    session = sessions.open(N1)
    assert [*session.take(source_of(state), 1)]
    writes = Writes(objects=(pinned(WEB, N2),), removed=(SERVICE.object_name(DB),))
    turn.applying(state, writes)
    state.apply(writes)
    sessions.services_changed(state, turn.services, turn.layers)
    (message,) = session.take(source_of(state), 2)
    assert message is not None
    assert sorted(map(str, unpack_ids(message.assignments.layers.removed))) == [DB, WEB]
    assert not message.assignments.layers.kept


def test_a_container_that_returned_to_its_node_keeps_its_layer() -> None:
    state = build.state(nodes=build.nodes(2), services=[pinned(DB, N1)])
    sessions = Sessions(())
    session = sessions.open(N1)
    assert [*session.take(source_of(state), 1)]
    sessions.services_changed(state, (), [(N1, DB)])
    (message,) = session.take(source_of(state), 2)
    assert message is not None
    assert not message.assignments.layers.removed


def test_a_template_says_that_it_is_a_containers() -> None:
    removes_itself = replace(build.container("c", auto_remove=True), id=DB)
    state = build.state(services=[removes_itself, replace(build.service("web"), id=WEB)])
    templates = Templates()
    for service_id, is_container in ((DB, True), (WEB, False)):
        made = templates.template(state, service_id, 1)
        message = dispatcher_pb2.TaskTemplate.FromString(made)
        assert message.HasField("container") is is_container
        assert message.container.auto_remove is is_container


def test_agents_are_told_the_new_name_of_a_container() -> None:
    task = build.task("c.1", node="n1", task_id=TaskId("t1".ljust(25, "0")))
    task = replace(task, service_id=DB)
    state = build.state(nodes=build.nodes(1), services=[pinned(DB, N1)], tasks=[task])
    source, turn, sessions = source_of(state), Turn(), Sessions(())
    session = sessions.open(N1)
    assert [*session.take(source, 1)]
    old = state.services[DB]
    writes = Writes(objects=(replace(old, spec=replace(old.spec, name="renamed")),))
    turn.applying(state, writes)
    state.apply(writes)
    sessions.tasks_changed(turn.tasks)
    (message,) = session.take(source, 2)
    assert message is not None
    (template,) = message.assignments.templates
    assert dispatcher_pb2.TaskTemplate.FromString(template).service_name == "renamed"


def test_changes_say_nothing_of_layers_that_did_not_change() -> None:
    state = build.state(nodes=build.nodes(1), services=[pinned(DB, N1)])
    session = Sessions(()).open(N1)
    assert [*session.take(source_of(state), 1)]
    session.overlays_changed()
    (message,) = session.take(source_of(state), 2)
    assert message is not None
    assert not message.assignments.HasField("layers")
