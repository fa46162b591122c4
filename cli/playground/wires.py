"""The playground's cables: namespaces, the underlay bridge, one veth pair per host. SHELL over
iproute2.

Everything is made inside namespaces of the playground's own; the machine's links are never touched.
"""

import subprocess

from cli.playground.fleet import REGISTRY_ADDRESS, Fleet, Host
from pyswarm_core.errors import PyswarmError

BRIDGE = "underlay"


class WireFailed(PyswarmError):
    """iproute2 refused; the text is its own."""


def lay_underlay(fleet: Fleet) -> None:
    """Make the namespace with the bridge; the registry's address is on it."""
    _ip("netns", "add", fleet.lan)
    _batch(
        fleet.lan,
        "link set lo up",
        f"link add {BRIDGE} type bridge forward_delay 0",
        f"addr add {REGISTRY_ADDRESS}/24 dev {BRIDGE}",
        f"link set {BRIDGE} up",
    )


def connect(fleet: Fleet, host: Host) -> None:
    """Make the host's namespace and put it on the underlay."""
    _ip("netns", "add", host.netns)
    _batch(
        fleet.lan,
        f"link add {host.name} type veth peer name eth0 netns {host.netns}",
        f"link set {host.name} master {BRIDGE}",
        f"link set {host.name} up",
    )
    _batch(
        host.netns,
        "link set lo up",
        f"addr add {host.address}/24 dev eth0",
        "link set eth0 up",
        f"route add default via {REGISTRY_ADDRESS}",
    )


def set_cable(fleet: Fleet, host: Host, *, plugged: bool) -> None:
    """Pull the host's cable out of the underlay, or put it back."""
    _batch(fleet.lan, f"link set {host.name} {'up' if plugged else 'down'}")


def disconnect(fleet: Fleet, host: Host) -> None:
    """Take the host off the underlay for good; `connect` makes it anew."""
    _batch(fleet.lan, f"link delete {host.name}")


def remove(netns: str) -> None:
    """Remove a namespace with all that is in it; one that is not there is no error."""
    subprocess.run(["ip", "netns", "delete", netns], check=False, capture_output=True)


def _batch(netns: str, *commands: str) -> None:
    _ip("-n", netns, "-batch", "-", text="\n".join(commands))


def _ip(*words: str, text: str = "") -> None:
    done = subprocess.run(["ip", *words], input=text, text=True, capture_output=True, check=False)
    if done.returncode:
        raise WireFailed(f"ip {' '.join(words)}: {done.stderr.strip()}")
