"""What devices and tables of a fleet are called, and which MACs they have. PURE.

Invariant: everything is computed from ids, so that a restarted agent recognises its own, and two
fleets or a Docker daemon on one machine never meet. A device is `<fleet>-<kind><hash>`, at most 15
characters.
"""

import re
import zlib
from hashlib import blake2s
from ipaddress import IPv4Address

_FLEET = re.compile(r"[a-z0-9]{1,5}")
_METRIC_BASE = 0xF000_0000


class Names:
    """The names of one fleet. `fleet` is one to five lower-case letters and digits."""

    def __init__(self, fleet: str) -> None:
        if not _FLEET.fullmatch(fleet):
            raise ValueError(f"fleet {fleet!r}: want one to five lower-case letters or digits")
        self.prefix = f"{fleet}-"
        self.table = f"pyswarm_{fleet}"
        # Any other route wins over it; it differs by fleet, so that two tell theirs apart.
        self.last_resort_metric = _METRIC_BASE + zlib.crc32(fleet.encode()) % 0x0FFF_FFFF

    def bridge(self, network_id: str) -> str:
        """The device that a network's tasks on this host hang on."""
        return f"{self.prefix}b{_hash(network_id)}"

    def vxlan(self, network_id: str) -> str:
        """The network's end of the tunnels to its other hosts."""
        return f"{self.prefix}x{_hash(network_id)}"

    def veth(self, task_id: str, network_id: str) -> str:
        """The host's end of a task's interface in a network."""
        return f"{self.prefix}t{_hash(task_id + '/' + network_id)}"

    def carries(self, device: str) -> bool:
        """Is this a bridge or tunnel of the fleet?"""
        return device.startswith((self.prefix + "b", self.prefix + "x"))


def vtep_mac(node_number: int) -> str:
    """The MAC of a host's tunnel ends, the same in all networks: `02:70` and the node's number."""
    return f"02:70:{_pairs(node_number)}"


def gateway_mac(network_id: str) -> str:
    """The MAC of a network's bridge: `02:71` and a hash. Tasks know it without asking."""
    return f"02:71:{blake2s(network_id.encode(), digest_size=4).digest().hex(':')}"


def task_mac(address: str) -> str:
    """The MAC of a task's interface.

    `02:72` and its address, so that an ARP entry never outlives its truth.
    """
    return f"02:72:{_pairs(int(IPv4Address(address)))}"


def _pairs(value: int) -> str:
    return value.to_bytes(4).hex(":")


def _hash(identifier: str) -> str:
    return blake2s(identifier.encode(), digest_size=4).hexdigest()
