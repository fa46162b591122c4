"""Listening ports, read from the kernel's socket tables. PURE.

A table is /proc/<pid>/net/tcp, tcp6, udp or udp6: one socket per line, addresses as hexadecimal
words in the machine's byte order.
"""

import sys
from collections.abc import Iterator
from ipaddress import IPv6Address, ip_address

_LISTENS, _BOUND = b"0A", b"07"
"""The states of a listening TCP socket, and of an unconnected UDP socket."""
_HANDSHAKE = b"03"
"""The state of a connection whose handshake has begun and that no program has accepted."""
_ANYWHERE = frozenset({"0.0.0.0", "::"})


def listens(table: bytes, ports: frozenset[int], addresses: frozenset[str]) -> frozenset[int]:
    """The ports that a client finds open at one of the addresses."""
    reachable = _ANYWHERE | addresses
    return frozenset(
        port for address, port in listeners(table) if port in ports and address in reachable
    )


def listeners(table: bytes, *, udp: bool = False) -> Iterator[tuple[str, int]]:
    """The (address, port) of every listening socket in the table."""
    state = _BOUND if udp else _LISTENS
    for line in table.split(b"\n")[1:]:
        fields = line.split(maxsplit=4)
        if len(fields) > 3 and fields[3] == state:
            address, _, port = fields[1].partition(b":")
            yield _address(address.decode()), int(port, 16)


def has_unaccepted(table: bytes) -> bool:
    """Whether a connection to a listening socket of a TCP table waits for a program to accept it.

    Of a listening socket, the kernel shows the length of its accept queue as rx_queue.
    """
    for line in table.split(b"\n")[1:]:
        fields = line.split(maxsplit=5)
        if len(fields) < 5:
            continue
        if fields[3] == _HANDSHAKE:
            return True
        if fields[3] == _LISTENS and int(fields[4].partition(b":")[2], 16):
            return True
    return False


def inodes(table: bytes, port: int, *, udp: bool = False) -> frozenset[str]:
    """The inodes of the sockets that listen on the port, as decimal numbers."""
    state = _BOUND if udp else _LISTENS
    rows = (line.split(maxsplit=10) for line in table.split(b"\n")[1:])
    return frozenset(
        fields[9].decode()
        for fields in rows
        if len(fields) > 9 and fields[3] == state and int(fields[1].rpartition(b":")[2], 16) == port
    )


def _address(words: str) -> str:
    raw = b"".join(
        int(words[at : at + 8], 16).to_bytes(4, sys.byteorder) for at in range(0, len(words), 8)
    )
    address = ip_address(raw)
    # A dual-stack socket that is bound to an IPv4 address.
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return str(mapped or address)
