"""What a node is told: all of its tasks and overlays, and then only what changed."""

from collections.abc import Container

import pytest
from msgspec.structs import replace

from controller.brain.slices import finish
from controller.leader import assignments
from controller.leader.assignments import Parts, Source, Templates, Unsent
from controller.leader.overlays import OverlayMessages
from controller.leader.sessions import Sessions
from pyswarm_core.api.v1 import dispatcher_pb2
from pyswarm_core.api.v1.dispatcher_pb2 import Assignments, Overlay
from pyswarm_core.codec import from_proto
from pyswarm_core.decision import Writes
from pyswarm_core.identity.certificates import EncryptionKey
from pyswarm_core.ids import NetworkId, NodeId, ServiceId, TaskId
from pyswarm_core.indexes.columns import unpack_ids
from pyswarm_core.objects import Block, Endpoint, Network, Task, VersionRange
from pyswarm_core.specs import (
    EndpointSpec,
    Ipam,
    IpamConfig,
    Limits,
    PortConfig,
    RegistryLogin,
    Resources,
    TaskSpec,
)
from pyswarm_core.state import State
from pyswarm_core.states import TaskState
from tests.fixtures import build
from tests.unit.controller.leader.endpoints.build import known

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


def source_of(state: State, withheld: Container[TaskId] = ()) -> Source:
    endpoints = known(state)
    return Source(state, endpoints, OverlayMessages(state, endpoints), Templates(), withheld)


def whole(parts: Parts) -> Assignments:
    """The only part."""
    (message,) = [part for part in parts if part is not None]
    assert not message.more
    return message


def full_of(source: Source, revision: int = 1) -> Assignments:
    return whole(assignments.full_assignments(source, N1, {}, revision))


def full_assignments(
    state: State, revision: int = 1, withheld: Container[TaskId] = ()
) -> Assignments:
    return full_of(source_of(state, withheld), revision)


def changed_of(source: Source, changes: Unsent, revision: int = 1) -> Assignments:
    """With `changes`, what it was sent is as it is now."""
    for network_id in changes.overlays_sent:
        changes.overlays_sent[network_id] = source.overlays.version(network_id)
    return whole(assignments.changed_assignments(source, N1, changes, revision))


def changed_assignments(state: State, changes: Unsent, revision: int = 1) -> Assignments:
    return changed_of(source_of(state), changes, revision)


def changes(*names: str, sent: tuple[NetworkId, ...] = ()) -> Unsent:
    found = Unsent(dict.fromkeys(sent, 0))
    found.tasks.update((identified(name), None) for name in names)
    return found


def overlays_in(message: Assignments) -> list[Overlay]:
    return [Overlay.FromString(data) for data in message.overlays]


def test_a_full_set_names_every_stored_task_of_the_node_ended_ones_too() -> None:
    state = world(task("web.1"), task("web.2", state=TaskState.FAILED), task("web.3", node="n2"))
    message = full_assignments(state, 7)
    assert message.full
    assert message.revision == 7
    assert unpack_ids(message.ids) == [identified("web.1"), identified("web.2")]
    assert list(message.slots) == [1, 2]
    assert list(message.desired_states) == [TaskState.RUNNING, TaskState.RUNNING]


def test_tasks_of_one_spec_version_share_a_template() -> None:
    state = world(task("web.1"), task("web.2"), task("net-web.1"))
    message = full_assignments(state)
    assert list(message.template_index) == [0, 0, 1]
    template = dispatcher_pb2.TaskTemplate.FromString(message.templates[0])
    assert template.service_name == "web"
    assert from_proto(TaskSpec, template.spec) == state.services["web"].spec.task_template  # type: ignore[index]


def test_a_template_that_is_no_longer_kept_is_sent_without_a_spec() -> None:
    state = world(build.task("web.1", node="n1", version=0, task_id=identified("web.1")))
    state.apply(Writes(objects=(build.service("web", version=9, template_version=9),)))
    message = full_assignments(state)
    assert not dispatcher_pb2.TaskTemplate.FromString(message.templates[0]).HasField("spec")


