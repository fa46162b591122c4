"""Paths between tasks on two hosts, each compared with a minimal path configured by the benchmark.

Paths are measured in many short turns, and a ratio is the median of its rounds, so that other load
of the machine affects both sides. All hosts share one machine, so the processor limits every path.
The minimal paths are on the same hosts, under the same packet filter.
"""

import subprocess
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from statistics import median, quantiles
from typing import NamedTuple

import msgspec

from bench import traffic
from bench.fleet import Fleet, playground, service
from bench.report import Figure
from pyswarm_core.specs import EndpointSpec, PortConfig

PUBLISHED = 7171
TRANSLATED = "198.51.100.7"
"""An address of a documentation range that one DNAT rule forwards to the server."""
_KINDS = ("flood", "trip", "connect")
_WHAT = {"flood": "throughput", "trip": "round trips", "connect": "connections"}


class Path(NamedTuple):
    """The place of a client, and the address that it dials."""

    client: traffic.Dialler
    address: str
    port: int = traffic.PORT

    def rate(self, kind: str, for_s: float) -> float:
        """The traffic of that many seconds; see `traffic.Dialler`."""
        return self.client.measured(kind, self.address, self.port, for_s)


def measure(quick: bool) -> Iterable[Figure]:
    """Overlay, virtual address and published port, compared with minimal paths."""
    rounds, for_s = (2, 0.1) if quick else (30, 0.15)
    with playground() as fleet, _paths(fleet) as paths:
        rates: dict[tuple[str, str], list[float]] = {
            (name, kind): [] for name in paths for kind in _KINDS
        }
        for number in range(rounds):
            for kind in _KINDS:
                for name in list(paths)[:: -1 if number % 2 else 1]:
                    rates[name, kind].append(paths[name].rate(kind, for_s))
    for name, floor, bound in (
        ("overlay", "hand-made VXLAN", 0.97),
        ("virtual address", "overlay", 0.95),
        ("virtual address", "one rule of DNAT", 0.95),
        ("published port", "plain DNAT", 0.9),
    ):
        for kind in _KINDS:
            pairs = zip(rates[name, kind], rates[floor, kind], strict=True)
            ratios = [ours / theirs for ours, theirs in pairs]
            low, _, high = quantiles(ratios, n=4)
            required = None if kind == "connect" and name == "overlay" else bound
            yield Figure(
                f"{_WHAT[kind]}: {name} over {floor}",
                median(ratios),
                "x",
                required,
                at_least=True,
                note=f"{_text(kind, median(rates[name, kind]))}, half within {low:.2f}-{high:.2f}",
            )


def _text(kind: str, rate: float) -> str:
    if kind == "flood":
        return f"{rate / 1e9:.1f} Gbit/s"
    return f"{1e6 / rate:.0f} us" if kind == "trip" else f"{rate:,.0f}/s"


@contextmanager
def _paths(fleet: Fleet) -> Iterator[dict[str, Path]]:
    near = fleet.create(service("near", 1, host="host1"))
    far = fleet.create(
        msgspec.structs.replace(
            service("far", 1, host="host2"),
            endpoint_spec=EndpointSpec(
                ports=(PortConfig(target_port=traffic.PORT, published_port=PUBLISHED),)
            ),
        )
    )
    inside, server = _enter(fleet, near), _enter(fleet, far)
    outside = ["nsenter", f"--net=/run/netns/{fleet.plan.lan}"]
    with (
        traffic.serving(*server),
        closing(traffic.Dialler(*inside)) as client,
        closing(traffic.Dialler(*outside)) as user,
        _by_hand(fleet) as hand,
    ):
        (view,) = fleet.running(far)
        (vip,) = [
            ip.addr for ip in fleet.client.service(far).endpoint.virtual_ips
            if ip.network_id == view.task.detail.addresses[0].network_id
        ]  # fmt: skip
        host = fleet.plan.host("host1").address
        address = view.task.detail.addresses[0].address
        _forward(fleet, hand.address)
        _translate(inside, address)
        yield {
            "hand-made VXLAN": hand,
            "overlay": Path(client, address),
            "virtual address": Path(client, vip.partition("/")[0], traffic.PORTS[1]),
            "one rule of DNAT": Path(client, TRANSLATED, traffic.PORTS[2]),
            "plain DNAT": Path(user, host, PUBLISHED + 1),
            "published port": Path(user, host, PUBLISHED),
        }
    fleet.client.remove_service(near)
    fleet.remove(far)


def _enter(fleet: Fleet, service_id: str) -> list[str]:
    (view,) = fleet.running(service_id)
    return ["nsenter", "-t", str(view.task.detail.pid), "-n"]


@contextmanager
def _by_hand(fleet: Fleet) -> Iterator[Path]:
    """Namespace, veth, bridge with a VXLAN device in it, on the same two hosts."""
    one, two = fleet.plan.host("host1"), fleet.plan.host("host2")
    ends = {one: ("bench-hand1", two, 1), two: ("bench-hand2", one, 2)}
    try:
        for host, (netns, peer, number) in ends.items():
            _run("ip", "netns", "add", netns)
            _batch(
                host.netns,
                "link add hand type bridge",
                f"link add handx mtu 1450 type vxlan id 99 dstport 4790"
                f" local {host.address} remote {peer.address}",
                "link set handx master hand up",
                f"link add handv mtu 1450 type veth peer name eth0 mtu 1450 netns {netns}",
                "link set handv master hand up",
                f"addr add 10.250.0.{10 + number}/24 dev hand",
                "link set hand mtu 1450 up",
            )
            _batch(
                netns,
                f"addr add 10.250.0.{number}/24 dev eth0",
                "link set eth0 up",
                f"route add default via 10.250.0.{10 + number}",
            )
        enter = [["nsenter", f"--net=/run/netns/{netns}"] for netns, _, _ in ends.values()]
        with traffic.serving(*enter[1]), closing(traffic.Dialler(*enter[0])) as client:
            yield Path(client, "10.250.0.2")
    finally:
        for host, (netns, _, _) in ends.items():
            for device in ("handx", "hand"):
                _run("ip", "-n", host.netns, "link", "del", device, check=False)
            _run("ip", "netns", "del", netns, check=False)


def _forward(fleet: Fleet, address: str) -> None:
    """One DNAT rule on host1 to the minimal path's server, with masquerading."""
    rules = f"""
table ip bench_hand {{
  chain pre {{
    type nat hook prerouting priority dstnat - 10; policy accept;
    tcp dport {PUBLISHED + 1} dnat to {address}:{traffic.PORTS[1]}
  }}
  chain post {{
    type nat hook postrouting priority srcnat - 10; policy accept;
    oifname "hand" masquerade
  }}
}}
"""
    enter = ["nsenter", f"--net={fleet.plan.host('host1').netns_path}"]
    subprocess.run([*enter, "nft", "-f", "-"], input=rules, text=True, check=True)


def _translate(enter: list[str], address: str) -> None:
    """One DNAT rule in the client's namespace: the minimum of a virtual address."""
    rules = f"""
table ip bench_hand {{
  chain output {{
    type nat hook output priority -110; policy accept;
    ip daddr {TRANSLATED} dnat to {address}
  }}
}}
"""
    subprocess.run([*enter, "nft", "-f", "-"], input=rules, text=True, check=True)


def _batch(netns: str, *commands: str) -> None:
    text = "\n".join(commands)
    subprocess.run(["ip", "-n", netns, "-batch", "-"], input=text, text=True, check=True)


def _run(*command: str, check: bool = True) -> None:
    subprocess.run(command, check=check, capture_output=True)
