"""Agents are told the ids of volumes that tasks mount, and which copies they are to delete."""

from msgspec.structs import replace

from agent.assignment import join_parts, parse_assignment
from controller.leader.assignments import Source, Templates, full_assignments
from controller.leader.overlays import OverlayMessages
from controller.leader.persistence.turn import Turn
from controller.leader.sessions import Sessions
from pyswarm_core.api.v1 import dispatcher_pb2
from pyswarm_core.decision import Writes
from pyswarm_core.ids import NodeId
from pyswarm_core.indexes.columns import unpack_ids
from pyswarm_core.kinds import VOLUME
from pyswarm_core.limits import ASSIGNMENT_CHANGES
from pyswarm_core.state import State
from pyswarm_core.volumes.volume import Volume, VolumeId
from tests.fixtures import build
from tests.unit.controller.leader.endpoints.build import known

N1, N2 = NodeId("n1"), NodeId("n2")


def named(name: str, *nodes: str, removing: bool = False) -> Volume:
    made = build.volume(name, *nodes)
    return replace(made, id=VolumeId(name.ljust(25, "0")), removing=removing)


def world(*volumes: Volume) -> State:
    web = build.service("web")
    web = replace(web, spec=build.with_mount(build.with_mount(web.spec, "data"), "logs", "/logs"))
    state = build.state(nodes=build.nodes(2), services=[web])
    state.apply(Writes(objects=volumes))
    return state


def source_of(state: State, templates: Templates | None = None) -> Source:
    endpoints = known(state)
    overlays = OverlayMessages(state, endpoints)
    return Source(state, endpoints, overlays, templates or Templates())


def volumes_in(templates: Templates, state: State) -> dict[str, str]:
    made = templates.template(state, build.service("web").id, 1)
    return dict(dispatcher_pb2.TaskTemplate.FromString(made).volumes)


def test_a_template_has_the_ids_of_the_volumes_that_exist_now() -> None:
    old = named("data", "n1")
    state, templates = world(old), Templates()
    assert volumes_in(templates, state) == {"data": old.id}
    new = replace(old, id=VolumeId("new".ljust(25, "0")))
    state.apply(Writes(objects=(new, named("logs")), removed=(VOLUME.object_name(old.id),)))
    assert volumes_in(templates, state) == {"data": new.id, "logs": named("logs").id}


def test_a_full_set_names_the_copies_that_its_node_is_to_delete() -> None:
    state = world(named("data", "n1"), named("a", "n1", removing=True), named("b", removing=True))
    for node_id, expected in ((N1, [named("a").id]), (N2, [])):
        parts = [part for part in full_assignments(source_of(state), node_id, {}, 1) if part]
        assert list(join_parts(list(map(parse_assignment, parts))).removed_volumes) == expected


def removed_in(session: object, state: State) -> list[str]:
    messages = [one for one in session.take(source_of(state), 2) if one]  # type: ignore[attr-defined]
    return list(unpack_ids(messages[-1].assignments.removed_volumes))


def test_nodes_with_copies_are_told_of_a_removal_once() -> None:
    state = world(named("data", "n1", "n2"), named("other", "n1"))
    sessions, turn = Sessions(()), Turn()
    of_node = {node_id: sessions.open(node_id) for node_id in (N1, N2)}
    for session in of_node.values():
        assert [*session.take(source_of(state), 1)]
    writes = Writes(objects=(named("data", "n1", "n2", removing=True),))
    turn.applying(state, writes)
    state.apply(writes)
    sessions.services_changed(state, (), (), turn.volumes)
    for session in of_node.values():
        assert removed_in(session, state) == [named("data").id]
    again = Turn()
    again.applying(state, Writes(objects=(named("data", "n1", removing=True),)))
    assert again.volumes == []


def test_very_many_removals_become_a_full_set() -> None:
    state = world()
    sessions = Sessions(())
    session = sessions.open(N1)
    assert [*session.take(source_of(state), 1)]
    for number in range(ASSIGNMENT_CHANGES + 1):
        session.volume_gone(VolumeId(f"{number:025d}"))
    (message,) = [one for one in session.take(source_of(state), 2) if one]
    assert message.assignments.full
