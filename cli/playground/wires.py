"""The playground's network: namespaces, the underlay bridge, a veth pair per host. SHELL.

All links are in the playground's own namespaces; the machine's links are never changed.
"""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address

from pyroute2 import IPRoute, netns
from pyroute2.netlink.exceptions import NetlinkError

from cli.playground.fleet import GATEWAY, NETNS_ROOT, Fleet, Host
from pyswarm_core.errors import PyswarmError

BRIDGE = "underlay"
_PREFIX = 24


class WireFailed(PyswarmError):
    """The kernel returned an error."""


def lay_underlay(fleet: Fleet) -> None:
    """Create the namespace with the bridge, which has an address."""
    with _made(fleet.lan) as links:
        links.link("set", index=_index(links, "lo"), state="up")
        links.link("add", ifname=BRIDGE, kind="bridge", br_forward_delay=0)
        bridge = _index(links, BRIDGE)
        links.addr("add", index=bridge, address=GATEWAY, prefixlen=_PREFIX)
        links.link("set", index=bridge, state="up")


def connect(fleet: Fleet, host: Host) -> None:
    """Create the host's namespace and connect it to the underlay."""
    with _made(host.netns) as inside, _links(fleet.lan) as links:
        peer = {"ifname": "eth0", "net_ns_fd": host.netns, "address": _mac_of(host)}
        links.link("add", ifname=host.name, kind="veth", peer=peer)
        port = _index(links, host.name)
        links.link("set", index=port, master=_index(links, BRIDGE), state="up")
        inside.link("set", index=_index(inside, "lo"), state="up")
        eth0 = _index(inside, "eth0")
        inside.addr("add", index=eth0, address=host.address, prefixlen=_PREFIX)
        inside.link("set", index=eth0, state="up")
        inside.route("add", dst="default", gateway=GATEWAY)


def set_cable(fleet: Fleet, host: Host, *, plugged: bool) -> None:
    """Set the host's link on the underlay up or down."""
    with _links(fleet.lan) as links:
        state = "up" if plugged else "down"
        links.link("set", index=_index(links, host.name), state=state)


def disconnect(fleet: Fleet, host: Host) -> None:
    """Remove the host's link from the underlay; `connect` creates a new one."""
    with _links(fleet.lan) as links:
        links.link("del", index=_index(links, host.name))


def remove(name: str) -> None:
    """Remove a namespace with its links; no error if it does not exist."""
    try:
        netns.remove(name)
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.EINVAL):
            raise WireFailed(f"namespace {name}: {error.strerror}") from None


@contextmanager
def _made(name: str) -> Iterator[IPRoute]:
    try:
        netns.create(name)
    except OSError as error:
        raise WireFailed(f"namespace {name}: {error.strerror}") from None
    with _links(name) as links:
        yield links


@contextmanager
def _links(name: str) -> Iterator[IPRoute]:
    """The links of a namespace."""
    # Not left to IPRoute, which keeps sockets open when it fails.
    if not (NETNS_ROOT / name).exists():
        raise WireFailed(
            f"network namespace {name} of the playground does not exist:"
            " run `pyswarm playground down`, then `pyswarm playground up`"
        )
    try:
        with IPRoute(netns=name, flags=0) as links:  # do not create it
            yield links
    except (NetlinkError, OSError) as error:
        raise WireFailed(f"the playground's links: {error}") from None


def _mac_of(host: Host) -> str:
    """The same MAC after a power loss: others send to it until their ARP entries expire."""
    return ":".join(f"{byte:02x}" for byte in (2, 0, *IPv4Address(host.address).packed))


def _index(links: IPRoute, name: str) -> int:
    found = list(links.link_lookup(ifname=name))
    if not found:
        raise OSError(errno.ENODEV, f"there is no link {name}")
    return int(found[0])
