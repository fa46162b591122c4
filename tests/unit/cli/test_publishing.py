"""Ports, names and networks of services: flags -> spec, and as the tables show them."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from pyswarm_core.codec import from_proto, to_proto
from pyswarm_core.docker.objects import of_network
from pyswarm_core.docker.ports import ingress_ports, shown
from pyswarm_core.docker.publishing import ports, published
from pyswarm_core.errors import InvalidArgument, NotFound
from pyswarm_core.ids import NetworkId
from pyswarm_core.objects import Endpoint, Network, TaskDetail, VirtualIp
from pyswarm_core.specs import (
    ContainerSpec,
    DnsConfig,
    EndpointMode,
    EndpointSpec,
    IpamConfig,
    NetworkAttachment,
    NetworkSpec,
    PortConfig,
    Protocol,
    PublishMode,
    ServiceSpec,
    TaskSpec,
)
from pyswarm_core.views import NetworkMembers
from tests.unit.cli.conftest import Pyswarm
from tests.unit.cli.objects import (
    CREATED,
    network_reply,
    service,
    service_reply,
    services_reply,
    tasks_reply,
)
from tests.unit.cli.scripted import Script

HOST = PublishMode.HOST


def port(
    number: int,
    target: int,
    protocol: str = "tcp",
    mode: PublishMode = PublishMode.INGRESS,
    ip: str = "",
) -> PortConfig:
    return PortConfig(
        target_port=target,
        protocol=Protocol(protocol),
        published_port=number,
        publish_mode=mode,
        host_ip=ip,
    )


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("80", [port(0, 80)]),
        ("8080:80", [port(8080, 80)]),
        ("8080:80/UDP", [port(8080, 80, "udp")]),
        ("10.0.0.5:8080:80", [port(8080, 80, ip="10.0.0.5")]),
        ("[::1]:8080:80/sctp", [port(8080, 80, "sctp", ip="::1")]),
        ("eth0:8080:80", [port(8080, 80, ip="eth0")]),
        ("10.0.0.5::80", [port(0, 80, ip="10.0.0.5")]),
        ("80-81", [port(0, 80), port(0, 81)]),
        ("8000-8001:80-81", [port(8000, 80), port(8001, 81)]),
        ("8000-8001:80/udp", [port(8000, 80, "udp"), port(8001, 80, "udp")]),
        ("target=80", [port(0, 80)]),
        ("published=8080,target=80,protocol=udp", [port(8080, 80, "udp")]),
        ("Target=80, published=8080 ,mode=HOST", [port(8080, 80, mode=HOST)]),
        ("target=80,mode=host,host_ip=[::1]", [port(0, 80, mode=HOST, ip="::1")]),
        ("target=80,host-ip=eth0", [port(0, 80, ip="eth0")]),
    ],
)
def test_ports_are_read_in_dockers_two_forms(text: str, found: list[PortConfig]) -> None:
    assert list(ports([text])) == found


OLD = (port(8080, 80), port(53, 53, "udp"), port(0, 443, mode=HOST))


@pytest.mark.parametrize(
    ("added", "removed", "left"),
    [
        ((), ("80",), OLD[1:]),
        ((), ("8080:80",), OLD[1:]),
        ((), ("53/udp",), (OLD[0], OLD[2])),
        ((), ("443",), OLD[:2]),
        ((), ("target=443,mode=host",), OLD[:2]),
        (("8080:81",), (), (port(8080, 81), *OLD[1:])),
        (("9090:80",), ("80",), (*OLD[1:], port(9090, 80))),
        (("443",), (), (*OLD, port(0, 443))),
    ],
)
def test_publishing_is_edited_by_target_and_by_place(
    added: tuple[str, ...], removed: tuple[str, ...], left: tuple[PortConfig, ...]
) -> None:
    assert published(OLD, added, removed) == left


@pytest.mark.parametrize("removed", ["9090:80", "8080", "53", "target=443,mode=ingress"])
def test_a_removal_that_means_no_port_says_which_there_are(removed: str) -> None:
    with pytest.raises(
        InvalidArgument, match=r"is not valid: expected a target port of .*8080->80"
    ):
        published(OLD, (), (removed,))
    with pytest.raises(InvalidArgument, match="no port is published"):
        published((), (), (removed,))


@pytest.mark.parametrize(
    ("found", "text"),
    [
        ([], ""),
        ([port(8080, 80)], "*:8080->80/tcp"),
        ([port(81, 81), port(80, 80)], "*:80-81->80-81/tcp"),
        ([port(80, 80), port(81, 80), port(82, 80)], "*:80-82->80/tcp"),
        ([port(80, 80), port(81, 81), port(82, 80)], "*:80-81->80-81/tcp, *:82->80/tcp"),
        ([port(80, 80), port(81, 80), port(82, 81)], "*:80-81->80/tcp, *:82->81/tcp"),
        ([port(80, 80), port(82, 82)], "*:80->80/tcp, *:82->82/tcp"),
        ([port(80, 80), port(81, 81, "udp")], "*:80->80/tcp, *:81->81/udp"),
        ([port(80, 80, ip="10.0.0.5")], "10.0.0.5:80->80/tcp"),
        ([port(80, 80, ip="::1"), port(81, 81)], "*:81->81/tcp, [::1]:80->80/tcp"),
    ],
)
def test_neighbouring_ports_are_folded(found: list[PortConfig], text: str) -> None:
    assert shown(found) == text


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), unique_by=lambda pair: pair[0]))
def test_prop_folding_loses_no_port(pairs: list[tuple[int, int]]) -> None:
    text = shown(port(number, target) for number, target in pairs)
    unfolded: list[tuple[int, int]] = []
    for span in text.split(", ") if text else ():
        numbers, _, targets = span.removeprefix("*:").removesuffix("/tcp").partition("->")
        unfolded += [
            (one.published_port, one.target_port) for one in ports([f"{numbers}:{targets}"])
        ]
    assert unfolded == sorted(pairs)


def test_a_list_of_services_shows_the_ports_of_the_mesh(script: Script, pyswarm: Pyswarm) -> None:
    given = (port(8080, 80), port(30_000, 443), port(0, 9, mode=HOST))
    found = service()
    found = type(found)(**{**_fields(found), "endpoint": Endpoint(ports=given)})
    script.on("ListServices", services_reply(found))
    assert "*:8080->80/tcp, *:30000->443/tcp\n" in pyswarm("service", "ls").out
    assert ingress_ports(given[2:]) == ""


def test_a_list_of_tasks_shows_the_ports_of_their_hosts(script: Script, pyswarm: Pyswarm) -> None:
    reply = tasks_reply()
    to_proto(TaskDetail(ports=(port(8080, 80, mode=HOST),)), reply.tasks[1].task.detail)
    script.on("ListTasks", reply)
    running = pyswarm("service", "ps", "web").out.splitlines()[1]
    assert running.endswith("*:8080->80/tcp")


def _fields(value: Any) -> dict[str, Any]:
    return {name: getattr(value, name) for name in value.__struct_fields__}


def spec_sent(script: Script, rpc: str) -> ServiceSpec:
    return from_proto(ServiceSpec, script.requests(rpc)[-1].spec)


def test_create_sends_ports_and_names(script: Script, pyswarm: Pyswarm) -> None:
    script.on("CreateService", service_reply())
    line = (
        "service create -d -p 8080:80 --publish target=53,protocol=udp,mode=host --network host "
        "--dns 10.0.0.5 --dns-search example.org --dns-option ndots:2 --host db:10.0.0.6 "
        "--host six:::1 web"
    )
    pyswarm(*line.replace("--network host ", "").split())
    spec = spec_sent(script, "CreateService")
    assert spec.endpoint_spec == EndpointSpec(
        ports=(port(8080, 80), port(0, 53, "udp", HOST)), mode=EndpointMode.VIP
    )
    container = spec.task_template.container_spec
    assert container.hosts == ("10.0.0.6 db", "::1 six")
    assert container.dns_config == DnsConfig(
        nameservers=("10.0.0.5",), search=("example.org",), options=("ndots:2",)
    )
    pyswarm(*"service create -d --network name=app,alias=db,ip=10.128.9.9 web".split())
    assert spec_sent(script, "CreateService").task_template.networks == (
        NetworkAttachment(target="app", aliases=("db",), ip="10.128.9.9"),
    )
    pyswarm(*"service create -d --endpoint-mode dnsrr --network host web".split())
    spec = spec_sent(script, "CreateService")
    assert spec.endpoint_spec.mode is EndpointMode.DNSRR
    assert spec.task_template.networks == (NetworkAttachment(target="host"),)


NAMED = service(
    task_template=TaskSpec(
        container_spec=ContainerSpec(
            image="web:1",
            hosts=("10.0.0.6 db", "10.0.0.7 db", "10.0.0.8 cache"),
            dns_config=DnsConfig(nameservers=("10.0.0.5",), search=("a", "b"), options=("rotate",)),
        )
    ),
    endpoint_spec=EndpointSpec(ports=OLD),
)


def test_update_edits_ports_and_names(script: Script, pyswarm: Pyswarm) -> None:
    script.on("GetService", service_reply(NAMED)).on("UpdateService", service_reply(NAMED))
    line = (
        "service update -d --publish-add 9090:90 --publish-rm 80 --endpoint-mode vip "
        "--host-rm db --host-add new:10.0.0.9 --dns-rm 10.0.0.5 --dns-add 10.0.0.4 "
        "--dns-search-rm a --dns-search-add c --dns-option-rm rotate --dns-option-add ndots:1 web"
    )
    assert pyswarm(*line.split()).code == 0
    spec = spec_sent(script, "UpdateService")
    assert spec.endpoint_spec.ports == (*OLD[1:], port(9090, 90))
    container = spec.task_template.container_spec
    assert container.hosts == ("10.0.0.8 cache", "10.0.0.9 new")
    assert container.dns_config == DnsConfig(
        nameservers=("10.0.0.4",), search=("b", "c"), options=("ndots:1",)
    )


def test_a_host_is_removed_with_its_address_alone(script: Script, pyswarm: Pyswarm) -> None:
    script.on("GetService", service_reply(NAMED)).on("UpdateService", service_reply(NAMED))
    pyswarm("service", "update", "-d", "--host-rm", "db:10.0.0.7", "web")
    spec = spec_sent(script, "UpdateService")
    assert spec.task_template.container_spec.hosts == ("10.0.0.6 db", "10.0.0.8 cache")


def test_update_joins_predefined_networks_by_their_words(script: Script, pyswarm: Pyswarm) -> None:
    script.on("GetService", service_reply()).on("UpdateService", service_reply())
    script.on("GetNetwork", NotFound("no such network"))
    assert pyswarm("service", "update", "-d", "--network-add", "host", "web").code == 0
    spec = spec_sent(script, "UpdateService")
    assert spec.task_template.networks == (NetworkAttachment(target="host"),)


def test_a_service_is_shown_with_its_ports(script: Script, pyswarm: Pyswarm) -> None:
    joined = (NetworkAttachment(target="w" * 25), NetworkAttachment(target="host"))
    template = TaskSpec(container_spec=ContainerSpec(image="web:1"), networks=joined)
    found = service(task_template=template)
    given = Endpoint(ports=(port(8080, 80), port(0, 53, "udp", HOST, "10.0.0.5")))
    found = type(found)(**{**_fields(found), "endpoint": given})
    network = Network(id=NetworkId("w" * 25), spec=NetworkSpec(name="app"), subnet="", vni=1)
    script.on("GetService", service_reply(found)).on("GetNetwork", network_reply(network))
    assert pyswarm("service", "inspect", "--pretty", "web").out.endswith(
        "Networks:       app host\n"
        "Endpoint Mode:  vip\n"
        "Ports:\n"
        " PublishedPort = 8080\n"
        "  Protocol = tcp\n"
        "  TargetPort = 80\n"
        "  PublishMode = ingress\n"
        " PublishedPort = chosen by the node\n"
        "  Protocol = udp\n"
        "  TargetPort = 53\n"
        "  PublishMode = host\n"
        "  HostIP = 10.0.0.5\n"
    )


def test_network_create_sends_what_docker_has(script: Script, pyswarm: Pyswarm) -> None:
    network = Network(id=NetworkId("w" * 25), spec=NetworkSpec(name="app"), subnet="", vni=1)
    script.on("CreateNetwork", network_reply(network))
    line = (
        "network create --attachable --ipv6 --subnet fd00:9::/64 --subnet 10.9.0.0/16 "
        "--gateway 10.9.0.1 --ip-range 10.9.4.0/24 -o encrypted --opt mtu=1400 "
        "-o com.pyswarm.block-metadata=true app"
    )
    assert pyswarm(*line.split()).code == 0
    spec = from_proto(NetworkSpec, script.requests("CreateNetwork")[-1].spec)
    assert (spec.attachable, spec.enable_ipv6, spec.encrypted, spec.mtu) == (True, True, True, 1400)
    assert spec.ipam.config == (
        IpamConfig(subnet="fd00:9::/64"),
        IpamConfig(subnet="10.9.0.0/16", gateway="10.9.0.1", ip_range="10.9.4.0/24"),
    )
    made = Network(
        id=network.id, spec=spec, subnet="10.9.0.0/16", subnet6="fd00:9::/64", vni=1,
        created_at=CREATED,
    )  # fmt: skip
    shown_as = of_network(NetworkMembers(made, (), ()))
    assert shown_as["IPAM"]["Config"] == [
        {"Subnet": "10.9.0.0/16", "IPRange": "10.9.4.0/24", "Gateway": "10.9.0.1"},
        {"Subnet": "fd00:9::/64"},
    ]
    expected = {
        "encrypted": "",
        "com.docker.network.driver.mtu": "1400",
        "com.pyswarm.block-metadata": "true",
    }
    assert spec.block_metadata
    assert shown_as["Options"] == expected


def test_addresses_of_ipv6_are_shown_where_a_network_has_them(
    script: Script, pyswarm: Pyswarm
) -> None:
    dual = Network(
        id=NetworkId("w" * 25), spec=NetworkSpec(name="app", enable_ipv6=True),
        subnet="10.9.0.0/16", subnet6="fd00:9::/64", vni=1,
    )  # fmt: skip
    vips = (VirtualIp(network_id=dual.id, addr="10.9.255.254"),)
    script.on("GetService", service_reply(replace(service(), endpoint=Endpoint(virtual_ips=vips))))
    network = network_reply(dual)
    found = network.services.add(name="web", vip="10.9.255.254")
    found.tasks.add(name="web.1", address="10.9.0.2")
    found.tasks.add(name="web.2")
    script.on("GetNetwork", network)
    form = "{{range .Endpoint.VirtualIPs}}{{.Addr}} {{end}}"
    assert (
        pyswarm("service", "inspect", "web", "web", "-f", form).out.splitlines()
        == ["10.9.255.254 fd00:9::fffe "] * 2
    )
    assert len(script.requests("GetNetwork")) == 1
    view = tasks_reply()
    view.tasks[0].task.detail.addresses.add(network_id=dual.id, address="10.9.0.2")
    view.tasks[0].task.detail.addresses.add(network_id="bridge", address="172.30.0.2")
    script.on("ListTasks", view)
    form = "{{range .NetworksAttachments}}{{.Addresses}} {{end}}"
    shown = pyswarm("task", "inspect", "web.1", "-f", form).out
    assert shown == "[10.9.0.2 fd00:9::2] [172.30.0.2] \n"
    (members,) = json.loads(pyswarm("network", "inspect", "-v", "app").out)
    web = members["Services"]["web"]
    assert web["VIPv6"] == "fd00:9::fffe"
    assert [task.get("EndpointIPv6") for task in web["Tasks"]] == ["fd00:9::2", None]


def test_a_network_is_shown_with_who_is_on_it(script: Script, pyswarm: Pyswarm) -> None:
    network = Network(
        id=NetworkId("w" * 25), spec=NetworkSpec(name="app"), subnet="10.9.0.0/16", vni=1
    )
    reply = network_reply(network)
    web = reply.services.add(name="web", vip="10.9.255.254")
    web.tasks.add(name="web.1", task_id="t", node_name="host1", address="10.9.0.2", state=7)
    to_proto(port(8080, 80), web.ports.add())
    reply.peers.add(node_name="host1", addr="192.0.2.1", blocks=["10.9.0.0/26"], acknowledged=9)
    script.on("GetNetwork", reply)
    assert "Services" not in json.loads(pyswarm("network", "inspect", "app").out)[0]
    (found,) = json.loads(pyswarm("network", "inspect", "-v", "app").out)
    assert [request.verbose for request in script.requests("GetNetwork")] == [True, True]
    assert found["Services"]["web"] == {
        "VIP": "10.9.255.254",
        "Ports": ["Target: 80/tcp, Publish: 8080"],
        "Tasks": [
            {
                "Name": "web.1",
                "ID": "t",
                "EndpointID": "",
                "EndpointIP": "10.9.0.2",
                "Node": "host1",
                "State": "running",
                "Info": {"Host IP": "192.0.2.1"},
            }
        ],
    }
    assert found["Peers"] == [
        {"Name": "host1", "IP": "192.0.2.1", "Blocks": ["10.9.0.0/26"], "Acknowledged": 9}
    ]
