"""The worst object of each kind that is accepted fits one stored value."""

import pytest
from msgspec.structs import replace

from controller.api.changes.joining import bounded
from controller.api.changes.networks import create_network
from controller.api.changes.nodes import update_node
from controller.api.changes.services import Update, create_service, remove_service, update_service
from controller.brain.allocator.encryption import rotated, with_first_key
from pyswarm_core.clock import Instant
from pyswarm_core.errors import InvalidArgument
from pyswarm_core.ids import NetworkId, ServiceId, TaskId
from pyswarm_core.kinds import encode
from pyswarm_core.limits import (
    ADDRESSES_PER_TASK,
    DETAIL_LENGTH_MAX,
    ENGINE_LABELS_BYTES_MAX,
    ENGINE_LABELS_MAX,
    LACKS_MAX,
    NETWORK_BLOCKS_MAX,
    NODE_BYTES_MAX,
    PORTS_PER_TASK,
    SPEC_BYTES_MAX,
    VALUE_BYTES_MAX,
)
from pyswarm_core.objects import (
    Block,
    Cluster,
    NodeDescription,
    Service,
    TaskAddress,
    TaskDetail,
    TaskStatus,
    Version,
)
from pyswarm_core.specs import (
    ClusterSpec,
    EndpointSpec,
    NetworkSpec,
    PortConfig,
    PublishMode,
    RegistryLogin,
    ServiceSpec,
)
from pyswarm_core.state import State
from pyswarm_core.states import TaskState
from pyswarm_core.validation import description_problems
from tests.fixtures import build
from tests.fixtures.build import NOW, Numbered

LATE = Instant((1 << 63) - 1)
LOGIN = RegistryLogin(registry="r", username="u" * 16_000, password="p" * 16_000)


