"""A volume for each slot: `data-{{.Task.Slot}}`. Each is where its slot's first task ran."""

import pytest
from msgspec.structs import replace

from controller.api.changes.volumes import remove_volume, users_of
from controller.brain import mounts
from controller.brain.decide import decide
from controller.brain.demands import current_demand
from controller.brain.mounts import (
    names_of_nodes,
    task_volumes,
    volumes_of_spec,
    volumes_of_task,
)
from controller.brain.orchestrator.plan import Plan
from controller.brain.orchestrator.replicated_service import reconcile
from controller.brain.revisions import made_from, revised
from controller.brain.scheduler.explain import message
from controller.brain.scheduler.ledger import Ledger
from controller.brain.volumework import ready, ready_to_copy, writers
from pyswarm_core.decision import Writes
from pyswarm_core.errors import Conflict
from pyswarm_core.ids import NodeId, ServiceId
from pyswarm_core.limits import TEMPLATES_PROTOCOL
from pyswarm_core.objects import PreviousSpec, Service
from pyswarm_core.specs import ReplicatedMode, ServiceSpec, UpdateConfig, UpdateOrder
from pyswarm_core.states import Availability, NodeState, is_terminal
from pyswarm_core.templates import specs
from pyswarm_core.templates.context import Context
from pyswarm_core.templates.specs import expand_of_mount
from pyswarm_core.volumes.mounts import VolumeOptions
from pyswarm_core.volumes.volume import VolumeWork, VolumeWorkKind
from tests.fixtures import build
from tests.fixtures.brain_world import BrainWorld
from tests.fixtures.build import NOW, all_dirty, node, nodes, with_mount
from tests.unit.controller.brain.test_volumes import copies, messages, mounting, moved, where, world

OWN = "data-{{.Task.Slot}}"


def with_env(spec: ServiceSpec, *env: str) -> ServiceSpec:
    container = replace(spec.task_template.container_spec, env=env)
    return replace(spec, task_template=replace(spec.task_template, container_spec=container))


def change(found: BrainWorld, spec: ServiceSpec) -> None:
    service = replace(found.state.services[ServiceId("db")], updated_at=found.now)
    changed = revised(found.state, service, spec, service.created_at)
    found.state.apply(Writes(objects=(changed,)))


def scaled(found: BrainWorld, replicas: int) -> None:
    service = found.state.services[ServiceId("db")]
    change(found, replace(service.spec, mode=ReplicatedMode(replicas=replicas)))
    found.converge()


def homes(found: BrainWorld) -> dict[str, str]:
    """The node of each slot's volume, which its task must be on."""
    service = found.state.services[ServiceId("db")]
    by_name = copies(found)
    shown = dict[str, str]()
    for task in found.desired("db"):
        (name,) = volumes_of_task(found.state, service, task)
        assert by_name[name] == (task.node_id,)
        shown[name] = task.node_id
    return shown


def test_each_slot_has_its_own_volume_and_they_are_spread() -> None:
    found = world(mounting("db", OWN, replicas=3))
    found.converge()
    assert sorted(homes(found)) == ["data-1", "data-2", "data-3"]
    assert len(set(homes(found).values())) == 3, "only one slot is bound to each volume's node"


def test_more_slots_than_nodes() -> None:
    found = world(mounting("db", OWN, replicas=50), hosts=nodes(4))
    found.converge()
    assert len(homes(found)) == 50
    assert set(homes(found).values()) == {"n1", "n2", "n3", "n4"}


def test_scaling_down_and_up_again_finds_the_same_volumes() -> None:
    found = world(mounting("db", OWN, replicas=6))
    found.converge()
    before = homes(found)
    scaled(found, 1)
    assert len(homes(found)) == 1
    scaled(found, 6)
    assert homes(found) == before


def test_an_update_returns_each_slot_to_its_volume() -> None:
    service = mounting("db", OWN, replicas=4)
    config = UpdateConfig(parallelism=0, order=UpdateOrder.START_FIRST)
    found = world(replace(service, spec=replace(service.spec, update_config=config)))
    found.converge()
    before = homes(found)
    spec = found.state.services[ServiceId("db")].spec
    change(found, with_env(spec, "A=b"))
    found.converge()
    assert homes(found) == before
    assert {task.spec_version for task in found.desired("db")} == {2}


def test_a_node_that_is_down_keeps_its_slots_and_only_those() -> None:
    found = world(mounting("db", OWN, replicas=6))
    found.converge()
    before = homes(found)
    moved(found, "n2", state=NodeState.DOWN)
    found.converge()
    assert homes(found) == before
    scaled(found, 8)
    assert {name: at for name, at in homes(found).items() if name in before} == before
    assert "n2" not in [at for name, at in homes(found).items() if name not in before]


