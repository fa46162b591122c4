"""What a service's ports and networks allocate, what replaces its tasks, what is refused."""

import msgspec
import pytest

from controller.api.changes import networks, services
from controller.api.changes.services import Update
from pyswarm_core.decision import Writes
from pyswarm_core.errors import AlreadyExists, Conflict, InvalidArgument
from pyswarm_core.ids import ServiceId
from pyswarm_core.kinds import SERVICE
from pyswarm_core.objects import Endpoint, Service
from pyswarm_core.specs import (
    DnsConfig,
    EndpointMode,
    EndpointSpec,
    NetworkAttachment,
    NetworkSpec,
    PortConfig,
    PublishMode,
    ServiceSpec,
)
from pyswarm_core.state import State
from pyswarm_core.states import TaskState
from tests.fixtures import build
from tests.fixtures.build import NOW, Numbered

replace = msgspec.structs.replace
SPEC = build.service("web").spec


def port(published: int = 8080, target: int = 80, mode: str = "ingress") -> PortConfig:
    return PortConfig(target_port=target, published_port=published, publish_mode=PublishMode(mode))


def on(*targets: str, ports: tuple[PortConfig, ...] = (), mode: str = "vip") -> ServiceSpec:
    endpoint = EndpointSpec(mode=EndpointMode(mode), ports=ports)
    return replace(SPEC, task_template=build.template(networks=targets), endpoint_spec=endpoint)


def at(target: str, ip: str) -> ServiceSpec:
    """A service that chose its virtual address."""
    spec, joined = on(target), (NetworkAttachment(target=target, ip=ip),)
    return replace(spec, task_template=replace(spec.task_template, networks=joined))


def create(state: State, spec: ServiceSpec, *routes: str) -> Service:
    ids = Numbered(100 * (len(state.services) + 1))
    writes, service = services.create_service(state, spec, routes, NOW, ids)
    state.apply(writes)
    return service


def update(state: State, spec: ServiceSpec) -> Service:
    current = state.services[state.service_of_name[spec.name]]
    update = Update(current.id, current.version, spec)
    writes, service = services.update_service(state, update, (), NOW, Numbered(90_000))
    state.apply(writes)
    return service


def targets(service: Service) -> list[str]:
    return [joined.target for joined in service.spec.task_template.networks]


def app_state() -> State:
    return build.state(networks=[build.network("app")])


# The ingress network


def test_the_first_published_port_makes_the_ingress_network() -> None:
    state = app_state()
    service = create(state, on("app", ports=(port(),)), "10.129.0.0/16")
    ingress = state.networks[state.ingress_network]  # type: ignore[index]
    assert (ingress.spec.name, ingress.spec.ingress) == ("ingress", True)
    assert ingress.subnet == "10.130.0.0/16"  # neither the network's nor the host's route
    assert targets(service) == ["app", ingress.id]
    assert [vip.network_id for vip in service.endpoint.virtual_ips] == ["app"]
    create(state, replace(on(ports=(port(81),)), name="shop"))
    assert len(state.networks) == 2


def test_ports_in_mode_host_need_no_ingress_network() -> None:
    state = app_state()
    create(state, on("app", ports=(port(mode="host"),)))
    assert state.ingress_network is None


def test_a_refused_service_makes_no_ingress_network() -> None:
    state = app_state()
    with pytest.raises(Conflict, match="fleet's own"):
        create(state, on(ports=(port(2377),)))
    assert state.ingress_network is None


def test_an_ingress_network_can_be_made_beforehand_and_there_is_one() -> None:
    state = build.state()
    spec = NetworkSpec(name="mesh", ingress=True)
    writes, mesh = networks.create_network(state, spec, (), NOW, Numbered(7))
    state.apply(writes)
    assert targets(create(state, on(ports=(port(),)))) == [mesh.id]
    with pytest.raises(AlreadyExists, match='"mesh" is the ingress network'):
        networks.create_network(state, replace(spec, name="two"), (), NOW, Numbered(8))


def test_the_ingress_network_is_removed_when_nothing_publishes() -> None:
    state = build.state()
    service = create(state, on(ports=(port(),)))
    with pytest.raises(Conflict, match='"ingress" is in use by service "web"'):
        networks.remove_network(state, "ingress")
    state.apply(Writes(removed=(SERVICE.object_name(service.id),)))
    state.apply(networks.remove_network(state, "ingress")[0])
    assert state.ingress_network is None
    create(state, on(ports=(port(),)))
    assert state.ingress_network is not None


def test_another_network_of_that_name_is_a_conflict() -> None:
    state = build.state(networks=[build.network("ingress")])
    with pytest.raises(Conflict, match='needs a network "ingress", but that is another one'):
        create(state, on(ports=(port(),)))


