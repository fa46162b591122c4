"""Addresses of hosts: of this one's devices, and those that names resolve to. SHELL."""

import array
import asyncio
import fcntl
import socket
import struct
from ipaddress import IPv6Address
from pathlib import Path

from pyswarm_core.aio.logs import EventLog
from pyswarm_core.controlplane import usable_address
from pyswarm_core.plaintext import split_lines

_log = EventLog("hosts")

_RESOLVE_TIMEOUT_S = 5.0
_SIOCGIFCONF = 0x8912
_ENTRY = 40
"""sizeof(struct ifreq) with 64-bit pointers: name (16), family (2), port (2), address (4), …"""
_ENTRIES_FIRST = 64
_INET6 = Path("/proc/net/if_inet6")


def host_addresses() -> tuple[str, ...]:
    """All addresses of this network namespace by which others can reach it, IPv4 first: those of
    bridges as well, without loopback and link-local ones.
    """
    found = (*_addresses4(), *_addresses6())
    return tuple(dict.fromkeys(filter(None, map(usable_address, found))))


def _addresses4() -> list[str]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        entries = _ENTRIES_FIRST
        while True:
            room = entries * _ENTRY
            names = array.array("B", bytes(room))
            request = struct.pack("iL", room, names.buffer_info()[0])
            size = struct.unpack("iL", fcntl.ioctl(probe.fileno(), _SIOCGIFCONF, request))[0]
            if size < room:
                break
            entries *= 2
    held = names.tobytes()[:size]
    return [socket.inet_ntoa(held[at + 20 : at + 24]) for at in range(0, size, _ENTRY)]


def _addresses6() -> list[str]:
    """Empty if the kernel has no IPv6."""
    if not _INET6.exists():
        return []
    lines = split_lines(_INET6.read_text())
    return [str(IPv6Address(bytes.fromhex(line.split()[0]))) for line in lines if line]


class HostNames:
    """Resolves names of hosts. A name that does not resolve keeps the addresses that it had."""

    def __init__(self) -> None:
        self._resolved: dict[str, tuple[str, ...]] = {}

    async def addresses(self, name: str) -> tuple[str, ...]:
        """The addresses of a host by which others reach it, sorted; of an address, itself. Empty if
        the name has never resolved.
        """
        if address := usable_address(name):
            return (address,)
        try:
            async with asyncio.timeout(_RESOLVE_TIMEOUT_S):
                loop = asyncio.get_running_loop()
                found = await loop.getaddrinfo(name, None, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError, TimeoutError) as error:
            _log.debug("name.unresolved", name=name, error=error)
            return self._resolved.get(name, ())
        usable = {usable_address(str(where[0])) for *_, where in found}
        self._resolved[name] = tuple(sorted(usable - {""}))
        return self._resolved[name]