def _labels(size: int) -> dict[str, str]:
    """As many labels as a spec of that size has: the shortest take most bytes in the store."""
    return {f"{number:x}": "" for number in range(size // 6)}


def _spec(generation: int) -> ServiceSpec:
    """All that a spec may have: labels, arguments, a thousand ports."""
    spec = build.service("web").spec
    container = replace(
        spec.task_template.container_spec, args=("",) * 30_000, hostname=f"h{generation}"
    )
    ports = tuple(
        PortConfig(target_port=65535, published_port=port, publish_mode=PublishMode.HOST)
        for port in range(1000, 1300)
    )
    return replace(
        spec,
        labels=_labels(SPEC_BYTES_MAX * 3 // 4),
        task_template=replace(spec.task_template, container_spec=container),
        endpoint_spec=EndpointSpec(ports=ports),
    )


def _created(state: State) -> Service:
    writes, service = create_service(state, _spec(0), (), LATE, Numbered(), login=LOGIN)
    state.apply(writes)
    return service


def test_a_service_keeps_as_many_previous_specs_as_fit() -> None:
    state = build.state(nodes=build.nodes(1))
    service = _created(state)
    for generation in range(1, 7):
        update = Update(service.id, service.version, _spec(generation))
        writes, service = update_service(state, update, (), LATE, Numbered())
        state.apply(writes)
        assert len(encode(service)) <= VALUE_BYTES_MAX
    assert 1 <= len(service.previous_specs) <= 3
    assert service.previous_specs[0].spec == _spec(5)
    _, gone = remove_service(state, service.id, LATE)
    assert len(encode(gone)) <= VALUE_BYTES_MAX


def test_small_specs_are_all_kept() -> None:
    state = build.state(nodes=build.nodes(1))
    spec = build.service("web").spec
    writes, service = create_service(state, spec, (), NOW, Numbered())
    state.apply(writes)
    for replicas in range(2, 20):
        mode = build.service("web", replicas=replicas).spec.mode
        update = Update(service.id, service.version, replace(spec, mode=mode))
        writes, service = update_service(state, update, (), NOW, Numbered())
        state.apply(writes)
    assert len(service.previous_specs) == 10


def test_the_largest_network_on_the_largest_fleet_fits() -> None:
    state = build.state()
    spec = NetworkSpec(name="n" * 63, labels=_labels(90_000))
    _, network = create_network(state, spec, (), LATE, Numbered())
    block = Block(cidr="255.255.255.192/26", node_number=20_000)
    full = replace(network, blocks=(block,) * NETWORK_BLOCKS_MAX, updated_at=LATE)
    assert len(encode(full)) <= VALUE_BYTES_MAX


def test_a_network_whose_labels_leave_no_room_for_blocks_is_refused() -> None:
    spec = NetworkSpec(name="n", labels=_labels(SPEC_BYTES_MAX * 3 // 4))
    with pytest.raises(InvalidArgument, match=r'network "n" is too large: .* expected at most 256'):
        create_network(build.state(), spec, (), NOW, Numbered())


def _described(size: int) -> NodeDescription:
    return replace(build.node("n1").description, engine_labels={"k": "v" * size})


def test_a_host_says_only_so_much_of_itself() -> None:
    labels = {f"{number:03}": "" for number in range(ENGINE_LABELS_MAX - 1)}
    left = ENGINE_LABELS_BYTES_MAX - 3 * len(labels)
    description = NodeDescription(
        hostname=".".join(["h" * 63] * 3) + "." + "h" * 61,
        engine_version="v" * 128,
        engine_labels={**labels, "big": "v" * (left - 3)},
        lacks=tuple(f"{number:032}" for number in range(LACKS_MAX)),
    )
    assert not description_problems(description)
    assert len(encode(description)) <= NODE_BYTES_MAX


def test_a_node_with_all_the_labels_that_it_may_have_fits() -> None:
    state = build.state(nodes=[build.node("n1")])
    spec = replace(build.node("n1").spec, labels=_labels(SPEC_BYTES_MAX * 3 // 4))
    _, node = update_node(state, "n1", Version(), spec, NOW)
    assert len(encode(replace(node, description=_described(NODE_BYTES_MAX - 100)))) <= (
        VALUE_BYTES_MAX
    )


def test_the_cluster_fits_whatever_its_settings() -> None:
    cluster = with_first_key(
        Cluster(id="c", spec=ClusterSpec(default_address_pool=("255.255.255.0/24",) * 16)),
        NOW,
        Numbered(),
    )
    for day in range(1, 9):
        newer = rotated(cluster, Instant(NOW + day * 86_400_000_000_000), Numbered(day * 2))
        assert newer is not None
        cluster = newer
    assert len(encode(cluster)) < 4096


def test_a_status_is_cut_to_what_is_stored() -> None:
    hostile = TaskDetail(
        message="\N{PILE OF POO}" * 10_000,
        error="e" * 10_000,
        in_place_error="e" * 10_000,
        addresses=tuple(
            TaskAddress(network_id=NetworkId(network_id), address=address)
            for network_id, address in (
                ("n", "10.0.0.1"),
                ("n" * 10_000, "10.0.0.2"),
                ("n", "10.0.0.3" * 1000),
                ("n", "ten.zero.zero.4"),
                ("n", "10.0.0"),
                ("n", ""),
            )
        )
        + (TaskAddress(network_id=NetworkId("n"), address="10.0.0.9"),) * 1000,
        ports=(PortConfig(target_port=1, host_ip="h" * 100_000), PortConfig(target_port=2)) * 500,
    )
    kept = bounded(TaskStatus(TaskId("t"), TaskState.RUNNING, hostile)).detail
    texts = (kept.message, kept.error, kept.in_place_error)
    assert max(len(text.encode()) for text in texts) <= DETAIL_LENGTH_MAX
    assert len(kept.addresses) == ADDRESSES_PER_TASK
    assert {one.address for one in kept.addresses} == {"10.0.0.1", "10.0.0.9"}
    assert len(kept.ports) == PORTS_PER_TASK
    assert {one.target_port for one in kept.ports} == {2}


def test_an_honest_status_is_taken_as_it_is() -> None:
    address = TaskAddress(network_id=NetworkId("n" * 25), address="10.0.0.1")
    status = TaskStatus(TaskId("t"), TaskState.RUNNING, TaskDetail(addresses=(address,), pid=7))
    assert bounded(status) is status


def test_what_no_message_can_hold_is_refused() -> None:
    state = build.state(services=[replace(build.service("web"), spec_version=-2)])
    update = Update("web", Version(), build.service("web", replicas=3).spec)
    with pytest.raises(InvalidArgument, match='service "web" cannot be stored'):
        update_service(state, update, (), NOW, Numbered())
    assert state.services[ServiceId("web")].spec_version == -2
