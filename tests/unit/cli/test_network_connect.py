"""network connect and disconnect: the spec that is sent, the wait, and Docker's refusals."""

import pytest
from msgspec.structs import replace

from cli.network import connecting
from cli.network.connecting import Joined, attachment, connected, disconnected
from pyswarm_core.api.v1 import control_pb2 as pb
from pyswarm_core.codec import from_proto, to_proto
from pyswarm_core.errors import Conflict, InvalidArgument, NotFound
from pyswarm_core.ids import NetworkId
from pyswarm_core.objects import Network, Task, TaskDetail
from pyswarm_core.specs import (
    ContainerMode,
    EndpointSpec,
    NetworkAttachment,
    NetworkSpec,
    PortConfig,
    PublishMode,
    ServiceSpec,
)
from pyswarm_core.states import TaskState, UpdateState
from tests.unit.cli.conftest import Pyswarm
from tests.unit.cli.objects import network_reply, progress, service, service_reply, tasks_reply
from tests.unit.cli.scripted import Script

APP = Joined("app1", "app")
MESH = Joined("mesh1", "ingress", ingress=True)
HOST, NONE, BRIDGE = (Joined(name, name) for name in ("host", "none", "bridge"))


def container(*targets: str, ports: tuple[PortConfig, ...] = ()) -> ServiceSpec:
    spec = service().spec
    networks = tuple(NetworkAttachment(target=target) for target in targets)
    return replace(
        spec,
        name="web",
        mode=ContainerMode(),
        task_template=replace(spec.task_template, networks=networks),
        endpoint_spec=EndpointSpec(ports=ports),
    )


def targets(spec: ServiceSpec) -> list[str]:
    return [one.target for one in spec.task_template.networks]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ((), ["bridge", "app1"]),
        (("none",), ["app1"]),
        (("db1",), ["db1", "app1"]),
        (("mesh1",), ["mesh1", "app1"]),
    ],
)
def test_a_container_joins_a_network_beside_those_that_it_has(
    before: tuple[str, ...], after: list[str]
) -> None:
    joins = attachment(APP, ("front",), "10.0.0.9")
    spec = connected(container(*before), APP, joins)
    assert targets(spec) == after
    assert (joins.aliases, joins.task_ip, joins.ip) == (("front",), "10.0.0.9", "")


@pytest.mark.parametrize(
    ("before", "network", "after"),
    [
        (("app1",), APP, ["none"]),
        (("db1", "app1"), APP, ["db1"]),
        (("app1", "mesh1"), APP, ["mesh1"]),
        ((), BRIDGE, ["none"]),
        (("bridge", "app1"), BRIDGE, ["app1"]),
    ],
)
def test_a_container_leaves_a_network(
    before: tuple[str, ...], network: Joined, after: list[str]
) -> None:
    assert targets(disconnected(container(*before), network)) == after


@pytest.mark.parametrize(
    ("before", "network", "told"),
    [
        (("app1",), APP, "endpoint with name web already exists in network app"),
        ((), BRIDGE, "endpoint with name web already exists in network bridge"),
        (("host",), APP, "container cannot be disconnected from host network or connected to host"),
        ((), HOST, "container cannot be disconnected from host network or connected to host"),
        ((), NONE, "container cannot be connected to multiple networks with one of the networks"),
        (
            (),
            MESH,
            'network "ingress" is the routing mesh: containers join it by publishing',
        ),
    ],
)
def test_joins_that_docker_refuses(before: tuple[str, ...], network: Joined, told: str) -> None:
    joins = NetworkAttachment(target=network.target)
    with pytest.raises(Conflict, match=told):
        connected(container(*before), network, joins)


HOST_PORT = (PortConfig(target_port=80, published_port=80, publish_mode=PublishMode.HOST),)


@pytest.mark.parametrize(
    ("spec", "network", "told"),
    [
        (container("db1"), APP, "container web is not connected to the network app"),
        (container("none"), APP, "container web is not connected to the network app"),
        (container("mesh1"), MESH, "container web is not connected to the network ingress"),
        (container("host"), HOST, "container cannot be disconnected from host network"),
        (container("host"), APP, "container cannot be disconnected from host network"),
        (container("app1", ports=HOST_PORT), APP, "publishes port 80/tcp in mode host: connect it"),
    ],
)
def test_leaves_that_are_refused(spec: ServiceSpec, network: Joined, told: str) -> None:
    with pytest.raises(Conflict, match=told):
        disconnected(spec, network)


def test_a_service_is_refused_with_the_alternative() -> None:
    spec = replace(service().spec, name="shop")
    with pytest.raises(Conflict, match="`pyswarm service update --network-add app shop`"):
        connected(spec, APP, NetworkAttachment(target="app1"))
    with pytest.raises(Conflict, match="`pyswarm service update --network-rm app shop`"):
        disconnected(spec, APP)


