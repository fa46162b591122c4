"""Lookup, filters, lists and progress, as users ask for them."""

import msgspec
import pytest

from controller.api.queries import lists as queries
from controller.api.queries import views
from controller.api.queries.filters import has_label
from controller.api.queries.lists import TaskQuery
from controller.api.queries.lookup import find, find_task, task_name
from controller.api.queries.progress import SLOTS_SHOWN, service_progress
from controller.api.queries.views import desired_tasks
from controller.brain.slices import finish
from pyswarm_core.clock import SECOND, Instant
from pyswarm_core.errors import InvalidArgument, NotFound
from pyswarm_core.ids import NodeId, ServiceId
from pyswarm_core.kinds import NETWORK, NODE, SERVICE
from pyswarm_core.objects import NodeResources, Service, Task, TaskDetail
from pyswarm_core.state import State
from pyswarm_core.states import Availability, NodeState, TaskState
from tests.fixtures import build
from tests.fixtures.build import NOW

replace = msgspec.structs.replace
WEB = ServiceId("web")


def service(name: str, identifier: str, **labels: str) -> object:
    made = build.service(name)
    return replace(made, id=ServiceId(identifier), spec=replace(made.spec, labels=labels))


def test_a_ref_is_an_id_a_name_or_one_ids_beginning() -> None:
    state = build.state(
        services=[service("web", "abc1"), service("abc1x", "abd2"), service("db", "abd3")]  # type: ignore[list-item]
    )
    assert find(state, SERVICE, "abc1").spec.name == "web"
    assert find(state, SERVICE, "abc1x").spec.name == "abc1x"
    assert find(state, SERVICE, "abc").spec.name == "web"
    with pytest.raises(NotFound, match='"abd" is ambiguous: it could be abd2, abd3'):
        find(state, SERVICE, "abd")


@pytest.mark.parametrize("ref", ["", "nope", "x" * 10_000_000, "a\0b", "\x1b[2J", "wéb"])
def test_a_ref_that_names_nothing_is_quoted_harmlessly(ref: str) -> None:
    with pytest.raises(NotFound, match="no such service: ") as caught:
        find(build.state(services=[build.service("web")]), SERVICE, ref)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 200


def test_a_hostname_that_two_nodes_have_is_ambiguous() -> None:
    twin = replace(build.node("n2"), description=build.node("n1").description)
    state = build.state(nodes=[build.node("n1"), twin])
    assert find(state, NODE, "n1").id == "n1"
    state = build.state(nodes=[replace(build.node("n1"), id=NodeId("n3")), twin])
    with pytest.raises(NotFound, match=r"ambiguous: it could be n3 \(ready\), n2 \(ready\)"):
        find(state, NODE, "n1")


def test_a_slots_name_means_its_newest_task() -> None:
    old = build.task("web.1", task_id="old", state=TaskState.FAILED, node="n1")
    new = build.task("web.1", task_id="new", node="n2")
    state = build.state(services=[build.service("web")], tasks=[old, new], nodes=build.nodes(2))
    assert finish(find_task(state, "web.1")).id == "new"
    assert finish(find_task(state, "ol")).id == "old"
    with pytest.raises(NotFound):
        finish(find_task(state, "web.2"))


def test_a_global_services_tasks_are_named_by_node() -> None:
    task = build.task("agent.2", node="n2")
    state = build.state(
        services=[build.service("agent", replicas=None)], tasks=[task], nodes=build.nodes(2)
    )
    assert task_name(state, task) == "agent.n2"
    assert finish(find_task(state, "agent.n2")).id == task.id


