"""Tasks run where the sources of their binds are, and wait for no report for ever."""

from collections.abc import Iterable
from typing import Any

import pytest
from msgspec.structs import replace

from controller.brain.demands import current_demand
from controller.brain.scheduler.explain import message
from controller.brain.scheduler.ledger import Ledger
from controller.brain.scheduler.remedy import remedies
from pyswarm_core.clock import Instant, after
from pyswarm_core.decision import Writes
from pyswarm_core.ids import NodeId, ServiceId
from pyswarm_core.indexes.sources import Presence
from pyswarm_core.objects import Node, Service
from pyswarm_core.states import Availability, TaskState
from pyswarm_core.volumes.limits import BIND_SOURCES_WAIT, BINDS_PROTOCOL
from pyswarm_core.volumes.mounts import BindOptions, Mount, MountType
from tests.fixtures import build
from tests.fixtures.brain_world import BrainWorld
from tests.fixtures.build import NOW, node, nodes

PRESENT, ABSENT, UNCLEAR = Presence.PRESENT, Presence.ABSENT, Presence.UNCLEAR


def binding(made: Service, *sources: str, **options: Any) -> Service:
    mounts = tuple(
        Mount(
            type=MountType.BIND,
            source=source,
            target=f"/m{number}",
            bind_options=BindOptions(**options) if options else None,
        )
        for number, source in enumerate(sources)
    )
    template = made.spec.task_template
    container = replace(template.container_spec, mounts=mounts)
    spec = replace(made.spec, task_template=replace(template, container_spec=container))
    return replace(made, spec=spec, updated_at=Instant(NOW))


def service(*sources: str, replicas: int | None = 1, **options: Any) -> Service:
    return binding(build.service("web", replicas=replicas), *sources, **options)


def world(made: Service, hosts: Iterable[Node] = ()) -> BrainWorld:
    return BrainWorld(build.state(nodes=hosts or nodes(3), services=[made]))


def report(found: BrainWorld, node_id: str, **presences: Presence) -> dict[ServiceId, None]:
    """`x=PRESENT` is about /x."""
    told = {f"/{name}": presence for name, presence in presences.items()}
    return found.state.sources.report(NodeId(node_id), told)


def where(found: BrainWorld) -> list[str]:
    return sorted(task.node_id for task in found.desired("web"))


def messages(found: BrainWorld) -> set[str]:
    return {task.detail.message for task in found.desired("web")}


def wait(found: BrainWorld, duration: int) -> None:
    found.now = after(found.now, duration)


def test_tasks_run_where_the_source_is() -> None:
    found = world(service("/x", replicas=4))
    report(found, "n1", x=ABSENT)
    report(found, "n2", x=PRESENT)
    report(found, "n3", x=PRESENT)
    found.settle()
    assert where(found) == ["n2", "n2", "n3", "n3"]
    assert found.wakes == {}


def test_they_wait_for_all_reports_so_that_the_first_node_does_not_get_all() -> None:
    found = world(service("/x", replicas=3))
    found.settle()
    assert where(found) == ["", "", ""]
    assert messages(found) == {
        "no suitable node: 3 of 3 nodes wait for nodes to report whether they have the bind source"
        " /x"
    }
    assert found.wakes == {ServiceId("web"): after(NOW, BIND_SOURCES_WAIT)}
    for name in ("n1", "n2"):
        assert report(found, name, x=PRESENT) == {ServiceId("web"): None}
        found.settle()
        assert where(found) == ["", "", ""]
    report(found, "n3", x=PRESENT)
    found.settle()
    assert where(found) == ["n1", "n2", "n3"]


def test_a_report_that_never_comes_is_waited_for_once_and_its_node_is_the_last_choice() -> None:
    found = world(service("/x", replicas=2))
    report(found, "n3", x=PRESENT)
    found.settle()
    assert where(found) == ["", ""]
    wait(found, BIND_SOURCES_WAIT)
    found.settle()
    assert where(found) == ["n3", "n3"]


def test_without_any_report_the_task_is_placed() -> None:
    found = world(service("/x", replicas=3))
    found.settle()
    wait(found, BIND_SOURCES_WAIT - 1)
    found.settle()
    assert where(found) == ["", "", ""]
    wait(found, 1)
    found.settle()
    assert where(found) == ["n1", "n2", "n3"]


def test_a_path_that_hangs_on_a_node_is_not_waited_for() -> None:
    found = world(service("/x", replicas=1))
    for name, presence in (("n1", UNCLEAR), ("n2", ABSENT), ("n3", ABSENT)):
        report(found, name, x=presence)
    found.settle()
    assert where(found) == ["n1"]


def test_a_node_that_has_it_comes_before_one_where_it_hangs() -> None:
    found = world(service("/x", replicas=2))
    for name, presence in (("n1", UNCLEAR), ("n2", PRESENT), ("n3", ABSENT)):
        report(found, name, x=presence)
    found.settle()
    assert where(found) == ["n2", "n2"]