def with_limits(state: State, mib: int, *, version: int, template_version: int = 1) -> None:
    web = state.services[ServiceId("web")]
    limits = Resources(limits=Limits(memory_bytes=mib << 20))
    template = replace(web.spec.task_template, resources=limits)
    new = replace(
        web,
        spec=replace(web.spec, task_template=template),
        spec_version=version,
        in_place_version=version,
        template_version=template_version,
    )
    state.apply(Writes(objects=(new,)))


def templates_in(message: Assignments) -> list[tuple[int, int, int]]:
    """Spec version, version of the limits, and the memory limit in MiB."""
    made = [dispatcher_pb2.TaskTemplate.FromString(data) for data in message.templates]
    return [
        (one.spec_version, one.in_place_version, one.spec.resources.limits.memory_bytes >> 20)
        for one in made
    ]


def test_a_template_has_the_newest_limits_and_their_version() -> None:
    state = world(task("web.1"))
    source = source_of(state)
    assert templates_in(full_of(source)) == [(1, 0, 0)]
    with_limits(state, 64, version=2)
    assert templates_in(full_of(source)) == [(1, 2, 64)]
    with_limits(state, 32, version=3)
    new = build.task("web.2", node="n1", version=3, task_id=identified("web.2"))
    state.apply(Writes(tasks=[new]))
    assert templates_in(full_of(source)) == [(1, 3, 32), (3, 0, 32)]
    with_limits(state, 16, version=4, template_version=4)
    assert [one[:2] for one in templates_in(full_of(source))] == [(1, 0), (3, 0)]


def test_new_limits_are_sent_to_the_nodes_that_run_tasks_of_the_service() -> None:
    state = world(task("web.1"), task("web.2", node="n2"), task("net-web.1"))
    sessions = Sessions(())
    near, far = sessions.open(N1), sessions.open(NodeId("n9"))
    source = source_of(state)
    for session in (near, far):
        assert list(session.take(source, 1))
    web = ServiceId("web")
    for version in (2, 3):
        with_limits(state, 64, version=version)
        sessions.services_changed(state, [web])
        (message,) = near.take(source, version)
        assert message is not None
        assert unpack_ids(message.assignments.ids) == [identified("web.1")]
        assert templates_in(message.assignments) == [(1, version, 64)]
        sessions.services_changed(state, [web, ServiceId("net-web"), ServiceId("gone")])
        assert not list(near.take(source, version)), "neither again nor to others"
        assert not list(far.take(source, version))


def test_limits_that_changed_during_an_update_are_sent_once_it_returns_to_the_template() -> None:
    state = world(task("web.1"))
    sessions, web = Sessions(()), ServiceId("web")
    session = sessions.open(N1)
    source = source_of(state)
    assert list(session.take(source, 1))
    with_limits(state, 64, version=3, template_version=2)
    sessions.services_changed(state, [web])
    (message,) = session.take(source, 2)
    assert message is not None
    assert [one[:2] for one in templates_in(message.assignments)] == [(1, 0)]
    back = replace(
        state.services[web],
        spec_version=4,
        template_version=4,
        same_template=(VersionRange(1, 1),),
    )
    state.apply(Writes(objects=(back,)))
    sessions.services_changed(state, [web])
    (message,) = session.take(source, 3)
    assert message is not None
    assert templates_in(message.assignments) == [(1, 3, 64)]
    sessions.services_changed(state, [web])
    assert not list(session.take(source, 3))


def test_a_delta_names_what_changed_and_what_is_gone() -> None:
    state = world(task("web.1"), task("web.2"))
    message = changed_assignments(state, changes("web.2", "web.9"), 3)
    assert not message.full
    assert unpack_ids(message.ids) == [identified("web.2")]
    assert unpack_ids(message.removed_ids) == [identified("web.9")]


