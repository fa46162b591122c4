"""Requests of a network trace to agents, their findings, and the hops. PURE values."""

from collections.abc import Sequence

from pyswarm_core.model import Model

CLOSED = "the control plane is closed to tasks"
"""The end of the error of a connection that an agent's rules refuse."""


class TraceProbe(Model, frozen=True):
    """A request to an agent about one of its tasks; empty fields are left out."""

    task_id: str
    name: str = ""
    """The name to query from the task's resolver."""
    vip: str = ""
    """A virtual address whose DNAT rules are read; with a name, its first answer is used."""
    address: str = ""
    """The address of the other end: examine the route to it, and send echoes."""
    network_id: str = ""
    listeners: bool = False
    """Report listening sockets in the namespace, and the ports that the image exposes."""
    connect_to: tuple[str, ...] = ()
    port: int = 0
    udp: bool = False


class Attempt(Model, frozen=True):
    """The result of one attempt from the task's namespace; it failed if there is an `error`."""

    to: str = ""
    error: str = ""
    elapsed: int = 0
    addresses: tuple[str, ...] = ()
    """The resolver's answer; empty: the name does not exist."""
    bytes: int = 0
    """Size of an echo's whole packet."""
    heard: bool = False
    """Echoes of the other end arrived while an echo was unanswered."""


class Difference(Model, frozen=True):
    """A difference between plan and kernel. `where`: task_rules, host, route, peer or rules."""

    where: str
    text: str


class Facts(Model, frozen=True):
    """The findings of one agent; None or empty: not requested."""

    revision: int = 0
    """The newest revision that its kernel applies."""
    differences: tuple[Difference, ...] = ()
    name: Attempt | None = None
    backends: tuple[str, ...] = ()
    """Where the kernel forwards connections to the virtual address."""
    task_route: str = ""
    """The kernel's route in the task's namespace, as of `ip route get`; empty: none."""
    host_route: str = ""
    dropping: tuple[str, ...] = ()
    """Chains of other programs on the host's forward hook that drop what they do not accept."""
    echo: Attempt | None = None
    full_echo: Attempt | None = None
    """With packets of the task's MTU."""
    listeners: tuple[str, ...] = ()
    """`address:port` of each listening socket."""
    exposed_ports: tuple[int, ...] = ()
    connections: tuple[Attempt, ...] = ()


class Hop(Model, frozen=True):
    """One step of the route, and the remedy if it is broken."""

    hop: str
    place: str
    ok: bool
    found: str
    remedy: str = ""
    elapsed: int = 0


def listed(items: Sequence[str]) -> str:
    """The first eight of them, for display."""
    return ", ".join(items[:8]) + (f" and {len(items) - 8} more" if items[8:] else "") or "nobody"
