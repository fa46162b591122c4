"""The names of a fleet's devices and tables, and their MACs. PURE.

Invariant: everything is computed from ids, so that a restarted agent recognises its own devices,
and two fleets or a Docker daemon on one machine never collide. A device is `<fleet>-<kind><hash>`,
at most 15 characters.
"""

import re
import zlib
from hashlib import blake2s
from ipaddress import IPv4Address, IPv6Address

_FLEET = re.compile(r"[a-z0-9]{1,5}")
_METRIC_BASE = 0xF000_0000
_RULES_FROM, _RULES_TO = 10_000, 31_000

MARK_KIND, MARK_KIND_MASK = 0x9000_0000, 0xF000_0000
"""The bits that distinguish the fleet's marks from others'."""
MARK_MASK = 0xFFFF_FF00
"""The bits of a mark that the fleet uses: the kind, and a node's number. The low eight are free."""
ENCRYPTION_MASK = MARK_MASK & ~MARK_KIND_MASK
"""The mark bits of packets that must be encrypted. Their kind is 0, so that they skip the routing
rules of the mesh.
"""
_MARK_NUMBERS = 1 << 20


class Names:
    """The names of one fleet. `fleet` is one to five lower-case letters and digits."""

    def __init__(self, fleet: str) -> None:
        if not _FLEET.fullmatch(fleet):
            raise ValueError(f"fleet {fleet!r}: expected one to five lower-case letters or digits")
        self.prefix = f"{fleet}-"
        self.table = f"pyswarm_{fleet}"
        # Any other route has precedence; the value differs by fleet, so that two fleets distinguish
        # theirs.
        hashed = zlib.crc32(fleet.encode())
        self.last_resort_metric = _METRIC_BASE + hashed % 0x0FFF_FFFF
        # Three priorities of routing rules, after `local` and before `main`.
        self.rule_priority = _RULES_FROM + hashed % ((_RULES_TO - _RULES_FROM) // 3) * 3
        self._numbered = 0x8000_0000 | (hashed % 0x7FF) << 20
        # Never 0, which is the mark of all unmarked packets.
        self.encryption_mark = (hashed % (_MARK_NUMBERS - 1) + 1) << 8

    def bridge(self, network_id: str) -> str:
        """The bridge of a network's tasks on this host."""
        return f"{self.prefix}b{_hash(network_id)}"

    def vxlan(self, network_id: str) -> str:
        """The network's VXLAN device: this host's end of the tunnels."""
        return f"{self.prefix}x{_hash(network_id)}"

    def veth(self, task_id: str, network_id: str) -> str:
        """The host's end of a task's interface in a network."""
        return f"{self.prefix}t{_hash(task_id + '/' + network_id)}"

    def table_towards(self, node_number: int) -> int:
        """The routing table with the one route to a host; the number differs by fleet."""
        return self._numbered | node_number % _MARK_NUMBERS

    def request_id(self, node_number: int) -> int:
        """The request id of IPsec between this host and another; the number differs by fleet."""
        return self._numbered | node_number % _MARK_NUMBERS

    def is_request_id(self, number: int) -> bool:
        """Whether the request id is one of the fleet's."""
        return number & ~(_MARK_NUMBERS - 1) == self._numbered

    def carries(self, device: str) -> bool:
        """Whether the device is a bridge or tunnel of the fleet."""
        return device.startswith((self.prefix + "b", self.prefix + "x"))


def vtep_mac(node_number: int) -> str:
    """The MAC of a host's tunnel ends, the same in all networks: `02:70` and the node's number."""
    return f"02:70:{_pairs(node_number)}"


def next_hop(node_number: int) -> str:
    """The next hop that stands for a host on a VXLAN device.

    It is out of 240.0.0.0/4, which is reserved; no interface and no packet has it.
    """
    return str(IPv4Address("240.0.0.0") + node_number)


def next_hop6(node_number: int) -> str:
    """The same for IPv6: the link-local address of the host's tunnel ends."""
    return link_local(vtep_mac(node_number))


def link_local(mac: str) -> str:
    """The link-local address that the kernel derives from a MAC (RFC 4291, appendix A)."""
    octets = bytes.fromhex(mac.replace(":", ""))
    host = bytes((octets[0] ^ 2, *octets[1:3], 0xFF, 0xFE, *octets[3:]))
    return str(IPv6Address(b"\xfe\x80" + bytes(6) + host))


def return_mark(node_number: int) -> int:
    """The mark of connections that a host accepted, and of their answers, which return through
    it.
    """
    return MARK_KIND | node_number % _MARK_NUMBERS << 8


def gateway_mac(network_id: str) -> str:
    """The MAC of a network's bridge: `02:71` and a hash. Tasks have it as a permanent neighbour."""
    return f"02:71:{blake2s(network_id.encode(), digest_size=4).digest().hex(':')}"


def task_mac(address: str) -> str:
    """The MAC of a task's interface.

    `02:72` and its address, so that an ARP entry never becomes stale.
    """
    return f"02:72:{_pairs(int(IPv4Address(address)))}"


def _pairs(value: int) -> str:
    return value.to_bytes(4).hex(":")


def _hash(identifier: str) -> str:
    return blake2s(identifier.encode(), digest_size=4).hexdigest()