def test_a_drained_node_makes_its_slots_wait_with_their_own_reasons() -> None:
    found = world(mounting("db", OWN, replicas=6))
    found.converge()
    before = homes(found)
    moved(found, "n1", availability=Availability.DRAIN)
    found.converge()
    gone = sorted(name for name, at in before.items() if at == "n1")
    host = found.state.nodes[NodeId("n1")].description.hostname
    told = sorted(text for text in messages(found, "db") if text)
    expected = (f"volume {name} has its only copy on {host}, which is drained" for name in gone)
    assert told == sorted(expected)
    assert len(where(found, "db")) == 4, "the others run"
    scaled(found, 9)
    assert len(where(found, "db")) == 7, "new slots are not kept waiting by those that wait"
    moved(found, "n1", availability=Availability.ACTIVE)
    found.converge()
    assert {name: at for name, at in homes(found).items() if name in before} == before


def test_many_slots_whose_node_is_drained_do_not_keep_back_the_others() -> None:
    found = world(mounting("db", OWN, replicas=90), hosts=nodes(2))
    found.converge()
    moved(found, "n1", availability=Availability.DRAIN)
    found.converge()
    before = len(where(found, "db"))
    assert before == 45
    scaled(found, 120)
    assert len(where(found, "db")) == before + 30


def test_why_names_the_volume_of_the_slot() -> None:
    found = world(mounting("db", OWN, replicas=2))
    found.converge()
    at = homes(found)
    moved(found, at["data-2"], availability=Availability.DRAIN)
    service = found.state.services[ServiceId("db")]
    demand = current_demand(found.state, service, found.now, 2)
    assert "volume data-2 has its only copy" in message(Ledger(found.state.node_table), demand)
    demand = current_demand(found.state, service, found.now, 1)
    assert message(Ledger(found.state.node_table), demand) == ""


def test_a_volume_of_all_slots_beside_their_own() -> None:
    service = mounting("db", OWN, replicas=3)
    found = world(replace(service, spec=with_mount(service.spec, "shared", "/s")))
    found.converge()
    ((home,),) = {copies(found)["shared"]}
    assert where(found, "db") == [home] * 3
    assert set(copies(found)) == {"data-1", "data-2", "data-3", "shared"}


def test_a_name_without_the_slot_is_one_volume() -> None:
    found = world(mounting("db", "{{.Service.Name}}-data", replicas=3))
    found.converge()
    ((name, (home,)),) = copies(found).items()
    assert name == "db-data"
    assert where(found, "db") == [home] * 3


def test_volumes_that_exist_decide_for_their_slots() -> None:
    made = [build.volume("data-1", "n3"), build.volume("data-3", "n1"), build.volume("data-4")]
    found = world(mounting("db", OWN, replicas=5), volumes=made)
    found.converge()
    assert homes(found)["data-1"] == "n3"
    assert homes(found)["data-3"] == "n1"


def test_a_slot_writes_alone() -> None:
    found = world(mounting("db", OWN, replicas=2))
    found.converge()
    before = homes(found)
    spec = found.state.services[ServiceId("db")].spec
    change(found, with_env(spec, "A=b"))
    for _ in range(60):
        found.state.apply(found.decide().writes)
        for task in list(found.state.tasks.values()):
            found.advance(task)
        living = [one.slot for one in found.state.tasks.values() if not is_terminal(one.state)]
        assert len(living) == len(set(living))
    found.converge()
    assert homes(found) == before


def test_the_slots_of_a_global_service_belong_to_nodes() -> None:
    service = build.service("agents", replicas=None)
    spec = with_mount(service.spec, "cache-{{.Node.Hostname}}-{{.Task.Slot}}")
    found = world(replace(service, spec=spec))
    found.converge()
    hosts = found.state.nodes.values()
    assert copies(found) == {
        f"cache-{one.description.hostname}-{one.id}": (one.id,) for one in hosts
    }


def test_removal_asks_every_slot() -> None:
    found = world(mounting("db", OWN, replicas=3))
    found.converge()
    state = found.state
    with pytest.raises(Conflict, match=r"volume is in use - \[db\]"):
        remove_volume(state, "data-2", found.now)
    assert list(users_of(state, "data-4")) == []
    scaled(found, 1)
    left = set(volumes_of_spec(state, (db := state.services[ServiceId("db")]), db.spec))
    assert len(left) == 1
    (free, *_) = {"data-1", "data-2", "data-3"} - left
    _, removed = remove_volume(state, free, found.now)
    assert removed.removing


def test_agents_of_an_earlier_protocol_get_no_task_with_templates() -> None:
    service = build.service("web", replicas=1)
    service = replace(service, spec=with_env(service.spec, "A={{.Task.Slot}}"))
    found = world(service, hosts=[node("n1", protocol=TEMPLATES_PROTOCOL - 1)])
    found.converge()
    (told,) = messages(found, "web")
    assert f"expands no templates (protocol below {TEMPLATES_PROTOCOL})" in told


def labelled(service: Service, **labels: str) -> Service:
    return replace(service, spec=replace(service.spec, labels=labels))


def test_labels_that_a_template_names_are_part_of_what_tasks_are_made_of() -> None:
    plain = build.service("web")
    named = replace(plain, spec=with_env(plain.spec, "A={{index .Service.Labels `a`}}"))
    assert made_from(labelled(plain, a="1").spec) == made_from(labelled(plain, a="2").spec)
    assert made_from(labelled(named, a="1").spec) != made_from(labelled(named, a="2").spec)