def test_values_of_one_filter_are_alternatives_and_filters_all_hold() -> None:
    state = build.state(
        services=[
            service("web", "a1", tier="front"),  # type: ignore[list-item]
            service("webdb", "a2", tier="back"),  # type: ignore[list-item]
            service("db", "a3", tier="back"),  # type: ignore[list-item]
        ]
    )

    def names(*filters: str) -> list[str]:
        return [
            state.services[i].spec.name for i in finish(queries.find_all(state, SERVICE, filters))
        ]

    assert names() == ["db", "web", "webdb"]
    assert names("name=web") == ["web", "webdb"]
    assert names("name=web", "name=db") == ["db", "web", "webdb"]
    assert names("name=web", "label=tier=back") == ["webdb"]
    assert names("label=tier", "id=a3") == ["db"]
    assert names("mode=global") == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("web", "expected KEY=VALUE"),
        ("colour=red", "expected one of id, label, mode, name"),
        ("mode=both", "expected one of replicated, global"),
        ("x" * 1_000_000 + "=1", "expected one of"),
    ],
)
def test_a_filter_that_does_not_exist_is_refused(text: str, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message) as caught:
        finish(queries.find_all(build.state(), SERVICE, [text]))
    assert len(str(caught.value)) < 300


def test_nodes_are_filtered_by_role_label_and_state() -> None:
    state = build.state(
        nodes=[
            build.node("n2", labels={"zone": "a"}, state=NodeState.DOWN),
            build.node("n1", role="manager"),
        ]
    )

    def ids(*filters: str) -> list[str]:
        return [*finish(queries.find_all(state, NODE, filters))]

    assert ids() == ["n1", "n2"]
    assert ids("role=manager") == ["n1"]
    with pytest.raises(InvalidArgument, match="worker, manager; did you mean manager"):
        ids("role=manger")
    with pytest.raises(InvalidArgument, match="did you mean drain"):
        ids("availability=drian")
    with pytest.raises(InvalidArgument, match="did you mean role"):
        ids("rol=manager")
    assert ids("node.label=zone=a") == ["n2"]
    assert ids("membership=accepted", "status=down") == ["n2"]
    assert ids("membership=pending") == []


def test_numbers_in_names_are_in_order() -> None:
    names = ["web-10", "10", "web-2", "db", "web-1b", "2", "web"]
    state = build.state(services=[build.service(name) for name in names])
    ordered = ["2", "10", "db", "web", "web-1b", "web-2", "web-10"]
    assert [*finish(queries.find_all(state, SERVICE, []))] == ordered
    tasks = [build.task(f"{name}.1") for name in names]
    state = build.state(services=[*state.services.values()], tasks=tasks)
    found = finish(queries.find_tasks(state, TaskQuery()))
    assert [state.tasks[one].service_id for one in found] == ordered


def test_nodes_are_in_the_order_of_their_names() -> None:
    names = ["host3", "host10", "host1", "db"]
    nodes = [build.node(name, number=number) for number, name in enumerate(names, 1)]
    found = finish(queries.find_all(build.state(nodes=nodes), NODE, []))
    assert [*found] == ["db", "host1", "host3", "host10"]


def test_networks_are_filtered_by_part_of_their_name() -> None:
    state = build.state(networks=[build.network("shop_app"), build.network("db")])
    found = finish(queries.find_all(state, NETWORK, ["name=app", "driver=overlay", "scope=swarm"]))
    assert found == ["shop_app"]


def test_tasks_are_listed_by_slot_with_the_newest_first() -> None:
    old = build.task("web.1", task_id="a", node="n1", state=TaskState.FAILED, created=NOW)
    new = build.task("web.1", task_id="b", node="n2", created=NOW + 1)
    other = build.task("db.1", task_id="c", node="n1", desired=TaskState.SHUTDOWN)
    state = build.state(
        services=[build.service("web"), build.service("db")],
        tasks=[old, new, other],
        nodes=build.nodes(2),
    )

    def ids(**query: tuple[str, ...]) -> list[str]:
        return [*finish(queries.find_tasks(state, TaskQuery(**query)))]

    assert ids() == ["c", "b", "a"]
    assert ids(services=("web",)) == ["b", "a"]
    assert ids(nodes=("n1",)) == ["c", "a"]
    assert ids(services=("web",), nodes=("n1",)) == ["a"]
    assert ids(tasks=("b", "web.1")) == ["b"]
    assert ids(filters=("desired-state=running",)) == ["b", "a"]
    assert ids(filters=("node=n2", "service=web", "name=web.1")) == ["b"]
    with pytest.raises(NotFound):
        ids(services=("nope",))


