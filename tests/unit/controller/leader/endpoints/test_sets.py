"""Endpoint sets: what their messages say, and what a reader of the log learns of changes."""

from collections.abc import Callable
from functools import reduce
from operator import xor

import pytest
from msgspec.structs import replace

from controller.brain.slices import finish
from controller.leader.endpoints import sets
from controller.leader.endpoints.sets import is_backend, overlays_of
from pyswarm_core.decision import Writes
from pyswarm_core.ids import NetworkId, ServiceId
from pyswarm_core.indexes.columns import endpoint_digest, unpack_ids
from pyswarm_core.objects import Endpoint, VirtualIp
from pyswarm_core.specs import EndpointSpec, NetworkAttachment, PortConfig, PublishMode
from pyswarm_core.state import State
from pyswarm_core.states import TaskState
from tests.fixtures import build
from tests.unit.controller.leader.endpoints.build import (
    KEY,
    N1,
    N2,
    N3,
    NET,
    OTHER,
    WEB,
    backend,
    identified,
    ingress,
    known,
    put,
    read,
    world,
)

MESH = NetworkId("ingress")
PORT = PortConfig(target_port=80, published_port=8080)
HOST_PORT = PortConfig(target_port=81, publish_mode=PublishMode.HOST)


def rejoin(state: State, *networks: str) -> None:
    """The service is updated to join these instead."""
    spec = build.template(networks=networks)
    state.apply(Writes(objects=(build.service("web", spec=spec, version=2),)))


def test_a_backend_runs_should_run_and_serves() -> None:
    assert is_backend(backend("web.1"))
    assert not is_backend(backend("web.1", serving=False))
    assert not is_backend(backend("web.1", state=TaskState.STARTING))
    assert not is_backend(backend("web.1", desired=TaskState.SHUTDOWN))


def test_a_message_names_backends_by_slot_with_their_addresses() -> None:
    state = world(backend("web.2", "n2"), backend("web.1"), backend("web.3", serving=False))
    message = read(known(state).message(KEY))
    assert (message.service_name, message.network_id) == ("web", "net")
    assert unpack_ids(message.task_ids) == [identified("web.1"), identified("web.2")]
    assert list(message.slots) == [1, 2]
    assert message.addresses == bytes([10, 128, 0, 1, 10, 128, 0, 2])


def test_a_message_names_address_aliases_and_mode_of_its_network_only() -> None:
    state = world()
    service = build.service("web", replicas=None)
    joined = (
        NetworkAttachment(target="net", aliases=("w",)),
        NetworkAttachment(target="other", aliases=("o",)),
    )
    template = replace(service.spec.task_template, networks=joined)
    service = replace(
        service,
        spec=replace(service.spec, task_template=template),
        endpoint=Endpoint(
            ports=(PORT,),
            virtual_ips=(
                VirtualIp(network_id=OTHER, addr="10.130.255.254"),
                VirtualIp(network_id=NET, addr="10.128.255.254"),
            ),
        ),
    )
    state.apply(Writes(objects=(service,)))
    message = read(known(state).message(KEY))
    assert (message.vip, list(message.aliases)) == ("10.128.255.254", ["w"])
    assert getattr(message, "global")
    assert not message.ports


def test_the_mesh_s_endpoint_names_the_ports_of_mode_ingress() -> None:
    state = world(networks=(ingress(),))
    rejoin(state, "net", "ingress")
    endpoint = Endpoint(ports=(PORT, HOST_PORT))
    state.apply(Writes(objects=(replace(state.services[WEB], endpoint=endpoint),)))
    (port,) = read(known(state).message((WEB, MESH))).ports
    assert (port.target_port, port.published_port) == (80, 8080)


def test_a_message_is_made_once_until_it_changes() -> None:
    state = world(backend("web.1"))
    endpoints = known(state)
    first = endpoints.message(KEY)
    assert endpoints.message(KEY) is first
    put(state, backend("web.2"))
    assert finish(endpoints.refresh([WEB])) == {NET: None}
    assert len(read(endpoints.message(KEY)).slots) == 2


def test_what_did_not_change_is_not_news() -> None:
    state = world(backend("web.1"))
    endpoints = known(state)
    endpoints.message(KEY)
    before = endpoints.sequence
    put(state, backend("web.2", state=TaskState.STARTING))
    assert finish(endpoints.refresh([WEB])) == {}
    assert endpoints.sequence == before


def test_a_service_on_its_way_out_has_no_endpoints() -> None:
    state = world(backend("web.1"))
    endpoints = known(state)
    before = endpoints.sequence
    state.apply(Writes(objects=(replace(state.services[WEB], removing=True),)))
    assert finish(endpoints.refresh([WEB])) == {NET: None}
    assert endpoints.changed_since(before) == [KEY]
    assert endpoints.message(KEY) is None
    assert WEB not in endpoints


def test_a_service_without_networks_is_not_known() -> None:
    endpoints = known(world())
    assert ServiceId("plain") not in endpoints
    assert WEB in endpoints


