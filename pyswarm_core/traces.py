"""What a network trace asks agents, what they find, and its hops. PURE values."""

from collections.abc import Sequence

from pyswarm_core.model import Model


class TraceProbe(Model, frozen=True):
    """What an agent is asked about one of its tasks; what is empty is left out."""

    task_id: str
    name: str = ""
    """To ask the task's resolver for."""
    vip: str = ""
    """A virtual address whose DNAT rules are read; with a name, it is the first answer."""
    address: str = ""
    """The other end: look at the path there over the network, and send echoes."""
    network_id: str = ""
    listeners: bool = False
    """Tell what listens in the namespace, and what the image exposes."""
    connect_to: tuple[str, ...] = ()
    port: int = 0
    udp: bool = False


class Attempt(Model, frozen=True):
    """Something that was tried from the task's namespace; it failed if there is an `error`."""

    to: str = ""
    error: str = ""
    elapsed: int = 0
    addresses: tuple[str, ...] = ()
    """The resolver's answer; none: there is no such name."""
    bytes: int = 0
    """Of an echo's whole packet."""
    heard: bool = False
    """While an echo was unanswered, echoes of the other end came in."""


class Difference(Model, frozen=True):
    """Between plan and kernel. `where`: task_rules, host, route, peer or rules."""

    where: str
    text: str


class Facts(Model, frozen=True):
    """What one agent found; None and empty: it was not asked."""

    revision: int = 0
    """The newest that its kernel follows."""
    differences: tuple[Difference, ...] = ()
    name: Attempt | None = None
    backends: tuple[str, ...] = ()
    """Where the kernel forwards connections to the virtual address."""
    task_route: str = ""
    """The kernel's choice in the task's namespace, as of `ip route get`; empty: none."""
    host_route: str = ""
    dropping: tuple[str, ...] = ()
    """Others' chains on the host's forward hook that drop what they do not accept."""
    echo: Attempt | None = None
    full_echo: Attempt | None = None
    """With packets of the task's MTU."""
    listeners: tuple[str, ...] = ()
    """`address:port` of each listening socket."""
    exposed_ports: tuple[int, ...] = ()
    connections: tuple[Attempt, ...] = ()


class Hop(Model, frozen=True):
    """One step of the path, and what to do if it is broken."""

    hop: str
    place: str
    ok: bool
    found: str
    remedy: str = ""
    elapsed: int = 0


def listed(items: Sequence[str]) -> str:
    """The first eight of them, for people."""
    return ", ".join(items[:8]) + (f" and {len(items) - 8} more" if items[8:] else "") or "nobody"