def test_labels_match_by_key_or_by_value() -> None:
    assert has_label({"a": "1"}, "a")
    assert has_label({"a": "1"}, "a=1")
    assert not has_label({"a": "1"}, "a=")


def test_a_global_service_has_one_desired_task_per_eligible_node() -> None:
    spec = build.template(constraints=["node.labels.zone==a"])
    agent = build.service("agent", replicas=None, spec=spec)
    zone = {"zone": "a"}
    state = build.state(
        nodes=[
            build.node("n1", labels=zone),
            build.node("n2"),
            build.node("n3", labels=zone, availability=Availability.DRAIN),
            build.node("n4", labels=zone, availability=Availability.PAUSE),
        ],
        services=[agent],
        tasks=[build.task("agent.4", node="n4")],
    )
    assert desired_tasks(state, agent) == 2


def test_a_service_has_converged_when_exactly_what_is_desired_runs() -> None:
    web = build.service("web", replicas=2, version=2, template_version=2)
    new = [build.task(f"web.{n}", node="n1", version=2) for n in (1, 2)]
    surplus = build.task("web.3", node="n1", version=2, desired=TaskState.REMOVE)
    outdated = replace(new[1], spec_version=1)

    def converged(*tasks: object) -> bool:
        state = build.state(nodes=build.nodes(1), services=[web], tasks=tasks)  # type: ignore[arg-type]
        return service_progress(state, WEB, NOW).converged

    assert converged(*new)
    assert not converged(new[0])
    assert not converged(new[0], outdated)
    assert not converged(*new, surplus)
    assert converged(*new, replace(surplus, state=TaskState.SHUTDOWN))


def test_progress_shows_first_what_does_not_run_and_why() -> None:
    detail = TaskDetail(error="no such image")
    failed = build.task("web.2", task_id="old", node="n1", state=TaskState.REJECTED, detail=detail)
    waiting = build.task("web.2", task_id="new", node="n1", state=TaskState.READY)
    state = build.state(
        nodes=build.nodes(1),
        services=[build.service("web", replicas=2)],
        tasks=[build.task("web.1", node="n1"), failed, waiting],
    )
    progress = service_progress(state, WEB, NOW)
    assert [(s.slot, s.state, s.error) for s in progress.slots] == [
        (2, TaskState.READY, "no such image"),
        (1, TaskState.RUNNING, ""),
    ]
    assert (progress.running, progress.desired, progress.alive) == (1, 2, 2)


def test_progress_of_an_update_tells_no_old_failure() -> None:
    failed = build.task(
        "web.1", task_id="a", node="n1", state=TaskState.FAILED, detail=TaskDetail(error="exit 137")
    )
    replaced = build.task("web.1", task_id="b", node="n1", state=TaskState.SHUTDOWN)
    coming = build.task("web.1", task_id="c", node="n1", state=TaskState.READY)
    state = build.state(
        nodes=build.nodes(1), services=[build.service("web")], tasks=[failed, replaced, coming]
    )
    slots = service_progress(state, WEB, NOW).slots
    assert [(s.state, s.error) for s in slots] == [(TaskState.READY, "")]


def test_progress_says_why_a_slot_waits_for_its_restart_delay() -> None:
    detail = TaskDetail(error="no ESP")
    rejected = build.task(
        "web.1", node="n1", state=TaskState.REJECTED, desired=TaskState.SHUTDOWN, detail=detail
    )
    surplus = replace(rejected, id="other", slot=2, desired_state=TaskState.REMOVE)
    state = build.state(
        nodes=build.nodes(1), services=[build.service("web")], tasks=[rejected, surplus]
    )
    slots = service_progress(state, WEB, NOW).slots
    assert [(s.slot, s.state, s.error) for s in slots] == [(1, TaskState.REJECTED, "no ESP")]


def test_progress_of_a_large_service_is_one_page() -> None:
    tasks = [build.task(f"web.{n}", state=TaskState.PENDING) for n in range(1, 200)]
    state = build.state(services=[build.service("web", replicas=199)], tasks=tasks)
    assert len(service_progress(state, WEB, NOW).slots) == SLOTS_SHOWN


def test_a_service_that_left_is_gone() -> None:
    assert service_progress(build.state(), WEB, NOW).gone