@pytest.mark.parametrize(
    ("network", "aliases", "ip", "told"),
    [
        (APP, ("a b",), "", '--alias: value "a b" is not valid'),
        (APP, (), "10.0.0", '--ip: value "10.0.0" is not valid: expected an IPv4 address'),
        (APP, (), "fd00::1", "expected an IPv4 address of the network"),
        (BRIDGE, ("x",), "", '--alias: value "x" is not valid: network bridge has no names'),
        (
            BRIDGE,
            (),
            "10.0.0.9",
            '--ip: value "10.0.0.9" is not valid: expected a network that a user made: bridge'
            " gives no chosen address",
        ),
    ],
)
def test_bad_values_name_the_flag(
    network: Joined, aliases: tuple[str, ...], ip: str, told: str
) -> None:
    with pytest.raises(InvalidArgument) as caught:
        connecting.attachment(network, aliases, ip)
    assert told in str(caught.value)


def network(network_id: str, name: str) -> Network:
    return Network(id=NetworkId(network_id), spec=NetworkSpec(name=name), subnet="", vni=1)


def scripted(script: Script, *states: object, detail: TaskDetail | None = None) -> None:
    """A running container on app1, a network other, and the progress of a change."""
    found = replace(service(), spec=container("app1"))
    view = tasks_reply().tasks[0]
    task = replace(from_proto(Task, view.task), state=TaskState.RUNNING)
    view.task.Clear()
    to_proto(replace(task, detail=detail or task.detail), view.task)
    view.node_name = "host1"
    named = pb.ContainerReply(task=view)
    to_proto(found, named.service)
    script.on("GetContainer", named)
    script.on("GetService", service_reply(found))
    script.on("GetNetwork", network_reply(network("net2", "other")))
    script.on("UpdateService", service_reply(found))
    script.on("WatchService", *states)


def sent(script: Script) -> list[list[str]]:
    return [
        [one.target for one in request.spec.task_template.networks]
        for request in script.requests("UpdateService")
    ]


def test_connect_sends_the_spec_waits_and_prints_nothing(script: Script, pyswarm: Pyswarm) -> None:
    scripted(script, [progress(1, 1)])
    ran = pyswarm("network", "connect", "--alias", "db", "other", "web")
    assert (ran.code, ran.out, ran.err) == (0, "", "")
    assert sent(script) == [["app1", "net2"]]
    (request,) = script.requests("UpdateService")
    assert list(request.spec.task_template.networks[1].aliases) == ["db"]
    assert len(script.requests("WatchService")) == 1


def test_disconnect_with_force_does_not_wait(script: Script, pyswarm: Pyswarm) -> None:
    scripted(script)
    script.on("GetNetwork", network_reply(network("app1", "app")))
    ran = pyswarm("network", "disconnect", "-f", "app", "web")
    assert (ran.code, ran.out, ran.err) == (0, "", "")
    assert sent(script) == [["none"]]
    assert not script.requests("WatchService")


def test_a_refusal_of_the_node_restores_the_spec(script: Script, pyswarm: Pyswarm) -> None:
    detail = TaskDetail(
        in_place_version=2, in_place_error="it overlaps a route", networks_refused=True
    )
    paused = progress(1, 1)
    paused.converged, paused.filled, paused.update_state = False, True, UpdateState.PAUSED.value
    done = progress(1, 1)
    scripted(script, [paused], [done], detail=detail)
    ran = pyswarm("network", "connect", "other", "web")
    assert (ran.code, ran.out) == (1, "")
    assert ran.err == "Error: node host1 refused: it overlaps a route\n"
    assert sent(script) == [["app1", "net2"], ["app1"]]


def test_what_does_not_exist_is_told_in_dockers_words(script: Script, pyswarm: Pyswarm) -> None:
    scripted(script)
    script.on("GetNetwork", NotFound('no such network: "nowhere"'))
    ran = pyswarm("network", "connect", "nowhere", "web")
    assert (ran.code, ran.err) == (1, "Error: network nowhere not found\n")
    script.on("GetContainer", NotFound("No such container: nobody"))
    ran = pyswarm("network", "disconnect", "app", "nobody")
    assert (ran.code, ran.err) == (1, "Error: No such container: nobody\n")


@pytest.mark.parametrize(
    ("flag", "told"),
    [
        ("--link=db", "--link is not supported: containers on one network find each other by name"),
        ("--ip6=fd00::9", "--ip6 is not supported: the IPv6 address follows from the IPv4 address"),
        ("--link-local-ip=169.254.9.9", "--link-local-ip is not supported: networks assign one"),
        ("--driver-opt=a=b", "--driver-opt is not supported: networks have no options for single"),
        ("--gw-priority=1", "--gw-priority is not supported: the default route is by the first"),
    ],
)
def test_flags_that_are_refused_say_what_to_use(
    script: Script, pyswarm: Pyswarm, flag: str, told: str
) -> None:
    scripted(script)
    ran = pyswarm("network", "connect", flag, "other", "web")
    assert ran.code == 2
    assert told in ran.err
    assert not script.asked, "before anything is asked or changed"
