"""What a node is told: all of its tasks and overlays, and then only what changed."""

from msgspec.structs import replace

from controller.assignments import Changes, Templates, changed_assignments, full_assignments
from pyswarm_core.api.v1 import dispatcher_pb2
from pyswarm_core.codec import from_proto
from pyswarm_core.columns import unpack_ids
from pyswarm_core.decision import Writes
from pyswarm_core.ids import NetworkId, NodeId, TaskId
from pyswarm_core.objects import Block, Network, Task
from pyswarm_core.specs import RegistryLogin, TaskSpec
from pyswarm_core.state import State
from pyswarm_core.states import TaskState
from tests.fixtures import build

N1, N2 = NodeId("n1"), NodeId("n2")
NET = NetworkId("net")


def identified(name: str) -> TaskId:
    return TaskId(name.ljust(25, "0"))


def task(name: str, node: str = "n1", state: TaskState = TaskState.RUNNING) -> Task:
    return build.task(name, node=node, state=state, task_id=identified(name))


def overlay_net() -> Network:
    plain = build.network("net")
    blocks = (
        Block(cidr="10.128.0.0/26", node_number=1),
        Block(cidr="10.128.0.64/26", node_number=2),
    )
    return Network(id=plain.id, spec=plain.spec, subnet=plain.subnet, vni=plain.vni, blocks=blocks)


def world(*tasks: Task) -> State:
    return build.state(
        nodes=build.nodes(2),
        networks=[overlay_net()],
        services=[
            build.service("web"),
            build.service("net-web", spec=build.template(networks=["net"])),
        ],
        tasks=tasks,
    )


def changes(*names: str, sent: tuple[NetworkId, ...] = ()) -> Changes:
    found = Changes(sent)
    found.tasks.update((identified(name), None) for name in names)
    return found


def test_a_full_set_names_every_stored_task_of_the_node_ended_ones_too() -> None:
    state = world(task("web.1"), task("web.2", state=TaskState.FAILED), task("web.3", node="n2"))
    message = full_assignments(state, N1, Templates(), 7)
    assert message.full
    assert message.revision == 7
    assert unpack_ids(message.ids) == [identified("web.1"), identified("web.2")]
    assert list(message.slots) == [1, 2]
    assert list(message.desired_states) == [TaskState.RUNNING, TaskState.RUNNING]


def test_tasks_of_one_spec_version_share_a_template() -> None:
    state = world(task("web.1"), task("web.2"), task("net-web.1"))
    message = full_assignments(state, N1, Templates(), 1)
    assert list(message.template_index) == [0, 0, 1]
    template = dispatcher_pb2.TaskTemplate.FromString(message.templates[0])
    assert template.service_name == "web"
    assert from_proto(TaskSpec, template.spec) == state.services["web"].spec.task_template  # type: ignore[index]


def test_a_template_that_is_no_longer_kept_is_sent_without_a_spec() -> None:
    state = world(build.task("web.1", node="n1", version=0, task_id=identified("web.1")))
    state.apply(Writes(services=(build.service("web", version=9, template_version=9),)))
    message = full_assignments(state, N1, Templates(), 1)
    assert not dispatcher_pb2.TaskTemplate.FromString(message.templates[0]).HasField("spec")


def test_a_delta_names_what_changed_and_what_is_gone() -> None:
    state = world(task("web.1"), task("web.2"))
    message = changed_assignments(state, N1, changes("web.2", "web.9"), Templates(), 3)
    assert not message.full
    assert unpack_ids(message.ids) == [identified("web.2")]
    assert unpack_ids(message.removed_ids) == [identified("web.9")]


def test_an_overlay_has_own_blocks_and_peers_with_addresses() -> None:
    message = full_assignments(world(task("net-web.1")), N1, Templates(), 1)
    (overlay,) = message.overlays
    assert (overlay.network_id, overlay.vni, overlay.node_number) == ("net", 4096, 1)
    assert list(overlay.local_blocks) == ["10.128.0.0/26"]
    assert [(peer.node_number, peer.addr, list(peer.blocks)) for peer in overlay.peers] == [
        (2, "192.0.2.2", ["10.128.0.64/26"])
    ]


def test_a_node_without_a_live_task_on_a_network_is_not_told_of_it() -> None:
    state = world(task("web.1"), task("net-web.1", state=TaskState.SHUTDOWN))
    assert not full_assignments(state, N1, Templates(), 1).overlays


def test_the_first_task_of_a_network_brings_its_overlay_and_the_second_does_not() -> None:
    state = world(task("net-web.1"))
    first = changed_assignments(state, N1, changes("net-web.1"), Templates(), 1)
    again = changed_assignments(state, N1, changes("net-web.1", sent=(NET,)), Templates(), 1)
    assert [overlay.network_id for overlay in first.overlays] == ["net"]
    assert not again.overlays


def test_a_changed_network_is_sent_again() -> None:
    state = world(task("net-web.1"))
    changed = changes(sent=(NET,))
    changed.networks[NET] = None
    changed.overlays_may_differ = True
    message = changed_assignments(state, N1, changed, Templates(), 1)
    assert [overlay.network_id for overlay in message.overlays] == ["net"]


def test_an_overlay_goes_when_its_last_task_has_ended() -> None:
    state = world(task("net-web.1", state=TaskState.COMPLETE))
    changed = changes(sent=(NET,))
    changed.overlays_may_differ = True
    message = changed_assignments(state, N1, changed, Templates(), 1)
    assert list(message.removed_overlays) == ["net"]


def test_templates_are_made_once() -> None:
    state, templates = world(task("web.1")), Templates()
    service_id = next(iter(state.services))
    assert templates.template(state, service_id, 1) is templates.template(state, service_id, 1)


def test_a_task_that_still_waits_for_room_on_its_node_is_not_told_to_it() -> None:
    state = world(task("web.1", state=TaskState.PENDING))
    full = full_assignments(state, N1, Templates(), 1)
    assert (full.ids, list(full.overlays)) == (b"", [])
    changes = Changes()
    changes.tasks[identified("web.1")] = None
    changed = changed_assignments(state, N1, changes, Templates(), 1)
    assert (changed.ids, changed.removed_ids, list(changed.overlays)) == (b"", b"", [])


def test_a_template_brings_the_login_for_its_image() -> None:
    state = world(task("web.1"))
    (service,) = (s for s in state.services.values() if s.spec.name == "web")
    login = RegistryLogin(registry="registry.test", username="ann", password="right")
    state.apply(Writes(services=(replace(service, registry_login=login),)))
    (sent,) = full_assignments(state, N1, Templates(), 1).templates
    template = dispatcher_pb2.TaskTemplate.FromString(sent)
    assert from_proto(RegistryLogin, template.registry_login) == login