def test_nobody_waits_for_what_a_lost_host_may_still_run() -> None:
    web = build.service("web", replicas=1)
    lost = build.task("web.1", task_id="old", node="n1", desired=TaskState.SHUTDOWN)
    new = build.task("web.1", task_id="new", node="n2")
    hosts = [build.node("n1", state=NodeState.DOWN), build.node("n2")]
    moved = build.state(nodes=hosts, services=[web], tasks=[lost, new])
    assert service_progress(moved, WEB, NOW).converged
    removed = replace(web, removing=True)
    leaving = replace(new, desired_state=TaskState.REMOVE)
    state = build.state(nodes=hosts, services=[removed], tasks=[lost, leaving])
    assert (service_progress(state, WEB, NOW).alive, service_progress(state, WEB, NOW).gone) == (
        1,
        False,
    )
    state = build.state(nodes=hosts, services=[removed], tasks=[lost])
    assert service_progress(state, WEB, NOW).gone


FAILED, REJECTED, COMPLETE = TaskState.FAILED, TaskState.REJECTED, TaskState.COMPLETE
EXIT_1 = TaskDetail(error="non-zero exit (1)", exit_code=1)


def ends(*states: TaskState, newest: TaskState, slot: int = 1) -> list[Task]:
    """A slot's tasks: ended ones, then the newest."""
    tasks = [
        build.task(
            f"web.{slot}", task_id=f"{slot}-{number}", node="n1", state=state, restarts=number,
            desired=TaskState.SHUTDOWN, detail=EXIT_1,
        )
        for number, state in enumerate(states)
    ]  # fmt: skip
    last = build.task(
        f"web.{slot}", task_id=f"{slot}-new", node="n1", state=newest, restarts=len(states),
        detail=EXIT_1 if newest in (FAILED, REJECTED) else TaskDetail(),
    )  # fmt: skip
    return [*tasks, last]


def verdict(tasks: list[Task], **policy: object) -> tuple[bool, int, str]:
    web = build.service("web", replicas=1, spec=build.template(**policy))  # type: ignore[arg-type]
    found = service_progress(
        build.state(nodes=build.nodes(1), services=[web], tasks=tasks), ServiceId("web"), NOW
    )
    return found.converged, found.completed, found.failure


@pytest.mark.parametrize("condition", ["none", "on-failure"])
def test_a_one_shot_that_completed_has_converged(condition: str) -> None:
    assert verdict(ends(newest=COMPLETE), condition=condition) == (True, 1, "")


@pytest.mark.parametrize(
    ("tasks", "policy", "told"),
    [
        (ends(newest=FAILED), {"condition": "none"}, "web.1 failed: non-zero exit (1), and it is"),
        (ends(newest=REJECTED), {"condition": "none"}, "web.1 was rejected: non-zero exit (1)"),
        (ends(FAILED, newest=FAILED), {"max_attempts": 1}, "all 1 restart attempts are used up"),
        (ends(newest=FAILED), {"delay": 3600 * SECOND}, "has ended once; at last it failed"),
        (ends(FAILED, newest=FAILED), {"delay": 31 * SECOND}, "has ended 2 times"),
        (ends(COMPLETE, newest=COMPLETE), {"max_attempts": 1}, "web.1 ended with exit code 0, and"),
        (ends(FAILED, FAILED, newest=FAILED), {}, "ended 3 times; at last it failed: non-zero"),
        (ends(FAILED, FAILED, FAILED, newest=TaskState.READY), {}, "ended 3 times"),
        (ends(*[REJECTED] * 3, newest=TaskState.PREPARING), {}, "at last it was rejected"),
        (ends(*[COMPLETE] * 3, newest=TaskState.READY), {}, "at last it ended with exit code 0"),
    ],
)
def test_a_slot_that_will_not_run_fails_the_wait(
    tasks: list[Task], policy: dict[str, object], told: str
) -> None:
    converged, completed, failure = verdict(tasks, **policy)
    assert (converged, completed) == (False, 0)
    assert told in failure