def test_an_overlay_has_own_blocks_and_peers_with_addresses() -> None:
    message = full_assignments(world(task("net-web.1")))
    (overlay,) = overlays_in(message)
    assert (overlay.network_id, overlay.vni, overlay.node_number) == ("net", 4096, 1)
    assert list(overlay.local_blocks) == ["10.128.0.0/26"]
    assert [(peer.node_number, peer.addr, list(peer.blocks)) for peer in overlay.peers] == [
        (2, "192.0.2.2", ["10.128.0.64/26"])
    ]


def test_a_node_without_a_live_task_on_a_network_is_not_told_of_it() -> None:
    state = world(task("web.1"), task("net-web.1", state=TaskState.SHUTDOWN))
    assert not full_assignments(state).overlays


def test_the_first_task_of_a_network_brings_its_overlay_and_the_second_does_not() -> None:
    state = world(task("net-web.1"))
    first = changed_assignments(state, changes("net-web.1"))
    again = changed_assignments(state, changes("net-web.1", sent=(NET,)))
    assert [overlay.network_id for overlay in overlays_in(first)] == ["net"]
    assert not again.overlays


def test_a_changed_network_is_sent_again() -> None:
    state = world(task("net-web.1"))
    source = source_of(state)
    changed = changes(sent=(NET,))
    changed.overlays_may_differ = True
    assert not changed_of(source, changed).overlays
    told = changed.overlays_sent[NET]
    network = state.networks[NET]
    state.apply(Writes(objects=(replace(network, blocks=network.blocks[:1]),)))
    (overlay,) = overlays_in(whole(assignments.changed_assignments(source, N1, changed, 2)))
    assert not overlay.peers
    assert changed.overlays_sent[NET] > told


def test_an_overlay_goes_when_its_last_task_has_ended() -> None:
    state = world(task("net-web.1", state=TaskState.COMPLETE))
    changed = changes(sent=(NET,))
    changed.overlays_may_differ = True
    message = changed_assignments(state, changed)
    assert list(message.removed_overlays) == ["net"]


def test_templates_are_made_once() -> None:
    state, templates = world(task("web.1")), Templates()
    service_id = next(iter(state.services))
    assert templates.template(state, service_id, 1) is templates.template(state, service_id, 1)


def test_a_task_that_still_waits_for_room_on_its_node_is_not_told_to_it() -> None:
    state = world(task("web.1", state=TaskState.PENDING))
    full = full_assignments(state)
    assert (full.ids, list(full.overlays)) == (b"", [])
    changes = Unsent()
    changes.tasks[identified("web.1")] = None
    changed = changed_assignments(state, changes)
    assert (changed.ids, changed.removed_ids, list(changed.overlays)) == (b"", b"", [])


def test_a_template_brings_the_login_for_its_image() -> None:
    state = world(task("web.1"))
    (service,) = (s for s in state.services.values() if s.spec.name == "web")
    login = RegistryLogin(registry="registry.test", username="ann", password="right")
    state.apply(Writes(objects=(replace(service, registry_login=login),)))
    (sent,) = full_assignments(state).templates
    template = dispatcher_pb2.TaskTemplate.FromString(sent)
    assert from_proto(RegistryLogin, template.registry_login) == login


def endpoint_keys(message: dispatcher_pb2.Assignments) -> list[tuple[str, str]]:
    endpoints = [dispatcher_pb2.ServiceEndpoint.FromString(data) for data in message.endpoints]
    return [(endpoint.service_id, endpoint.network_id) for endpoint in endpoints]


def removed_keys(message: dispatcher_pb2.Assignments) -> list[tuple[str, str]]:
    return [(ref.service_id, ref.network_id) for ref in message.removed_endpoints]


def meshed() -> State:
    """Published through the mesh by a service whose one task is on n2."""
    plain = build.network("mesh", "10.129.0.0/16", 4097)
    spec = replace(plain.spec, ingress=True)
    block = Block(cidr="10.129.0.0/26", node_number=2)
    state = world()
    state.apply(
        Writes(
            objects=(
                replace(plain, spec=spec, blocks=(block,)),
                build.service("pub", spec=build.template(networks=["mesh"])),
            )
        )
    )
    state.apply(Writes(tasks=[task("pub.1", node="n2")]))
    return state


