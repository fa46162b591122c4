"""The files in /etc that the agent gives a container. PURE."""

from collections.abc import Iterable, Sequence
from ipaddress import ip_address

from pyswarm_core.plaintext import split_lines
from pyswarm_core.specs import DnsConfig

LOCAL = ("127.0.0.1\tlocalhost", "::1\tlocalhost ip6-localhost ip6-loopback")
HOST_GATEWAY = "host-gateway"
"""Docker's placeholder for the address at which a container reaches its host."""
NO_SEARCH = "."
"""Docker's value for no search domain."""


def hosts(names: Sequence[str], addresses: Iterable[str], extra: Iterable[str] = ()) -> bytes:
    """/etc/hosts: localhost, the container's own names at each of its addresses, and `extra`."""
    own = [f"{address}\t{' '.join(dict.fromkeys(names))}" for address in addresses]
    return _text([*LOCAL, *own, *extra])


def edited(present: bytes, before: bytes, after: bytes) -> bytes:
    """A file that was made as `before` and that the container may have edited, with the lines in
    which `after` differs.
    """
    if present == before:
        return after
    now, lines = (split_lines(one.decode(errors="surrogateescape")) for one in (after, present))
    gone = {*split_lines(before.decode())}.difference(now)
    had = {*split_lines(before.decode()), *lines}
    kept = [line for line in lines if line not in gone]
    new = [line for line in now if line not in had]
    return "".join(f"{line}\n" for line in (*kept, *new)).encode(errors="surrogateescape")


def hosts_of_host(of_host: str, extra: Iterable[str] = ()) -> bytes:
    """/etc/hosts of a container in its host's network."""
    return _text([*(split_lines(of_host) or LOCAL), *extra])


def extra_hosts(lines: Iterable[str], gateway: str) -> tuple[str, ...]:
    """The lines a service adds: `10.0.0.5 db db.example`, `host-gateway host`."""
    pairs = (line.split(maxsplit=1) for line in lines)
    return tuple(
        f"{gateway if pair[0] == HOST_GATEWAY else pair[0]}\t{pair[1]}"
        for pair in pairs
        if len(pair) == 2
    )


def resolv_conf(of_host: str, dns: DnsConfig, *, loopback: bool = False) -> bytes:
    """/etc/resolv.conf of a container that uses the service's name servers, or else the host's.

    Servers on the host's loopback are left out, unless the container shares that loopback
    (`loopback`).
    """
    lines = split_lines(of_host)
    if dns.nameservers:
        lines = _without(lines, "nameserver")
        lines += [f"nameserver {server}" for server in dns.nameservers]
    elif not loopback:
        lines = [line for line in lines if not _on_loopback(line)]
    if dns.search:
        lines = [*_without(lines, "search", "domain"), *_search(dns.search)]
    if dns.options:
        lines = [*_without(lines, "options"), f"options {' '.join(dns.options)}"]
    return _text(lines)


def resolver_conf(of_host: str, dns: DnsConfig, resolver: str) -> bytes:
    """/etc/resolv.conf of a container that uses its agent's resolver.

    A name is first tried as written, however few dots it has: names of services have none.
    """
    search = dns.search or _searched(of_host)
    has_ndots = any(option.startswith("ndots:") for option in dns.options)
    options = dns.options if has_ndots else ("ndots:0", *dns.options)
    return _text([f"nameserver {resolver}", *_search(search), f"options {' '.join(options)}"])


def nameservers(resolv_conf: str) -> tuple[str, ...]:
    """The name servers of a resolv.conf."""
    words = (line.split() for line in split_lines(resolv_conf))
    return tuple(w[1] for w in words if len(w) > 1 and w[0] == "nameserver" and _is_address(w[1]))


def hostname_file(hostname: str) -> bytes:
    """/etc/hostname."""
    return _text([hostname])


def _searched(resolv_conf: str) -> tuple[str, ...]:
    """The search domains: the last `search` or `domain` line counts."""
    found: tuple[str, ...] = ()
    for line in split_lines(resolv_conf):
        word, *rest = line.split() or [""]
        if word in ("search", "domain"):
            found = tuple(rest)
    return found


def _search(domains: Sequence[str]) -> list[str]:
    kept = [domain for domain in domains if domain != NO_SEARCH]
    return [f"search {' '.join(kept)}"] if kept else []


def _without(lines: list[str], *words: str) -> list[str]:
    return [line for line in lines if not line.startswith(words)]


def _on_loopback(line: str) -> bool:
    words = line.split()
    if len(words) < 2 or words[0] != "nameserver":
        return False
    return not _is_address(words[1]) or ip_address(words[1].split("%")[0]).is_loopback


def _is_address(text: str) -> bool:
    try:
        ip_address(text.split("%")[0])
    except ValueError:
        return False
    return True


def _text(lines: Iterable[str]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()
