"""Options that an earlier agent would ignore keep tasks off its node."""

import pytest
from msgspec.structs import replace

from controller.brain.scheduler.options import sets_new_options
from pyswarm_core.ids import ServiceId
from pyswarm_core.limits import LAYERS_PROTOCOL
from pyswarm_core.specs import Limits, NetworkAttachment, Resources, TaskSpec
from tests.fixtures import build
from tests.fixtures.brain_world import BrainWorld
from tests.fixtures.build import dirty

PLAIN = build.template()
OLD = LAYERS_PROTOCOL - 1
KNOWN = (
    PLAIN,
    replace(PLAIN, resources=Resources(limits=Limits(nano_cpus=1, memory_bytes=1, pids=1))),
    replace(PLAIN, networks=(NetworkAttachment(target="host", aliases=("a",), ip="10.0.0.1"),)),
    replace(PLAIN, container_spec=replace(PLAIN.container_spec, tty=True, user="a")),
)
NEW = (
    replace(PLAIN, resources=Resources(limits=Limits(cpu_shares=2))),
    replace(PLAIN, resources=Resources(oom_kill_disable=True)),
    replace(PLAIN, networks=(NetworkAttachment(target="net", task_ip="10.0.0.9"),)),
    replace(PLAIN, container_spec=replace(PLAIN.container_spec, privileged=True)),
    replace(PLAIN, container_spec=replace(PLAIN.container_spec, mac_address="02:42:00:00:00:01")),
)


@pytest.mark.parametrize("template", KNOWN)
def test_what_every_agent_applies_is_no_new_option(template: TaskSpec) -> None:
    assert not sets_new_options(template)


@pytest.mark.parametrize("template", NEW)
def test_what_an_earlier_agent_ignores_is_one(template: TaskSpec) -> None:
    assert sets_new_options(template)


def test_a_task_with_a_new_option_waits_for_an_agent_that_applies_it() -> None:
    old, service = build.node("n1", protocol=OLD), build.service("web", spec=NEW[0])
    world = BrainWorld(build.state(nodes=[old], services=[service]))
    world.settle(dirty("web"))
    (task,) = world.state.tasks_of_service(ServiceId("web")).slots[1]
    assert "have an agent that ignores options of its tasks (protocol below 7)" in (
        task.detail.message
    )
    world.put_node(build.node("n1"))
    world.settle(dirty("web", nodes=["n1"]))
    (task,) = world.state.tasks_of_service(ServiceId("web")).slots[1]
    assert task.node_id == "n1"