def test_a_full_set_names_the_endpoints_of_the_node_s_networks() -> None:
    assert endpoint_keys(full_assignments(world(task("net-web.1")))) == [("net-web", "net")]
    assert endpoint_keys(full_assignments(world(task("web.1")))) == []


def test_a_first_task_brings_all_endpoints_of_its_network() -> None:
    message = changed_assignments(world(task("net-web.1")), changes("net-web.1"))
    assert endpoint_keys(message) == [("net-web", "net")]


def test_a_changed_endpoint_goes_to_who_knows_its_network() -> None:
    state = world(task("net-web.1"))
    assert endpoint_keys(changed_assignments(state, changes(sent=(NET,)))) == [("net-web", "net")]
    assert endpoint_keys(changed_assignments(state, changes())) == []


def test_what_was_told_before_is_not_told_again() -> None:
    state = world(task("net-web.1"))
    source = source_of(state)
    told = Unsent({NET: 0}, source.endpoints.sequence)
    assert endpoint_keys(changed_of(source, told)) == []


def test_the_endpoint_of_a_service_that_is_gone_is_said_to_be_gone() -> None:
    state = world(task("net-web.1"))
    source = source_of(state)
    told = Unsent({NET: 0}, source.endpoints.sequence)
    service = state.services[ServiceId("net-web")]
    state.apply(Writes(objects=(replace(service, removing=True),)))
    finish(source.endpoints.refresh([service.id]))
    message = changed_of(source, told)
    assert (endpoint_keys(message), removed_keys(message)) == ([], [("net-web", "net")])


def test_an_overlay_that_goes_takes_its_endpoints_with_it() -> None:
    state = world(task("net-web.1", state=TaskState.COMPLETE))
    source = source_of(state)
    told = Unsent({NET: 0}, source.endpoints.sequence)
    told.overlays_may_differ = True
    message = changed_of(source, told)
    assert (endpoint_keys(message), removed_keys(message)) == ([], [("net-web", "net")])


def test_an_overlay_and_its_last_service_may_go_at_the_same_time() -> None:
    state = world(task("net-web.1", state=TaskState.COMPLETE))
    source = source_of(state)
    told = Unsent({NET: 0}, source.endpoints.sequence)
    told.overlays_may_differ = True
    service = state.services[ServiceId("net-web")]
    state.apply(Writes(objects=(replace(service, removing=True),)))
    finish(source.endpoints.refresh([service.id]))
    message = changed_of(source, told)
    assert (list(message.removed_overlays), removed_keys(message)) == (
        ["net"],
        [("net-web", "net")],
    )


def test_every_node_carries_the_mesh_and_is_everybody_s_peer() -> None:
    message = full_assignments(meshed())
    (overlay,) = overlays_in(message)
    assert (overlay.network_id, overlay.ingress, list(overlay.local_blocks)) == ("mesh", True, [])
    assert [(peer.node_number, list(peer.blocks)) for peer in overlay.peers] == [
        (2, ["10.129.0.0/26"])
    ]
    assert endpoint_keys(message) == [("pub", "mesh")]


def test_the_mesh_comes_with_whatever_is_told_next() -> None:
    message = changed_assignments(meshed(), changes())
    assert [overlay.network_id for overlay in overlays_in(message)] == ["mesh"]
    assert endpoint_keys(message) == [("pub", "mesh")]


def test_the_mesh_goes_with_its_last_service() -> None:
    state = meshed()
    state.apply(Writes(objects=(replace(state.services[ServiceId("pub")], removing=True),)))
    changed = changes(sent=(NetworkId("mesh"),))
    changed.overlays_may_differ = True
    assert list(changed_assignments(state, changed).removed_overlays) == ["mesh"]