def test_an_old_agent_is_not_waited_for_and_comes_last() -> None:
    old = node("n1", protocol=BINDS_PROTOCOL - 1)
    found = world(service("/x"), [old, node("n2")])
    report(found, "n2", x=ABSENT)
    found.settle()
    assert where(found) == ["n1"]
    found = world(service("/x"), [old, node("n2")])
    report(found, "n2", x=PRESENT)
    found.settle()
    assert where(found) == ["n2"]


def test_a_new_node_is_waited_for_alone() -> None:
    found = world(service("/x", replicas=2))
    for name in ("n1", "n2", "n3"):
        report(found, name, x=PRESENT)
    found.settle()
    wait(found, 10 * BIND_SOURCES_WAIT)
    found.state.apply(Writes(objects=(node("n4", since=found.now),)))
    scaled = replace(service("/x", replicas=6), updated_at=Instant(NOW))
    found.state.apply(Writes(objects=(scaled,)))
    found.settle()
    assert where(found) == ["n1", "n1", "n2", "n2", "n3", "n3"]


@pytest.mark.parametrize(
    ("having", "told"),
    [
        ((), "no node has /x"),
        (("n3",), "n3 has it"),
        (("n3", "n4"), "n3, n4 have it"),
        (("n3", "n4", "n5", "n6", "n7"), "n3, n4, n5 and 2 more have it"),
    ],
)
def test_why_names_the_path_and_the_nodes_that_have_it(having: tuple[str, ...], told: str) -> None:
    hosts = nodes(2)
    hosts += [node(name, availability=Availability.DRAIN) for name in having]
    found = world(service("/x"), hosts)
    for host in hosts:
        report(found, host.id, x=PRESENT if host.id in having else ABSENT)
    found.settle()
    (text,) = messages(found)
    assert f"2 of {len(hosts)} nodes lack the bind source /x: {told}" in text
    assert where(found) == [""]
    web = found.state.services[ServiceId("web")]
    demand = current_demand(found.state, web, found.now)
    ledger = Ledger(found.state.node_table)
    assert message(ledger, demand) == text
    made = "make /x on n1, or mount web's files with bind-create-src or from a volume"
    assert made in remedies(ledger, demand, "web")


def test_each_of_several_sources_is_needed() -> None:
    found = world(service("/x", "/y"))
    report(found, "n1", x=PRESENT, y=ABSENT)
    report(found, "n2", x=ABSENT, y=PRESENT)
    report(found, "n3", x=PRESENT, y=PRESENT)
    found.settle()
    assert where(found) == ["n3"]


def test_a_source_that_is_made_is_needed_nowhere() -> None:
    found = world(service("/x", create_mountpoint=True))
    assert list(found.state.sources.watched) == []
    found.settle()
    assert where(found) == ["n1"]


def test_a_template_is_a_source_of_each_task_s_own() -> None:
    found = world(service("/srv/{{.Task.Slot}}"))
    assert list(found.state.sources.watched) == []
    found.settle()
    assert where(found) == ["n1"]


def test_the_task_of_a_global_service_waits_on_a_node_without_it() -> None:
    found = world(service("/x", replicas=None))
    for name, presence in (("n1", ABSENT), ("n2", PRESENT), ("n3", PRESENT)):
        report(found, name, x=presence)
    found.settle()
    placed = [task.node_id for task in found.desired("web") if task.state is TaskState.ASSIGNED]
    assert sorted(placed) == ["n2", "n3"]
    assert "its node cannot take it: 1 of 1 nodes lack the bind source /x: n2, n3 have it" in (
        messages(found)
    )


def test_a_container_whose_source_no_node_has_is_left_to_the_agent() -> None:
    """It rejects the task with Docker's error, and `run` ends."""
    found = BrainWorld(
        build.state(nodes=nodes(2), services=[binding(build.container("web"), "/x")])
    )
    report(found, "n1", x=ABSENT)
    found.settle()
    assert where(found) == [""]
    report(found, "n2", x=ABSENT)
    found.settle()
    assert where(found) == ["n1"]


def test_a_container_runs_where_its_source_is() -> None:
    found = BrainWorld(
        build.state(nodes=nodes(2), services=[binding(build.container("web"), "/x")])
    )
    report(found, "n1", x=ABSENT)
    report(found, "n2", x=PRESENT)
    found.settle()
    assert where(found) == ["n2"]


def test_a_source_that_appears_lets_a_waiting_task_run() -> None:
    found = world(service("/x"))
    for name in ("n1", "n2", "n3"):
        report(found, name, x=ABSENT)
    found.settle()
    assert where(found) == [""]
    assert report(found, "n2", x=ABSENT) == {}  # no news
    concerned = report(found, "n2", x=PRESENT)
    found.settle(build.dirty(*concerned))
    assert where(found) == ["n2"]
