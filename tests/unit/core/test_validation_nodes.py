"""Which descriptions of a host are allowed: an agent's word reaches terminals and kernels."""

import pytest
from msgspec.structs import replace

from pyswarm_core.limits import NODE_CPUS_MAX, NODE_MEMORY_MAX, NODES_MAX
from pyswarm_core.objects import NodeDescription, NodeResources, Platform
from pyswarm_core.validation import address_problems, description_problems
from pyswarm_core.validation.node import usable6

PLAIN = NodeDescription(hostname="web-1.example.org", engine_version="0.2.0.dev3+g1a2b3c4")


def wrong(**changes: object) -> str:
    return "; ".join(map(str, description_problems(replace(PLAIN, **changes))))


@pytest.mark.parametrize("name", ["a", "host1", "WEB-1", "10.0.0.7", "a" * 63, "x.y.z"])
def test_a_hostname_is_one_of_rfc_1123(name: str) -> None:
    assert wrong(hostname=name) == ""


@pytest.mark.parametrize(
    "name",
    [
        "", "two\nlines", "host\n", "\x1b[31mred", "../../etc/cron.d/x", "a/b", "a b", "höst",
        "a_b", "-a", "a-", "a..b", ".a", "a.", "a\0", "a" * 64, ".".join(["abcdefg"] * 40),
    ],
)  # fmt: skip
def test_what_a_terminal_or_a_file_system_would_act_upon_is_no_hostname(name: str) -> None:
    problem = wrong(hostname=name)
    assert problem.startswith("--hostname: ")
    assert problem.isprintable()
    assert "RFC 1123" in problem


@pytest.mark.parametrize("address", ["192.0.2.1", "10.0.0.1", "172.16.3.4", "100.64.0.1"])
def test_an_address_is_unicast_ipv4(address: str) -> None:
    assert not list(address_problems(address))


@pytest.mark.parametrize(
    "address",
    [
        "", "::1", "2001:db8::1", "fe80::1%eth0", "::ffff:192.0.2.1", "0.0.0.0", "0.1.2.3",
        "127.0.0.1", "169.254.1.1", "224.0.0.1", "239.1.2.3", "255.255.255.255", "240.0.0.1",
        "192.0.2.1/24",
        "192.0.2", "192.0.2.1:4789", " 192.0.2.1", "192.0.2.1\n", "3221225985",
        "host1", "010.0.0.1",
    ],
)  # fmt: skip
def test_what_no_tunnel_can_end_at_is_refused(address: str) -> None:
    (problem,) = address_problems(address)
    assert str(problem).startswith("--advertise-addr: ")
    assert "IPv4 address" in str(problem)


def test_of_ipv6_only_what_others_can_know_a_host_by_is_kept() -> None:
    told = [
        "2001:DB8:0::7",
        "fe80::1",
        "ff02::1",
        "::",
        "::1",
        "fd00::1",
        "2001:db8::7",
        "fe80::1%x",
    ]
    assert usable6(told) == ("2001:db8::7", "fd00::1")
    with pytest.raises(ValueError, match="host1"):
        usable6(["host1"])


def test_resources_of_the_largest_fleet_are_an_int64() -> None:
    for most in (NODE_CPUS_MAX * 10**9, NODE_MEMORY_MAX):
        assert most * NODES_MAX < 2**63
    assert wrong(resources=NodeResources(nano_cpus=-1)).startswith("--cpus: value -1")
    assert wrong(resources=NodeResources(nano_cpus=2**62)).startswith("--cpus: ")
    assert wrong(resources=NodeResources(memory_bytes=2**62)).startswith("--memory: ")
    assert wrong(resources=NodeResources(memory_bytes=-1)).startswith("--memory: ")


def test_words_are_few_short_and_plain() -> None:
    assert wrong(lacks=("esp", "a-newer-agents_word")) == ""
    assert "lacks: count 20000" in wrong(lacks=("x",) * 20_000)
    assert "lacks" in wrong(lacks=("two\nlines",))
    assert "lacks" in wrong(lacks=("x" * 33,))
    assert wrong(metrics_addrs=("192.0.2.1:9324", "[fd00::1]:9324")) == ""
    assert "metrics_addrs: count 17" in wrong(metrics_addrs=("192.0.2.1:9324",) * 17)
    for text in ("host:9324", "192.0.2.1", "127.0.0.1:9324", "192.0.2.1:x", "[fe80::1%x]:1"):
        assert "metrics_addrs" in wrong(metrics_addrs=(text,))
    assert "os" in wrong(platform=Platform(os="lin\x1bux"))
    assert "architecture" in wrong(platform=Platform(architecture="x" * 100))
    assert "engine version" in wrong(engine_version="1\n2")
    assert "engine version" in wrong(engine_version="9" * 200)


def test_engine_labels_are_bounded_in_number_and_length() -> None:
    assert wrong(engine_labels={"storage": "ssd", "com.example/rack": "r 7"}) == ""
    assert "129" in wrong(engine_labels={f"k{n}": "" for n in range(129)})
    assert "--label: " in wrong(engine_labels={"k": "x" * 20_000})
    assert "--label: " in wrong(engine_labels={"a b": "x"})
    assert "--label: " in wrong(engine_labels={"k": "\x1b]0;title\a"})
