"""Whom a trace's words mean, and which task is at the other end."""

import pytest
from msgspec.structs import replace

from controller.api.tracing.aim import (
    Aim,
    aim,
    backends,
    end,
    first_port,
    network_of,
    overlays,
    to,
    virtual_address,
)
from controller.brain.slices import finish
from pyswarm_core.decision import Writes
from pyswarm_core.errors import Conflict, InvalidArgument, NotFound
from pyswarm_core.objects import Endpoint, Service, VirtualIp
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

VIP = "10.128.255.254"


def reached(**changes: object) -> Service:
    """The service `web` with a virtual address, aliased `www`."""
    made = world().services[WEB]
    template = replace(
        made.spec.task_template, networks=(NetworkAttachment(target=NET, aliases=("www",)),)
    )
    vips = (VirtualIp(network_id=NET, addr=VIP),)
    return replace(
        made,
        spec=replace(made.spec, task_template=template, **changes),
        endpoint=Endpoint(virtual_ips=vips),
    )


@pytest.fixture
def state() -> State:
    found = world(backend("web.1"), backend("web.2", "n2"))
    found.apply(Writes(objects=(reached(),)))
    return found


def meant(state: State, target: str, source: str = "web.1") -> Aim:
    return finish(aim(state, source, target))


def test_a_service_as_source_is_its_first_running_task(state: State) -> None:
    put(state, backend("web.1", state=TaskState.FAILED))
    assert meant(state, "web", "web").source.id == identified("web.2")


@pytest.mark.parametrize(
    ("source", "error", "says"),
    [
        ("plain", Conflict, "`pyswarm why plain`"),
        ("web.1", Conflict, "web.1 is failed"),
        ("nobody", NotFound, "no such service or task"),
    ],
)
def test_who_cannot_be_traced_from_is_refused(
    state: State, source: str, error: type[Exception], says: str
) -> None:
    put(state, backend("web.1", state=TaskState.FAILED))
    with pytest.raises(error, match=says):
        meant(state, "web", source)


def test_a_task_without_an_overlay_cannot_be_traced_from(state: State) -> None:
    task = replace(backend("web.1"), detail=replace(backend("web.1").detail, addresses=()))
    put(state, task)
    with pytest.raises(Conflict, match="on no overlay network"):
        meant(state, "web")


def test_a_target_is_a_service_a_task_an_address_or_any_name(state: State) -> None:
    assert meant(state, "web").name == "web"
    task = meant(state, "web.2")
    assert (task.name, task.task) == (
        f"web.2.{identified('web.2')}",
        state.tasks[identified("web.2")],
    )
    assert (meant(state, VIP).address, meant(state, VIP).name) == (VIP, "")
    for other in ("www", "tasks.web", "example.org"):
        assert (meant(state, other).name, meant(state, other).service) == (other, None)


@pytest.mark.parametrize("target", ["", "fd00::1"])
def test_a_target_that_cannot_be_traced_to_is_refused(state: State, target: str) -> None:
    with pytest.raises(InvalidArgument):
        meant(state, target)


def test_a_virtual_address_is_known_by_service_and_by_itself(state: State) -> None:
    service = state.services[WEB]
    for target in ("web", VIP):
        assert virtual_address(state, meant(state, target)) == (VIP, NET, service)
    assert virtual_address(state, to(meant(state, "www"), VIP)) == (VIP, NET, service)
    for target in ("web.2", "10.128.0.2", "www"):
        assert virtual_address(state, meant(state, target)) is None


def test_a_service_of_mode_dnsrr_has_none(state: State) -> None:
    spec = EndpointSpec(mode=EndpointMode.DNSRR)
    state.apply(Writes(objects=(reached(endpoint_spec=spec),)))
    assert virtual_address(state, meant(state, "web")) is None


def test_backends_are_those_that_may_receive_connections(state: State) -> None:
    put(state, backend("web.3", serving=False))
    found = backends(state, state.services[WEB], NET)
    assert [(b.name, b.address) for b in found] == [
        ("web.1", "10.128.0.1"),
        ("web.2", "10.128.0.2"),
    ]


def test_the_end_is_the_first_that_is_not_the_source(state: State) -> None:
    forwarded_to = ["10.128.0.1", "10.128.0.2"]
    found = finish(end(state, meant(state, "web"), forwarded_to))
    assert found is not None
    assert (found.name, found.network_id) == ("web.2", NET)
    alone = finish(end(state, meant(state, "web"), forwarded_to[:1]))
    assert alone is not None
    assert alone.name == "web.1"
    assert finish(end(state, meant(state, "web"), ["10.128.9.9", "192.0.2.9"])) is None


def test_the_end_of_a_task_on_another_network_is_there(state: State) -> None:
    spec = reached().spec.task_template
    there = replace(spec, networks=(NetworkAttachment(target=OTHER),))
    plain = state.services[backend("plain.1").service_id]
    state.apply(Writes(objects=(replace(plain, spec=replace(plain.spec, task_template=there)),)))
    put(state, backend("plain.1", network=OTHER))
    found = finish(end(state, meant(state, "plain.1"), []))
    assert found is not None
    assert found.network_id == OTHER
    assert found.network_id not in overlays(state, meant(state, "web").source)


def test_an_address_tells_its_network(state: State) -> None:
    assert network_of(state, "10.128.77.1") == NET
    assert network_of(state, "192.0.2.1") is None


def test_the_first_port_is_of_tcp() -> None:
    udp = PortConfig(target_port=53, protocol=Protocol.UDP)
    ports = (udp, PortConfig(target_port=80), PortConfig(target_port=81))
    assert first_port(replace(reached(), endpoint=Endpoint(ports=ports))) == 80
    assert first_port(reached()) == first_port(None) == 0