def test_nobody_names_the_ingress_network_but_what_was_read_may_be_sent_back() -> None:
    state = build.state()
    service = create(state, on(ports=(port(),)))
    assert update(state, service.spec) == service
    ports = EndpointSpec(ports=(port(), port(81)))
    changed = update(state, replace(service.spec, endpoint_spec=ports))
    assert targets(changed) == [state.ingress_network]
    with pytest.raises(InvalidArgument, match='"ingress" is not valid: services join the ingress'):
        create(state, replace(on("ingress"), name="shop"))


def test_a_spec_without_ingress_ports_leaves_the_ingress_network() -> None:
    state = app_state()
    service = create(state, on("app", ports=(port(),)))
    changed = update(state, replace(service.spec, endpoint_spec=EndpointSpec()))
    assert targets(changed) == ["app"]
    assert changed.endpoint.ports == ()


# Networks that every host has


def test_predefined_networks_are_kept_as_words() -> None:
    state = build.state()
    for name in ("host", "none", "bridge"):
        service = create(state, replace(on(name), name=f"s-{name}"))
        assert targets(service) == [name]
        assert service.endpoint == Endpoint()
        assert service.spec.task_template.overlays == ()


# What replaces tasks


@pytest.mark.parametrize(
    ("before", "after", "new_tasks"),
    [
        (on(), on(ports=(port(),)), True),
        (on(ports=(port(),)), on(ports=(port(), port(81, 81))), False),
        (on(ports=(port(),)), on(ports=(port(9090),)), False),
        (on(ports=(port(),)), on(), True),
        (on("app"), on("app", mode="dnsrr"), False),
        (on("app"), at("app", "10.128.9.9"), False),
        (on(), on(ports=(port(mode="host"),)), True),
        (on(ports=(port(mode="host"),)), on(ports=(port(81, mode="host"),)), True),
        (on(ports=(port(mode="host"),)), on(ports=(port(mode="host"), port(9))), True),
    ],
    ids=["first", "another", "number", "last", "mode", "address", "host", "host number", "both"],
)
def test_tasks_are_replaced_where_they_would_differ(
    before: ServiceSpec, after: ServiceSpec, new_tasks: bool
) -> None:
    state = app_state()
    create(state, before)
    assert update(state, after).template_version == (2 if new_tasks else 1)


@pytest.mark.parametrize(
    "container",
    [
        {"hosts": ("10.0.0.5 db",)},
        {"dns_config": DnsConfig(nameservers=("10.0.0.5",))},
        {"dns_config": DnsConfig(search=("example.org",))},
    ],
    ids=["hosts", "dns", "search"],
)
def test_names_of_a_container_are_in_its_task(container: dict[str, object]) -> None:
    state = app_state()
    create(state, SPEC)
    template = build.template()
    changed = replace(template, container_spec=replace(template.container_spec, **container))
    assert update(state, replace(SPEC, task_template=changed)).template_version == 2


# Holding and letting go


def test_what_was_allocated_is_kept_over_updates() -> None:
    state = app_state()
    first = create(state, on("app", ports=(port(0),)))
    create(state, replace(on("app", ports=(port(0),)), name="shop"))
    changed = update(state, replace(on("app", ports=(port(0),)), labels={"a": "b"}))
    assert changed.endpoint == first.endpoint
    assert [one.published_port for one in first.endpoint.ports] == [30_000]
    assert first.spec.endpoint_spec.ports == (port(0),)


def test_a_service_without_an_endpoint_gets_one_with_its_next_update() -> None:
    state = app_state()
    service = create(state, on("app"))
    state.apply(Writes(objects=(replace(service, endpoint=Endpoint()),)))
    assert update(state, service.spec).endpoint == service.endpoint


def test_a_removed_service_gives_up_ports_and_addresses_at_once() -> None:
    state = app_state()
    first = create(state, on("app", ports=(port(),)))
    task = replace(build.task("web.1", state=TaskState.NEW), service_id=first.id)
    state.apply(Writes(tasks=[task]))
    state.apply(services.remove_service(state, "web", NOW)[0])
    assert state.services[ServiceId(first.id)].removing
    second = create(state, on("app", ports=(port(),)))
    assert second.endpoint == first.endpoint


def test_a_taken_port_refuses_an_update_too() -> None:
    state = build.state()
    create(state, on(ports=(port(),)))
    create(state, replace(on(ports=(port(81),)), name="shop"))
    with pytest.raises(Conflict, match='port 8080/tcp is published by service "web"'):
        update(state, replace(on(ports=(port(),)), name="shop"))


def test_aliases_are_kept() -> None:
    state = app_state()
    joined = NetworkAttachment(target="app", aliases=("www",))
    spec = replace(SPEC, task_template=replace(SPEC.task_template, networks=(joined,)))
    assert create(state, spec).spec.task_template.networks == (joined,)
