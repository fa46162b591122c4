"""The files in /etc that a container gets from its agent. PURE."""

from collections.abc import Iterable
from ipaddress import ip_address


def hosts(hostname: str, addresses: Iterable[str]) -> bytes:
    """/etc/hosts: localhost, and the container's own name at each of its addresses."""
    lines = ["127.0.0.1\tlocalhost", "::1\tlocalhost ip6-localhost ip6-loopback"]
    lines += [f"{address}\t{hostname}" for address in addresses]
    return _text(lines)


def resolv_conf(of_host: str) -> bytes:
    """/etc/resolv.conf from the host's: name servers on the host's loopback mean nothing inside."""
    return _text([line for line in of_host.splitlines() if not _on_loopback(line)])


def hostname_file(hostname: str) -> bytes:
    """/etc/hostname."""
    return _text([hostname])


def _on_loopback(line: str) -> bool:
    words = line.split()
    if len(words) < 2 or words[0] != "nameserver":
        return False
    try:
        return ip_address(words[1].split("%")[0]).is_loopback
    except ValueError:
        return True


def _text(lines: Iterable[str]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()
