"""Volumes that others make after a service of a stack named them: its tasks do not mount them.

The user of the service may be limited to its stack, and was asked about what existed then.
"""

import pytest
from msgspec.structs import replace

from controller.api.changes.services import (
    Rollback,
    Update,
    create_service,
    rollback_service,
    update_service,
)
from controller.brain.scheduler.filters import homes
from pyswarm_core.decision import Writes
from pyswarm_core.identity.users import STACK_LABEL
from pyswarm_core.ids import NodeId
from pyswarm_core.kinds import VOLUME
from pyswarm_core.objects import Service
from pyswarm_core.specs import GlobalMode, ServiceSpec
from pyswarm_core.volumes.volume import VolumeId
from tests.fixtures import build
from tests.fixtures.brain_world import BrainWorld
from tests.fixtures.build import NOW, with_mount
from tests.unit.controller.brain import test_volumes as shared
from tests.unit.controller.brain.test_volumes import copies, world

WHY = (
    "no suitable node: volume data is of stack db, and was made after service web_front named it:"
    " if it is to mount that, run pyswarm service update --force web_front as a user who may"
)


def where(found: BrainWorld, name: str) -> list[str]:
    return shared.where(found, found.state.service_of_name[name])


def messages(found: BrainWorld, name: str) -> list[str]:
    return shared.messages(found, found.state.service_of_name[name])


def spec(name: str = "data", stack: str = "web") -> ServiceSpec:
    labels = {STACK_LABEL: stack} if stack else {}
    return with_mount(replace(build.service("web_front").spec, labels=labels), name)


def created(found: BrainWorld, made: ServiceSpec) -> Service:
    writes, service = create_service(found.state, made, (), NOW, found.ids)
    found.state.apply(writes)
    return service


def volume(found: BrainWorld, name: str = "data", stack: str = "db") -> None:
    labels = {STACK_LABEL: stack} if stack else {}
    found.state.apply(Writes(objects=(build.volume(name, labels=labels),)))


def updated(found: BrainWorld, service: Service, made: ServiceSpec) -> Service:
    present = found.state.services[service.id]
    update = Update(service.id, present.version, made)
    writes, changed = update_service(found.state, update, (), NOW, found.ids)
    found.state.apply(writes)
    return changed


def again(made: ServiceSpec) -> ServiceSpec:
    number = made.task_template.force_update + 1
    return replace(made, task_template=replace(made.task_template, force_update=number))


@pytest.mark.parametrize("stack", ["db", ""])
def test_a_volume_that_was_made_later_is_not_mounted(stack: str) -> None:
    found = world()
    created(found, spec())
    volume(found, stack=stack)
    found.converge()
    owner = f"stack {stack}" if stack else "no stack"
    assert messages(found, "web_front") == [WHY.replace("stack db", owner)]
    assert copies(found) == {"data": ()}


def test_a_user_who_may_has_the_service_mount_it() -> None:
    found = world()
    service = created(found, spec())
    volume(found)
    found.converge()
    updated(found, service, again(service.spec))
    found.converge()
    assert where(found, "web_front")


def test_a_volume_that_was_there_is_mounted() -> None:
    found = world()
    volume(found)
    created(found, spec())
    found.converge()
    assert where(found, "web_front")


@pytest.mark.parametrize("stack", ["web", ""])
def test_volumes_of_the_stack_and_services_without_one_go_on(stack: str) -> None:
    found = world()
    created(found, spec(stack=stack))
    volume(found, stack="web")
    found.converge()
    assert where(found, "web_front")


def test_what_its_first_task_makes_is_its_own() -> None:
    found = world()
    created(found, spec())
    found.converge()
    assert where(found, "web_front")


def test_a_volume_that_another_service_makes_is_not_its_own() -> None:
    """Also one that the same decision makes."""
    found = world(hosts=[build.node("n1", max_tasks=1)])
    first = replace(spec(stack="db"), name="db_main")
    created(found, first)
    created(found, spec())
    found.converge()
    assert where(found, "db_main") == ["n1"]
    assert messages(found, "web_front") == [WHY]


def test_nodes_that_join_later_show_no_volume_of_others() -> None:
    found = world(hosts=[build.node("n1")])
    made = replace(spec("data-{{.Node.Hostname}}"), mode=GlobalMode())
    created(found, made)
    volume(found, "data-n2")
    found.state.apply(Writes(objects=(build.node("n2", number=2),)))
    found.converge()
    assert where(found, "web_front") == [NodeId("n1")]


def test_slots_with_a_volume_of_others_do_not_hold_up_the_rest() -> None:
    found = world()
    service = created(found, spec("data-{{.Task.Slot}}"))
    volume(found, "data-2")
    grown = replace(service.spec, mode=replace(service.spec.mode, replicas=1))
    assert updated(found, service, grown).volumes_of_others == ()
    # A larger number of replicas is a change of its user, who is asked about all slots.
    grown = replace(service.spec, mode=replace(service.spec.mode, replicas=3))
    assert updated(found, service, grown).volumes_of_others == ("data-2",)
    found.converge()
    assert len(where(found, "web_front")) == 3


def test_what_a_service_may_mount_outlives_specs_that_do_not() -> None:
    found = world()
    volume(found)
    service = created(found, spec())
    plain = replace(spec(), task_template=build.service("web_front").spec.task_template)
    changed = updated(found, service, plain)
    assert changed.volumes_of_others == ("data",)
    rollback = Rollback(service.id)
    writes, back = rollback_service(found.state, rollback, (), NOW, found.ids)
    found.state.apply(writes)
    assert back.volumes_of_others == ("data",)
    found.converge()
    assert where(found, "web_front")


def test_one_that_was_removed_is_forgotten() -> None:
    found = world()
    volume(found)
    service = created(found, spec())
    found.state.apply(Writes(removed=(VOLUME.object_name(VolumeId("data")),)))
    assert updated(found, service, again(service.spec)).volumes_of_others == ()


def test_no_home_is_asked_of_a_service_that_is_not_known() -> None:
    found = world()
    volume(found)
    assert homes(found.state, ("data",), lambda _: None) == ()