@pytest.mark.parametrize(
    "tasks",
    [
        ends(FAILED, FAILED, newest=TaskState.READY),
        ends(FAILED, FAILED, FAILED, newest=TaskState.RUNNING),
        ends(newest=FAILED),
        [replace(task, spec_version=0) for task in ends(*[FAILED] * 5, newest=FAILED)],
        [
            replace(task, desired_state=TaskState.REMOVE)
            for task in ends(*[FAILED] * 5, newest=FAILED)
        ],
    ],
)
def test_a_slot_that_may_yet_run_does_not(tasks: list[Task]) -> None:
    assert verdict(tasks)[1:] == (0, "")


def test_failures_from_before_the_change_do_not_count() -> None:
    tasks = ends(*[FAILED] * 5, newest=TaskState.READY)
    web = replace(build.service("web"), updated_at=NOW)
    state = build.state(nodes=build.nodes(1), services=[web], tasks=tasks)
    assert service_progress(state, WEB, NOW).failure == ""


def test_a_short_history_ends_the_wait_too() -> None:
    tasks = ends(FAILED, newest=TaskState.READY)
    tasks[-1] = replace(tasks[-1], restarts=9)
    state = build.state(nodes=build.nodes(1), services=[build.service("web")], tasks=tasks)
    spec = replace(state.cluster.spec, task_history_limit=1)
    state.cluster = replace(state.cluster, spec=spec)
    assert "has ended 9 times" in service_progress(state, WEB, NOW).failure


def test_a_global_one_shot_counts_on_eligible_nodes_only() -> None:
    spec = build.template(condition="none")
    web = build.service("web", replicas=None, spec=spec)
    done = build.task("web.1", node="n1", state=COMPLETE, desired=TaskState.SHUTDOWN)
    left = build.task("web.2", node="n2", state=FAILED, desired=TaskState.SHUTDOWN)
    hosts = [build.node("n1"), replace(build.node("n2"), number=2)]
    drained = replace(hosts[1], spec=replace(hosts[1].spec, availability=Availability.DRAIN))
    for nodes, converged in (([hosts[0], drained], True), (hosts, False)):
        state = build.state(nodes=nodes, services=[web], tasks=[done, left])
        progress = service_progress(state, WEB, NOW)
        assert (progress.converged, bool(progress.failure)) == (converged, not converged)
        assert progress.completed == 1


def test_more_failed_slots_are_counted() -> None:
    tasks = ends(newest=FAILED) + ends(newest=FAILED, slot=2)
    _, _, failure = verdict(tasks, condition="none")
    assert failure.endswith("(and 1 more such task)")


def test_a_task_that_follows_a_failed_one_counts_once_it_has_proven_itself() -> None:
    tasks = ends(FAILED, newest=TaskState.RUNNING)
    state = build.state(nodes=build.nodes(1), services=[build.service("web")], tasks=tasks)
    proven = Instant(NOW + 5 * SECOND)
    assert not service_progress(state, WEB, Instant(proven - 1)).converged
    assert service_progress(state, WEB, proven).converged
    earlier = replace(build.service("web"), updated_at=NOW)
    state = build.state(nodes=build.nodes(1), services=[earlier], tasks=tasks)
    assert service_progress(state, WEB, NOW).converged


def test_a_service_whose_number_cannot_be_worked_out_is_listed_as_quarantined(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = views.desired_tasks

    def torn(state: State, service: Service) -> int:
        return 1 // 0 if service.id == "torn" else real(state, service)

    monkeypatch.setattr(views, "desired_tasks", torn)
    services = [build.service(name) for name in ("calm", "torn", "web")]
    state = build.state(services=services)
    ids = finish(queries.find_all(state, SERVICE, ()))
    listed = (views.listed_service(state, service_id, quarantined={"web"}) for service_id in ids)
    found = [summary for summary in listed if summary is not None]
    assert [(one.service.id, one.desired, one.quarantined) for one in found] == [
        ("calm", 1, False),
        ("torn", 0, True),
        ("web", 1, True),
    ]


def test_a_node_that_was_removed_while_it_was_changed_has_no_load() -> None:
    node = build.node("n1")
    view = views.node_view(build.state(nodes=()), node)
    assert (view.node, view.tasks, view.reserved) == (node, 0, NodeResources())
