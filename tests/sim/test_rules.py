"""Rules that allow for more than one cause: what they still object to, and what they allow."""

from ipaddress import IPv4Network
from types import SimpleNamespace
from typing import Any, cast

import pytest
from msgspec.structs import replace

from pyswarm_core.clock import SECOND
from pyswarm_core.decision import Decision, Writes
from pyswarm_core.ids import NetworkId, TaskId
from pyswarm_core.objects import PreviousSpec, Service, Task, TaskAddress, TaskDetail
from pyswarm_core.specs import RestartCondition, UpdateConfig, UpdateOrder
from pyswarm_core.states import NodeState, TaskState, UpdateState
from tests.fixtures import build
from tests.sim.bases import UpdatesReturn
from tests.sim.drills import ends_unreplaced
from tests.sim.followed import Rollout, Slot
from tests.sim.hosts import Host
from tests.sim.marks import Marks
from tests.sim.placement import after, misplaced
from tests.sim.rollout_drill import Watched, down_in_return
from tests.sim.rules import Rule
from tests.sim.settled import Settled
from tests.sim.stops import Stops
from tests.sim.unique import TaskAddresses
from tests.sim.updates import completed, start_first
from tests.sim.view import Change, View

SHUTDOWN = TaskState.SHUTDOWN
MONITOR = 5 * SECOND


def _updated(condition: str = "any", state: UpdateState = UpdateState.UPDATING) -> Service:
    old = build.service("web")
    new = build.service(
        "web", spec=build.template("web:2", condition=condition), version=2, template_version=2
    )
    config = UpdateConfig(order=UpdateOrder.START_FIRST, monitor=MONITOR)
    new = build.updating(new, old.spec, config)
    assert new.update_status is not None
    return replace(new, update_status=replace(new.update_status, state=state))


def _ended(ran: int, state: TaskState = TaskState.COMPLETE) -> Task:
    detail = TaskDetail(ran=ran)
    return build.task("web.1", task_id="new", node="n1", version=2, state=state, detail=detail)


@pytest.mark.parametrize(("ran", "broken"), [(0, 1), (MONITOR - 1, 1), (MONITOR, 0)])
def test_an_old_task_that_serves_may_not_end_for_one_that_completed_too_early(
    ran: int, broken: int
) -> None:
    web, old = _updated(), build.task("web.1", task_id="old", node="n1")
    state = build.state(nodes=[build.node("n1")], services=[web], tasks=[old, _ended(ran)])
    decision = Decision(Writes(tasks=[replace(old, desired_state=SHUTDOWN)]))
    found = [rule for rule, _ in start_first(state, web, web, decision)]
    assert found == [Rule.START_FIRST] * broken


@pytest.mark.parametrize(
    ("condition", "state", "last"),
    [
        ("none", TaskState.FAILED, True),
        ("none", TaskState.SHUTDOWN, False),
        ("on-failure", TaskState.COMPLETE, True),
        ("on-failure", TaskState.FAILED, False),
        ("any", TaskState.COMPLETE, False),
    ],
)
def test_an_old_task_needs_no_successor_if_the_new_one_beside_it_is_not_restarted(
    condition: str, state: TaskState, *, last: bool
) -> None:
    old, web = build.task("web.1", task_id="old", node="n1"), _updated(condition)
    new = _ended(SECOND, state)
    assert ends_unreplaced(web, old, [old, new]) is last
    assert not ends_unreplaced(web, old, [old]), "there is no new one"
    assert not ends_unreplaced(web, new, [old, new]), "it is no old one"


FIRST = TaskId("first")


@pytest.mark.parametrize(
    ("slot", "restarts", "broken"),
    [
        (Slot(), 0, 1),
        (Slot(), 1, 0),
        (Slot(FIRST, may_have_failed=True, ended=True), 0, 0),
        (Slot(FIRST, ended=True), 0, 1),
        (Slot(FIRST, may_have_failed=True, told=True), 0, 1),
        (Slot(TaskId("web.1"), may_have_failed=True, ended=True), 0, 1),
    ],
)
def test_a_completed_update_waits_for_new_tasks_but_not_in_slots_whose_first_failed(
    slot: Slot, restarts: int, broken: int
) -> None:
    old, new = _updated(), _updated(state=UpdateState.COMPLETED)
    task = build.task("web.1", node="n1", version=2, state=TaskState.ASSIGNED)
    task = replace(task, restarts=restarts)
    state = build.state(nodes=[build.node("n1")], services=[old])
    known = Rollout((0, 0), {1: slot})
    found = [rule for rule, _ in completed(state, old, new, {1: [task]}, build.NOW, known=known)]
    assert found == [Rule.COMPLETED] * broken


NET = NetworkId("net")
HELD = TaskAddress(NET, "10.0.1.2")


class _Host:
    """What the rule about addresses asks of a host."""

    def __init__(self, name: str, *, ended: bool = False, lies: bool = False) -> None:
        self.node_id = name
        self.liar = object() if lies else None
        self._ended = ended
        self._lies = lies

    def record(self, task_id: str) -> Any:
        held = () if self._lies else (HELD,)
        return SimpleNamespace(ended=self._ended, detail=SimpleNamespace(addresses=held))

    def addresses(self, task_id: str, network_id: str) -> list[Any]:
        return [] if self._ended else [next(IPv4Network("10.0.1.2/32").hosts())]


