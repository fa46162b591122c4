"""What two agents find along a way through a network, and what became of each hop. PURE values."""

from pyswarm_core.model import Model


class NameFact(Model, frozen=True):
    """What the task's resolver answers; no addresses and no `error`: there is no such name."""

    addresses: tuple[str, ...] = ()
    error: str = ""
    elapsed: int = 0


class RulesFact(Model, frozen=True):
    """What the kernel's rules in a task's namespace say of a virtual address."""

    present: bool = False
    """The table is there, and its way in has rules; or no network has an address to lead."""
    resolver: bool = False
    """Questions for names are led to the agent."""
    leads: bool = False
    """The virtual address is known; to `backends`."""
    backends: tuple[str, ...] = ()
    told: tuple[str, ...] = ()
    """The backends that the agent was told of."""
    disturbed: bool = False
    """Somebody else has changed some rules of the namespace since the agent last looked."""


class Check(Model, frozen=True):
    """One thing in the kernel, of the hop it matters to: as wanted, and as it is (empty: not
    there).
    """

    hop: str
    what: str
    wanted: str
    found: str
    heals: bool = False
    """The agent notices by itself when it is not so, and mends it."""

    @property
    def ok(self) -> bool:
        """Whether it is as it should be."""
        return self.wanted == self.found


class EchoFact(Model, frozen=True):
    """An ICMP echo to the other end, tried for a while.

    `heard`: meanwhile the other end's own echoes came in here.
    """

    bytes: int = 0
    """Of the whole packet."""
    answered: bool = False
    heard: bool = False
    error: str = ""
    elapsed: int = 0


class ConnectionFact(Model, frozen=True):
    """A TCP connection that was tried."""

    address: str
    error: str = ""
    elapsed: int = 0


class Facts(Model, frozen=True):
    """What one agent found; None and empty: it was not asked."""

    revision: int = 0
    """The newest that its kernel follows."""
    name: NameFact | None = None
    rules: RulesFact | None = None
    checks: tuple[Check, ...] = ()
    """In the order of a packet's way."""
    dropping: tuple[str, ...] = ()
    """Others' chains on the host's forwarding that drop what they do not accept."""
    echo: EchoFact | None = None
    full_echo: EchoFact | None = None
    listeners: tuple[str, ...] = ()
    """`address:port` of each listening TCP socket."""
    exposed_ports: tuple[int, ...] = ()
    connections: tuple[ConnectionFact, ...] = ()


class Probe(Model, frozen=True):
    """What an agent is asked to look at and to try; empty: not."""

    task_id: str
    name: str = ""
    vip: str = ""
    address: str = ""
    network_id: str = ""
    listeners: bool = False
    connect_to: tuple[str, ...] = ()
    port: int = 0


class Hop(Model, frozen=True):
    """One step of the way, and what to do if it is broken."""

    hop: str
    place: str
    ok: bool
    found: str
    remedy: str = ""
    elapsed: int = 0