def test_a_service_that_moves_leaves_one_network_and_appears_on_another() -> None:
    state = world()
    endpoints = known(state)
    before = endpoints.sequence
    rejoin(state, "other")
    assert finish(endpoints.refresh([WEB])) == {NET: None, OTHER: None}
    assert endpoints.changed_since(before) == [(WEB, OTHER), KEY]
    assert list(endpoints.on_network(NET)) == []
    assert list(endpoints.on_network(OTHER)) == [(WEB, OTHER)]


def test_a_digest_is_that_of_the_messages_however_they_came_about() -> None:
    state = world(backend("web.1"))
    endpoints = known(state)

    def of_messages(*networks: NetworkId) -> int:
        made = [endpoints.message(key) for n in networks for key in endpoints.on_network(n)]
        return reduce(xor, map(endpoint_digest, filter(None, made)), 0)

    seen = []
    changes: tuple[Callable[[], None], ...] = (
        lambda: None,
        lambda: put(state, backend("web.2", "n2")),
        lambda: rejoin(state, "net", "other"),
        lambda: rejoin(state, "other"),
    )
    for change in changes:
        change()
        finish(endpoints.refresh([WEB]))
        seen.append(of_messages(NET, OTHER))
        assert endpoints.digest([NET, OTHER]) == seen[-1]
    assert len({0, *seen}) == 5
    rejoin(state, "host")
    finish(endpoints.refresh([WEB]))
    assert endpoints.digest([NET, OTHER]) == 0


def test_predefined_networks_have_no_endpoints() -> None:
    state = world()
    endpoints = known(state)
    rejoin(state, "host")
    finish(endpoints.refresh([WEB]))
    assert WEB not in endpoints


def test_the_log_tells_the_newest_change_of_each() -> None:
    state = world()
    endpoints = known(state)
    begun = endpoints.sequence
    rejoin(state, "net", "other")
    finish(endpoints.refresh([WEB]))
    middle = endpoints.sequence
    rejoin(state, "net")
    finish(endpoints.refresh([WEB]))
    assert endpoints.changed_since(begun) == [(WEB, OTHER)]
    assert endpoints.changed_since(middle) == [(WEB, OTHER)]
    assert endpoints.changed_since(endpoints.sequence) == []


def test_who_missed_more_than_is_kept_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sets, "ENDPOINT_CHANGES", 1)
    state = world()
    endpoints = known(state)
    begun = endpoints.sequence
    assert endpoints.remembers(begun)
    rejoin(state, "net", "other")
    finish(endpoints.refresh([WEB]))
    assert endpoints.remembers(begun)
    rejoin(state, "other")
    finish(endpoints.refresh([WEB]))
    assert not endpoints.remembers(begun)
    assert endpoints.remembers(endpoints.sequence)


def test_the_mesh_exists_while_a_service_publishes_through_it() -> None:
    state = world(networks=(ingress(),))
    endpoints = known(state)
    seen = [endpoints.mesh]
    for networks in (["net", "ingress"], ["net"]):
        rejoin(state, *networks)
        finish(endpoints.refresh([WEB]))
        seen.append(endpoints.mesh)
    assert seen == [None, MESH, None]


def test_a_network_s_nodes_are_told_and_everybody_is_told_of_the_mesh() -> None:
    state = world(backend("web.1", "n2"), networks=(ingress(),))
    endpoints = known(state)
    assert list(endpoints.nodes(NET)) == [N2]
    assert list(endpoints.nodes(OTHER)) == []
    assert list(endpoints.nodes(MESH)) == [N1, N2, N3]


def test_a_task_is_reached_on_the_fleet_s_networks_only() -> None:
    state = world()
    assert overlays_of(state, backend("web.1")) == (NET,)
    assert overlays_of(state, backend("web.1", network=NetworkId("bridge"))) == ()


def test_an_endpoint_spec_does_not_show_unless_it_was_allocated() -> None:
    state = world()
    service = state.services[WEB]
    spec = replace(service.spec, endpoint_spec=EndpointSpec(ports=(PORT,)))
    state.apply(Writes(objects=(replace(service, spec=spec),)))
    assert not read(known(state).message(KEY)).ports


def test_a_service_whose_endpoint_cannot_be_worked_out_costs_itself_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    state = world(backend("web.1"))
    other = build.service("other", spec=build.template(networks=["net"]))
    state.apply(Writes(objects=(other,)))
    endpoints = known(state)
    told = endpoints.message(KEY)
    real = sets.endpoint_message

    def torn(
        state: State, service_id: ServiceId, network_id: NetworkId, backends: sets.Backends
    ) -> bytes:
        if service_id == WEB:
            raise ValueError("no address")
        return real(state, service_id, network_id, backends)

    monkeypatch.setattr(sets, "endpoint_message", torn)
    put(state, backend("web.2"))
    assert not finish(endpoints.refresh([WEB, other.id]))
    assert endpoints.failed.keys() == {"service/web"}
    assert endpoints.message(KEY) == told, "nodes keep what they know"
    assert read(endpoints.message((other.id, NET))).service_name == "other"
    fresh = known(state)
    assert fresh.message(KEY) is None
    assert fresh.failed.keys() == {"service/web"}
    monkeypatch.setattr(sets, "endpoint_message", real)
    assert finish(endpoints.refresh([WEB])) == {NET: None}
    assert not endpoints.failed