def _addresses(*hosts: _Host, nodes: tuple[str, str] = ("n1", "n2")) -> list[str]:
    tasks = [
        build.task(f"web.{slot}", node=node, detail=TaskDetail(addresses=(HELD,)))
        for slot, node in enumerate(nodes, 1)
    ]
    view = SimpleNamespace(
        tasks={task.id: task for task in tasks},
        networks={NET: build.network("net")},
        nodes={node: build.node(node) for node in nodes},
    )
    change = SimpleNamespace(tasks=[(None, task) for task in tasks])
    rule = TaskAddresses({host.node_id: cast(Host, host) for host in hosts})
    return [*rule.broken_by(cast(Change, change), cast(View, view))]


def test_an_address_is_one_living_tasks_by_the_records_of_their_agents() -> None:
    assert _addresses(_Host("n1"), _Host("n2")) == ["tasks web.1 and web.2 have 10.0.1.2"]
    assert _addresses(_Host("n1")) != [], "a host that is not known"
    assert _addresses(_Host("n1"), nodes=("n1", "n1")) != []
    assert _addresses(_Host("n1", ended=True), _Host("n2")) == []
    assert _addresses(_Host("n1", lies=True), _Host("n2")) == []


def _stopped_by_users(state: NodeState) -> list[str]:
    stops, task = Stops(Marks(), {}), build.task("web.1", node="n1")
    stops.accepted[task.id] = None
    view = SimpleNamespace(
        tasks={task.id: task}, nodes={task.node_id: build.node("n1", state=state)}
    )
    return [*stops.still_running(cast(View, view))]


def test_a_task_that_its_users_stopped_has_ended_unless_its_node_is_down() -> None:
    assert len(_stopped_by_users(NodeState.READY)) == 1
    assert _stopped_by_users(NodeState.DOWN) == []


def _given_up(condition: RestartCondition, *tasks: Task) -> bool:
    settled = Settled(cast(View, None), [], [], cast(Any, None), Stops(Marks(), {}))
    web = _updated(condition.value, UpdateState.ROLLBACK_COMPLETED)
    return settled._given_up(web, list(tasks))


def test_a_slot_is_given_up_by_its_newest_task_or_by_the_one_that_filled_it_last() -> None:
    lost = build.task("web.1", task_id="old", node="n1", desired=SHUTDOWN)
    failed = _ended(SECOND, TaskState.FAILED)
    assert _given_up(RestartCondition.NONE, lost, failed)
    assert not _given_up(RestartCondition.ANY, lost, failed)
    assert not _given_up(RestartCondition.NONE, failed, replace(lost, spec_version=2))
    assert not _given_up(RestartCondition.NONE, replace(failed, spec_version=1), lost)


def test_a_task_of_an_earlier_template_is_placed_by_the_constraints_of_now() -> None:
    web = _updated(state=UpdateState.PAUSED)
    placement = build.template(constraints=["node.labels.zone==a"]).placement
    template = replace(web.spec.task_template, placement=placement)
    web = replace(web, spec=replace(web.spec, task_template=template))
    node = build.node("n1", labels={"zone": "b"})
    state = build.state(nodes=[node], services=[web])
    made = build.task("web.1", node="n1", version=1, state=TaskState.ASSIGNED)
    found = [rule for rule, _ in misplaced(after(state, Decision(Writes(tasks=[made]))))]
    assert found == [Rule.CONSTRAINTS]


@pytest.mark.parametrize(
    ("order", "state", "image", "restless", "down"),
    [
        (UpdateOrder.STOP_FIRST, UpdateState.ROLLBACK_STARTED, "api:1", False, 2),
        (UpdateOrder.STOP_FIRST, UpdateState.ROLLBACK_STARTED, "api:1", True, 3),
        (UpdateOrder.START_FIRST, UpdateState.ROLLBACK_STARTED, "api:1", False, 0),
        (UpdateOrder.STOP_FIRST, UpdateState.ROLLBACK_STARTED, "web:2", False, 0),
        (UpdateOrder.STOP_FIRST, UpdateState.UPDATING, "api:1", False, 0),
    ],
)
def test_slots_go_down_in_a_rollback_only_if_it_returns_to_another_template(
    order: UpdateOrder, state: UpdateState, image: str, *, restless: bool, down: int
) -> None:
    web = _updated(state=state)
    back = UpdateConfig(order=order, parallelism=2)
    spec = replace(web.spec, task_template=build.template(image), rollback_config=back)
    watched = Watched(web.id, "web", 3, web.spec, True, 0, web.spec_version, frozenset(), web.spec)
    assert down_in_return(replace(web, spec=spec), watched, restless=restless) == down


@pytest.mark.parametrize(("base", "broken"), [(1, False), (2, True)])
def test_an_update_returns_to_what_a_user_returned_to_in_the_same_turn(
    base: int, broken: bool
) -> None:
    """Version 3 was completed, 4 is version 1 again, and 5 came in the turn of 4."""
    kept = [
        PreviousSpec(version=number, spec=build.service("web", spec=build.template(image)).spec)
        for number, image in ((4, "web:1"), (3, "web:3"), (2, "web:2"), (1, "web:1"))
    ]
    old = build.service("web", spec=build.template("web:3"), version=3, template_version=3)
    new = build.service("web", spec=build.template("web:5"), version=5, template_version=5)
    new = build.updating(new, old.spec)
    assert new.update_status is not None
    status = replace(new.update_status, from_version=base, to_version=5)
    new = replace(new, update_status=status, previous_specs=tuple(kept))
    change = cast(Change, SimpleNamespace(of=lambda kind: [(old, new)]))
    assert bool([*UpdatesReturn().broken_by(change, cast(View, None))]) is broken