def test_an_overlay_says_gateway_ipv6_and_the_keys_of_an_encrypted_network() -> None:
    state = world(task("net-web.1"))
    network = state.networks[NET]
    spec = replace(
        network.spec,
        encrypted=True,
        ipam=Ipam(config=(IpamConfig(gateway="fd00::9"), IpamConfig(gateway="10.128.0.9"))),
    )
    key = EncryptionKey(number=3, secret=b"s")
    state.apply(
        Writes(
            cluster=replace(state.cluster, encryption_keys=(key,)),
            objects=(replace(network, spec=spec, subnet6="fd00::/64"),),
        )
    )
    (overlay,) = overlays_in(full_assignments(state))
    assert (overlay.gateway, overlay.subnet6) == ("10.128.0.9", "fd00::/64")
    assert overlay.encrypted
    assert [(told.number, told.secret) for told in overlay.encryption_keys] == [(3, b"s")]


def test_an_encrypted_network_is_told_as_such_without_keys_too() -> None:
    state = world(task("net-web.1"))
    network = state.networks[NET]
    assert not overlays_in(full_assignments(state))[0].encrypted
    secret = replace(network, spec=replace(network.spec, encrypted=True))
    state.apply(Writes(objects=(secret,)))
    (overlay,) = overlays_in(full_assignments(state))
    assert (overlay.encrypted, list(overlay.encryption_keys)) == (True, [])


@pytest.mark.parametrize("changes", [{}, {"subnet6": "fd00::/64"}])
@pytest.mark.parametrize("ingress", [False, True])
def test_only_a_dual_stack_mesh_tells_peers_addresses_of_ipv6(
    ingress: bool, changes: dict[str, str]
) -> None:
    state = world(task("net-web.1"), task("net-web.2", node="n2"))
    network = state.networks[NET]
    own = ("2001:db8::1", "2001:db8::2")
    state.apply(
        Writes(
            objects=(
                *(
                    replace(one, status=replace(one.status, addrs6=own))
                    for one in state.nodes.values()
                ),
                replace(network, spec=replace(network.spec, ingress=ingress), **changes),
            )
        )
    )
    (overlay,) = overlays_in(full_assignments(state))
    assert [tuple(peer.addrs6) for peer in overlay.peers] == [own if ingress and changes else ()]


def test_a_withheld_task_is_told_to_go_on_until_it_has_ended() -> None:
    running, ended = task("web.1"), task("web.2", state=TaskState.FAILED)
    stopping = [replace(one, desired_state=TaskState.SHUTDOWN) for one in (running, ended)]
    state = world(*stopping)
    told = full_assignments(state, withheld={running.id, ended.id}).desired_states
    assert list(told) == [TaskState.RUNNING, TaskState.SHUTDOWN]
    assert list(full_assignments(state).desired_states) == [TaskState.SHUTDOWN] * 2


def test_a_template_names_published_ports_with_their_numbers() -> None:
    state = world(task("web.1"))
    asked = PortConfig(target_port=80)
    service = state.services[ServiceId("web")]
    spec = replace(service.spec, endpoint_spec=EndpointSpec(ports=(asked,)))
    given = Endpoint(ports=(replace(asked, published_port=30_000),))
    state.apply(Writes(objects=(replace(service, spec=spec, endpoint=given),)))
    template = dispatcher_pb2.TaskTemplate.FromString(full_assignments(state).templates[0])
    assert [(port.target_port, port.published_port) for port in template.ports] == [(80, 30_000)]


def test_a_template_that_cannot_be_made_costs_its_service_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    state = world(task("web.1"), task("net-web.1"))
    real = assignments._template

    def torn(state: State, service_id: ServiceId, *versions: int) -> bytes:
        if service_id == "web":
            raise ValueError("no image")
        return real(state, service_id, *versions)

    monkeypatch.setattr(assignments, "_template", torn)
    source = source_of(state)
    message = full_of(source, 7)
    made = [dispatcher_pb2.TaskTemplate.FromString(one) for one in message.templates]
    assert {one.service_id: one.HasField("spec") for one in made} == {"web": False, "net-web": True}
    assert source.failed.keys() == {"service/web"}
