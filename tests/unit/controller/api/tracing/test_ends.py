"""Whom a trace's words mean, and which task is at the other end."""

import pytest
from msgspec.structs import replace

from controller.api.tracing.ends import (
    End,
    Target,
    far_end,
    first_port,
    network_of,
    on,
    source,
    target,
    unjoined,
    vip_of,
)
from controller.brain.slices import finish
from pyswarm_core.decision import Writes
from pyswarm_core.errors import Conflict, InvalidArgument, NotFound
from pyswarm_core.objects import Block, Endpoint, Service, VirtualIp
from pyswarm_core.specs import EndpointMode, EndpointSpec, NetworkAttachment, PortConfig, Protocol
from pyswarm_core.state import State
from pyswarm_core.states import TaskState
from tests.unit.controller.leader.endpoints.build import (
    NET,
    OTHER,
    WEB,
    backend,
    identified,
    put,
    world,
)

VIP, VIP6 = "10.128.255.254", "fd00::fffe"


def reached(**changes: object) -> Service:
    """The service `web` with a virtual address."""
    made = world().services[WEB]
    vips = (VirtualIp(network_id=NET, addr=VIP),)
    return replace(made, spec=replace(made.spec, **changes), endpoint=Endpoint(virtual_ips=vips))


@pytest.fixture
def state() -> State:
    """Tasks web.1 to web.15 have addresses of n1, the next ones of n2."""
    found = world(backend("web.1"), backend("web.17", "n2"))
    blocks = (
        Block(cidr="10.128.0.0/28", node_number=1),
        Block(cidr="10.128.0.16/28", node_number=2),
    )
    network = replace(found.networks[NET], subnet6="fd00::/64", blocks=blocks)
    found.apply(Writes(objects=(network, reached())))
    return found


def near(state: State, ref: str = "web.1") -> End:
    return finish(source(state, ref))


def meant(state: State, text: str) -> Target:
    return finish(target(state, text))


def test_a_service_as_source_is_its_first_running_task(state: State) -> None:
    put(state, backend("web.1", state=TaskState.FAILED))
    assert near(state, "web").task_id == identified("web.17")


@pytest.mark.parametrize(
    ("ref", "error", "says"),
    [
        ("plain", Conflict, "`pyswarm why plain`"),
        ("web.1", Conflict, "web.1 is failed"),
        ("nobody", NotFound, "no such service or task"),
    ],
)
def test_who_cannot_be_traced_from_is_refused(
    state: State, ref: str, error: type[Exception], says: str
) -> None:
    put(state, backend("web.1", state=TaskState.FAILED))
    with pytest.raises(error, match=says):
        near(state, ref)


def test_a_task_without_an_overlay_cannot_be_traced_from(state: State) -> None:
    task = backend("web.1")
    put(state, replace(task, detail=replace(task.detail, addresses=())))
    with pytest.raises(Conflict, match="on no overlay network"):
        near(state)


def test_a_target_is_a_service_a_task_an_address_or_any_name(state: State) -> None:
    assert (meant(state, "web").name, meant(state, "web").service) == ("web", state.services[WEB])
    task_id = identified("web.17")
    for text in ("web.17", task_id):
        task = meant(state, text)
        assert (task.name, task.end and task.end.task_id) == (f"web.17.{task_id}", task_id)
    assert (meant(state, VIP6).address, meant(state, VIP6).name) == (VIP6, "")
    for other in ("www", "we", "tasks.web", "example.org"):
        assert (meant(state, other).name, meant(state, other).service) == (other, None)
    with pytest.raises(InvalidArgument):
        meant(state, "")


@pytest.mark.parametrize(
    ("text", "asked", "vip", "held"),
    [
        ("web", VIP, VIP, ("10.128.0.1", "10.128.0.17")),
        ("web", "", VIP, ("10.128.0.1", "10.128.0.17")),
        ("www", VIP, VIP, ("10.128.0.1", "10.128.0.17")),
        (VIP6, VIP6, VIP6, ("fd00::1", "fd00::11")),
        ("web.17", "10.128.0.17", None, ()),
        ("www", "10.128.0.17", None, ()),
        ("fd00:9::1", "fd00:9::1", None, ()),
    ],
)
def test_a_virtual_address_is_known_by_its_service_or_by_itself(
    state: State, text: str, asked: str, vip: str | None, held: tuple[str, ...]
) -> None:
    put(state, backend("web.3", serving=False))
    found = vip_of(state, near(state), meant(state, text), asked)
    assert (found and found.address) == vip
    assert (found.backends if found else ()) == held


def test_a_service_of_mode_dnsrr_has_none(state: State) -> None:
    state.apply(Writes(objects=(reached(endpoint_spec=EndpointSpec(mode=EndpointMode.DNSRR)),)))
    assert vip_of(state, near(state), meant(state, "web"), "10.128.0.17") is None


@pytest.mark.parametrize(
    ("addresses", "name", "address"),
    [
        (("10.128.0.1", "10.128.0.17"), "web.17", "10.128.0.17"),
        (("10.128.0.1",), "web.1", "10.128.0.1"),
        (("fd00::11",), "web.17", "fd00::11"),
        (("10.128.9.9", "192.0.2.9"), None, None),
    ],
)
def test_the_far_end_has_the_first_address_that_is_not_the_sources(
    state: State, addresses: tuple[str, ...], name: str | None, address: str | None
) -> None:
    found = far_end(state, near(state), meant(state, "www"), addresses)
    assert (found and found.name, found and found.address) == (name, address)


def test_a_task_that_is_meant_is_the_far_end_on_a_network_that_both_joined(state: State) -> None:
    found = far_end(state, near(state), meant(state, "web.17"), [])
    assert found is not None
    assert (found.network, found.address, found.host) == ("net", "10.128.0.17", "n2")
    assert on(state, found, NET, six=True).address == "fd00::11"
    put(state, backend("plain.1", network=OTHER))
    apart = far_end(state, near(state), meant(state, "plain.1"), [])
    assert apart is not None
    assert apart.network_id == OTHER
    assert OTHER not in near(state).addresses


def test_the_networks_of_a_service_that_the_source_has_not_joined(state: State) -> None:
    assert unjoined(state, near(state), meant(state, "web")) == []
    template = replace(reached().spec.task_template, networks=(NetworkAttachment(target=OTHER),))
    state.apply(Writes(objects=(reached(task_template=template),)))
    assert unjoined(state, near(state), meant(state, "web")) == [OTHER]


def test_an_address_tells_its_network(state: State) -> None:
    for address in ("10.128.77.1", "fd00::7"):
        assert network_of(state, address) == state.networks[NET]
    assert network_of(state, "192.0.2.1") is None


def test_the_first_port_is_of_the_protocol(state: State) -> None:
    udp = PortConfig(target_port=53, protocol=Protocol.UDP)
    ports = (udp, PortConfig(target_port=80), PortConfig(target_port=81))
    state.apply(Writes(objects=(replace(reached(), endpoint=Endpoint(ports=ports)),)))
    assert first_port(state, near(state), udp=False) == 80
    assert first_port(state, near(state), udp=True) == 53
    state.apply(Writes(objects=(reached(),)))
    assert first_port(state, near(state), udp=True) == 0