def test_one_decision_looks_at_a_bounded_number_of_slots() -> None:
    found = world(mounting("db", OWN, replicas=2_500), hosts=[node("n1", max_tasks=1)])
    plan = found.decide()
    assert plan.work.slots == 0
    service = found.state.services[ServiceId("db")]
    planned = Plan(service)
    reconcile(planned, found.state, (), found.now)
    assert (len(planned.vacancies), planned.missing) == (2_000, 500)


def test_a_decision_looks_at_fewer_slots_the_more_templates_their_volumes_have() -> None:
    service = mounting("db", OWN, replicas=2_500)
    (mount,) = service.spec.task_template.container_spec.mounts
    labels = {f"l{number}": "{{.Task.Slot}}" for number in range(9)}
    changed = replace(mount, volume_options=VolumeOptions(labels=labels))
    container = replace(service.spec.task_template.container_spec, mounts=(changed,))
    template = replace(service.spec.task_template, container_spec=container)
    service = replace(service, spec=replace(service.spec, task_template=template))
    found = world(service, hosts=[node("n1", max_tasks=1)])
    planned = Plan(service)
    reconcile(planned, found.state, (), found.now)
    assert (len(planned.vacancies), planned.missing) == (200, 2_300)


def unreadable(template: str, replicas: int | None = None) -> Service:
    """A service whose template cannot be expanded for some tasks, which no validation shows."""
    return mounting("bad", template, replicas=replicas)


@pytest.mark.parametrize(
    "service",
    [
        unreadable('{{if eq .Node.Hostname "n2"}}{{.Service.Labels.none}}{{end}}data'),
        unreadable("{{if .Service.ID}}{{.Service.Labels.none}}{{end}}data", replicas=1),
    ],
)
def test_a_template_that_cannot_be_expanded_concerns_no_other_volume(service: Service) -> None:
    moving = replace(
        build.volume("other", "n1"),
        work=VolumeWork(kind=VolumeWorkKind.MOVE, to=NodeId("n2"), started_at=NOW),
    )
    found = world(service, volumes=[moving])
    assert ready(found.state) == [moving]
    assert not list(users_of(found.state, "other"))
    assert not list(writers(found.state, moving))
    assert remove_volume(found.state, "other", found.now)[0].objects
    decision = decide(found.state, all_dirty(found.state), found.now, found.ids)
    assert list(decision.failed) == ["bad"]


def test_the_tasks_for_which_a_template_can_be_expanded_are_known() -> None:
    service = unreadable('{{if eq .Node.Hostname "n2"}}{{.Service.Labels.none}}{{end}}data')
    found = world(service)
    assert set(volumes_of_spec(found.state, service, service.spec)) == {"data"}


@pytest.mark.parametrize(
    ("template", "expansions"),
    [
        ("cache-{{.Node.Hostname}}", 1),
        ("c-{{.Node.ID}}-{{.Task.Slot}}-{{.Node.Platform.OS}}-{{.Node.Platform.Architecture}}", 1),
        ("{{.Service.Name}}-{{.Service.ID}}-{{.Service.Labels.tier}}-{{.Node.Hostname}}", 1),
        ('{{if eq .Node.Hostname "n2"}}a{{else}}b{{end}}', 4),
        ("{{printf `%s` .Node.Platform}}", 4),
    ],
)
def test_the_volumes_of_nodes_are_named_as_those_of_their_tasks(
    monkeypatch: pytest.MonkeyPatch, template: str, expansions: int
) -> None:
    hosts = [node(f"n{n}", number=n) for n in range(1, 5)]
    service = mounting("db", template, replicas=None)
    service = replace(service, spec=replace(service.spec, labels={"tier": "back"}))
    found = world(service, hosts=hosts)
    expected = {
        one.number: task_volumes(found.state, service, service.spec, one.number, one.id)
        for one in hosts
    }
    counted: list[str] = []

    def expand(text: str, context: Context) -> str:
        counted.append(text)
        return expand_of_mount(text, context)

    monkeypatch.setattr(mounts, "expand_of_mount", expand)
    monkeypatch.setattr(specs, "expand_of_mount", expand)
    assert dict(names_of_nodes(found.state, service, service.spec)) == expected
    assert len(counted) == expansions


def test_the_users_of_a_volume_are_found_with_few_expansions(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A move asks for them several times a second: of nodes, and of specs that are kept."""
    service = mounting("db", "cache-{{.Node.Hostname}}", replicas=None)
    earlier = tuple(
        PreviousSpec(version=n, spec=replace(service.spec, labels={"n": str(n)}))
        for n in range(9, 0, -1)
    )
    found = world(replace(service, previous_specs=earlier), hosts=nodes(50))
    counted: list[str] = []

    def expand(text: str, context: Context) -> str:
        counted.append(text)
        return expand_of_mount(text, context)

    monkeypatch.setattr(mounts, "expand_of_mount", expand)
    monkeypatch.setattr(specs, "expand_of_mount", expand)
    assert ready_to_copy(found.state, build.volume("cache-other"))
    assert len(counted) == 1
