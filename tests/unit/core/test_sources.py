"""Which sources of binds are watched, and what is known of them."""

from collections.abc import Iterable

import pytest
from msgspec.structs import replace

from pyswarm_core.decision import Writes
from pyswarm_core.ids import NodeId, ServiceId
from pyswarm_core.indexes.sources import Presence
from pyswarm_core.kinds import NODE, SERVICE
from pyswarm_core.objects import Service
from pyswarm_core.state import State
from pyswarm_core.volumes import limits
from pyswarm_core.volumes.limits import BIND_SOURCES_BYTES, BIND_SOURCES_MAX, BIND_SOURCES_WAIT
from pyswarm_core.volumes.mounts import Mount, MountType
from tests.fixtures import build


def binding(name: str, *sources: str) -> Service:
    made = build.service(name)
    mounts = tuple(
        Mount(type=MountType.BIND, source=source, target=f"/m{number}")
        for number, source in enumerate(sources)
    )
    template = made.spec.task_template
    container = replace(template.container_spec, mounts=mounts)
    return replace(
        made, spec=replace(made.spec, task_template=replace(template, container_spec=container))
    )


def put(state: State, *services: Service) -> None:
    state.apply(Writes(objects=services))


def removed(state: State, names: Iterable[str]) -> None:
    state.apply(Writes(removed=tuple(SERVICE.object_name(ServiceId(name)) for name in names)))


def watched(state: State) -> list[str]:
    return list(state.sources.watched)


def test_the_sources_of_present_specs_are_watched() -> None:
    state = build.state(services=[binding("a", "/x", "/x", "/y"), binding("b", "/y")])
    assert watched(state) == ["/x", "/y"]
    before = state.sources.version
    put(state, binding("c", "/x"))
    assert state.sources.version == before
    put(state, binding("a", "/z"))
    assert (watched(state), state.sources.version > before) == (["/x", "/y", "/z"], True)
    removed(state, "bc")
    assert watched(state) == ["/z"]
    removed(state, "a")
    assert watched(state) == []


def test_at_most_so_many_are_watched_and_others_take_free_places() -> None:
    state = build.state()
    for number in range(BIND_SOURCES_MAX + 2):
        put(state, binding(f"s{number}", f"/p{number}"))
    assert len(watched(state)) == BIND_SOURCES_MAX == 1024
    assert f"/p{BIND_SOURCES_MAX}" not in watched(state)
    removed(state, ["s7", f"s{BIND_SOURCES_MAX}"])
    assert len(watched(state)) == BIND_SOURCES_MAX
    assert f"/p{BIND_SOURCES_MAX + 1}" in watched(state)


def test_at_most_so_many_bytes_are_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    assert BIND_SOURCES_BYTES == 256 * 1024
    state = build.state()
    long = ["/" + letter * 4000 for letter in "abcdefghij"]
    monkeypatch.setattr("pyswarm_core.indexes.sources.BIND_SOURCES_BYTES", 5 * 4001)
    for number, path in enumerate(long):
        put(state, binding(f"s{number}", path))
    assert watched(state) == long[:5]
    removed(state, ["s0", "s1"])
    assert watched(state) == long[2:7]


def test_tasks_wait_three_seconds_for_reports() -> None:
    assert BIND_SOURCES_WAIT == 3 * 10**9
    assert limits.ALLOWED_PATHS_MAX == 64


def test_reports_are_columns_by_row_and_go_with_their_node() -> None:
    state = build.state(nodes=build.nodes(3), services=[binding("a", "/x"), binding("b", "/x")])
    known = state.sources
    told = {"/x": Presence.PRESENT, "/unasked": Presence.PRESENT}
    assert list(known.report(NodeId("n2"), told)) == ["a", "b"]
    assert known.report(NodeId("n2"), told) == {}
    rows = state.node_table.rows

    def presence(node_id: str) -> int:
        return int(known.column("/x")[rows[NodeId(node_id)]])

    assert [presence(name) for name in ("n1", "n2", "n3")] == [0, Presence.PRESENT, 0]
    assert not known.column("/unasked").any()
    row = rows[NodeId("n2")]
    state.apply(Writes(removed=(NODE.object_name(NodeId("n2")),)))
    assert not known.column("/x").any()
    put_back = build.node("n9")
    state.apply(Writes(objects=(put_back,)))
    assert rows[put_back.id] == row
    assert presence("n9") == Presence.UNKNOWN
    known.report(NodeId("gone"), {"/x": Presence.ABSENT})
    assert not known.column("/x").any()


def test_a_report_costs_its_own_sources() -> None:
    """A thousand nodes' reports of one source touch no other column."""
    state = build.state(nodes=build.nodes(1000), services=[binding("a", "/x"), binding("b", "/y")])
    column = state.sources.column("/y")
    for number in range(1, 1001):
        state.sources.report(NodeId(f"n{number}"), {"/x": Presence.PRESENT})
    assert state.sources.column("/y") is column
    assert int((state.sources.column("/x") == Presence.PRESENT).sum()) == 1000
