"""Published ports, names, networks: every refusal names its field and says what would be valid."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyswarm_core.specs import (
    DnsConfig,
    EndpointMode,
    EndpointSpec,
    Ipam,
    IpamConfig,
    NetworkAttachment,
    NetworkSpec,
    PortConfig,
    Protocol,
    PublishMode,
    ServiceSpec,
)
from pyswarm_core.validation import network_problems, service_problems
from tests.fixtures import build

replace = msgspec.structs.replace
SPEC = build.service("web").spec


def port(
    published: int = 8080, target: int = 80, mode: str = "ingress", ip: str = ""
) -> PortConfig:
    return PortConfig(
        target_port=target, published_port=published, publish_mode=PublishMode(mode), host_ip=ip
    )


def host(published: int = 8080, target: int = 80, ip: str = "") -> PortConfig:
    return port(published, target, "host", ip)


def service(
    *ports: PortConfig, networks: tuple[str, ...] = (), mode: str = "vip", alias: str = ""
) -> ServiceSpec:
    joined = tuple(
        NetworkAttachment(target=name, aliases=(alias,) if alias else ()) for name in networks
    )
    return replace(
        SPEC,
        endpoint_spec=EndpointSpec(mode=EndpointMode(mode), ports=ports),
        task_template=replace(SPEC.task_template, networks=joined),
    )


def names(**changes: object) -> ServiceSpec:
    template = SPEC.task_template
    container = replace(template.container_spec, **changes)
    return replace(SPEC, task_template=replace(template, container_spec=container))


def dns(**changes: object) -> ServiceSpec:
    return names(dns_config=replace(DnsConfig(), **changes))


def joined(target: str, ip: str, mode: str = "vip") -> ServiceSpec:
    """A service that chose its virtual address on a network."""
    spec = service(mode=mode)
    networks = (NetworkAttachment(target=target, ip=ip),)
    return replace(spec, task_template=replace(spec.task_template, networks=networks))


ALLOWED = {
    "ports": service(port(), port(8081), port(0), port(0)),
    "protocols": service(port(53), replace(port(53), protocol=Protocol.UDP)),
    "addresses": service(port(ip="10.0.0.5"), port(ip="10.0.0.6"), port(ip="fd00::1")),
    "devices": service(host(ip="eth0.100"), host(ip="br-lan")),
    "dnsrr": service(host(), mode="dnsrr", networks=("app",)),
    "host network": service(host(80), host(0), networks=("host",)),
    "bridge network": service(host(), networks=("bridge",)),
    "chosen address": joined("app", "10.0.0.1"),
    "no network": service(networks=("none",)),
    "hosts": names(hosts=("10.0.0.5 db db.example.org", "::1 me", "10.0.0.5 a_b")),
    "the node": names(hosts=("host-gateway up",)),
    "alias": service(networks=("app",), alias="db.example.org"),
    "dns": dns(
        nameservers=("10.0.0.5", "fd00::1"), search=("example.org.", "."), options=("rotate",)
    ),
}


@pytest.mark.parametrize("spec", ALLOWED.values(), ids=ALLOWED)
def test_what_docker_takes_is_allowed(spec: ServiceSpec) -> None:
    assert service_problems(spec) == []


WRONG = [
    (service(port(target=0)), "--publish: target port 0 is not valid: expected 1 to 65535"),
    (service(port(65536)), "--publish: published port 65536 is not valid: expected 0 to 65535"),
    (service(port(), port(target=81)), 'port "8080/tcp" is not valid: expected each published'),
    (service(port(), host(ip="10.0.0.5")), 'port "10.0.0.5:8080/tcp" is not valid: expected each'),
    (service(port(ip="10.0.0")), 'host_ip "10.0.0" is not valid: expected an IP address, or a'),
    (service(port(ip="::1")), 'host_ip "::1" is not valid: expected 127.0.0.1'),
    (service(port(ip="fe80::1%eth0")), 'host_ip "fe80::1%eth0" is not valid'),
    (service(port(ip="a" * 16)), "a device's name of at most 15 characters"),
    (service(port(ip="../eth0")), 'host_ip "../eth0" is not valid'),
    (service(*[port(0)] * 1001), "--publish: count 1001 is not valid: expected at most 1000"),
    (
        service(port(), mode="dnsrr"),
        '--endpoint-mode: value "dnsrr" is not valid: expected vip, or mode=host for published',
    ),
    (service(networks=("host", "app")), '--network: value "host" is not valid: expected no other'),
    (joined("app", "fd00::1"), '--network: ip "fd00::1" is not valid: expected an IPv4 address'),
    (joined("app", "10.0.0"), '--network: ip "10.0.0" is not valid: expected an IPv4 address'),
    (joined("none", "10.0.0.1"), 'ip "10.0.0.1" is not valid: network none has no virtual'),
    (
        joined("app", "10.0.0.1", mode="dnsrr"),
        'ip "10.0.0.1" is not valid: expected none with --endpoint',
    ),
    (service(networks=("app",), alias="db..b"), 'alias "db..b" is not valid: expected names of 1'),
    (service(networks=("app",), alias="a.b" * 85), "is not valid: expected at most 253"),
    (service(networks=("none",), alias="db"), 'alias "db" is not valid: network none has no'),
    (service(host(), networks=("none",)), '"8080/tcp" is not valid: expected no published'),
    (service(port(), networks=("bridge",)), "expected mode=host with network bridge"),
    (service(port(80), networks=("host",)), "expected mode=host with network host"),
    (service(host(), networks=("host",)), "expected the target's number with network host"),
    (
        names(hosts=("db 10.0.0.5",)),
        '--host: value "db 10.0.0.5" is not valid: expected NAME:IP with an',
    ),
    (names(hosts=("10.0.0.5",)), "expected NAME:IP with a host's name"),
    (names(hosts=("10.0.0.5 a\nb",)), '--host: value "10.0.0.5 a\\nb" is not valid'),
    (names(hosts=("10.0.0.5 db",) * 257), "--host: count 257"),
    (dns(nameservers=("dns.example",)), '--dns: value "dns.example" is not valid: expected an IP'),
    (dns(nameservers=("10.0.0.5",) * 17), "--dns: count 17"),
    (dns(search=("a b",)), '--dns-search: value "a b" is not valid: expected a domain'),
    (dns(search=("a." * 127 + "a",)), "dns-search"),
    (dns(options=("ndots 2",)), '--dns-option: value "ndots 2" is not valid: expected an option'),
]


@pytest.mark.parametrize(("spec", "told"), WRONG, ids=lambda value: str(value)[:50])
def test_what_is_wrong_is_told(spec: ServiceSpec, told: str) -> None:
    (problem,) = service_problems(spec)
    assert told in str(problem)


def network(*configs: IpamConfig, **changes: object) -> NetworkSpec:
    return NetworkSpec(name="app", ipam=Ipam(config=configs), **changes)  # type: ignore[arg-type]


def four(subnet: str = "10.20.0.0/16", gateway: str = "", ip_range: str = "") -> IpamConfig:
    return IpamConfig(subnet=subnet, gateway=gateway, ip_range=ip_range)


SIX = IpamConfig(subnet="fd00:20::/64")

NETWORKS = {
    "gateway and range": network(four(gateway="10.20.0.1", ip_range="10.20.4.0/24")),
    "chosen": network(enable_ipv6=True, attachable=True, encrypted=True),
    "both": network(four(), SIX, enable_ipv6=True),
    "the least of ipv6": network(enable_ipv6=True, mtu=1280),
    "the least of ipv4": network(mtu=576),
    "six alone": network(SIX, enable_ipv6=True),
    "ingress": network(ingress=True, encrypted=True),
}


@pytest.mark.parametrize("spec", NETWORKS.values(), ids=NETWORKS)
def test_what_docker_has_of_networks_is_allowed(spec: NetworkSpec) -> None:
    assert network_problems(spec) == []


WRONG_NETWORKS = [
    (
        replace(network(), name="host"),
        'name: value "host" is not valid: operation is not permitted on',
    ),
    (
        network(four(gateway="10.21.0.1")),
        '--gateway: value "10.21.0.1" is not valid: expected an address',
    ),
    (network(four(gateway="10.20.0.0")), "not its first or last"),
    (network(four(gateway="fd00::1")), '--gateway: value "fd00::1" is not valid: expected an IPv4'),
    (
        network(four("", gateway="10.20.0.1")),
        '--gateway: value "10.20.0.1" is not valid: expected --subnet',
    ),
    (
        network(four("", ip_range="10.20.4.0/24")),
        '--ip-range: value "10.20.4.0/24" is not valid: expected --sub',
    ),
    (network(four(ip_range="10.21.4.0/24")), "expected a part of 10.20.0.0/16"),
    (network(four(ip_range="10.20.4.1/24")), '--ip-range: value "10.20.4.1/24" is not valid'),
    (network(four(ip_range="10.20.4.0/30")), "expected a prefix length of 8 to 29"),
    (
        network(four(), four("10.21.0.0/16")),
        '--subnet: count "2 of IPv4 and 0 of IPv6" is not valid',
    ),
    (network(SIX), '--subnet: value "fd00:20::/64" is not valid: expected --ipv6 as well'),
    (network(enable_ipv6=True, mtu=1279), "expected 0 or 1280 to 65485 with --ipv6"),
    (network(IpamConfig(subnet="fe80::/64"), enable_ipv6=True), "such as those of fd00::/8"),
    (network(IpamConfig(subnet="ff00::/8"), enable_ipv6=True), "such as those of fd00::/8"),
    (network(IpamConfig(subnet="fd00::1/64"), enable_ipv6=True), "no bit set behind its prefix"),
    (
        network(IpamConfig(subnet="fd00::%e\n/64"), enable_ipv6=True),
        "expected an IPv6 subnet such as",
    ),
    (network(IpamConfig(subnet="fd00::%64"), enable_ipv6=True), "expected an IPv6 subnet such as"),
    (
        network(IpamConfig(subnet="fd00::/64", gateway="fd00::1"), enable_ipv6=True),
        '--gateway: value "fd00::1" is not valid: expected an IPv4 one',
    ),
    (network(ingress=True, internal=True), '--internal: value "true" is not valid: expected false'),
    (network(ingress=True, attachable=True), "--attachable: value"),
]


@pytest.mark.parametrize(("spec", "told"), WRONG_NETWORKS, ids=lambda value: str(value)[:50])
def test_what_is_wrong_with_a_network_is_told(spec: NetworkSpec, told: str) -> None:
    (problem,) = network_problems(spec)
    assert told in str(problem)


@given(st.text(max_size=100))
def test_prop_no_text_in_any_field_breaks_validation(text: str) -> None:
    spec = names(
        hosts=(text, f"10.0.0.5 {text}"),
        dns_config=DnsConfig(nameservers=(text,), search=(text,), options=(text,)),
    )
    ports = EndpointSpec(ports=(port(ip=text),))
    wrong = network(IpamConfig(subnet=text, gateway=text, ip_range=text))
    found = [*service_problems(replace(spec, endpoint_spec=ports)), *network_problems(wrong)]
    assert all(str(problem).isprintable() for problem in found)
