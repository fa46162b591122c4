"""Which numbers the ports of mode host get that asked for none. PURE.

The lowest free one of the kernel's range for such purposes. Invariant: a number is given to one
task of this host at a time.
"""

from collections.abc import Collection, Iterable

from msgspec.structs import replace

from pyswarm_core.ports import CHOSEN_BY_AGENTS
from pyswarm_core.specs import PortConfig, Protocol, PublishMode

Number = tuple[Protocol, int]


def number(port: PortConfig) -> Number:
    """What a host has only once."""
    return port.protocol, port.published_port


def with_numbers(
    ports: Iterable[PortConfig], taken: Collection[Number]
) -> tuple[PortConfig, ...] | None:
    """The ports of mode host, each with its number; None if there are too few."""
    given = set(taken)
    chosen = []
    for port in ports:
        if port.publish_mode is not PublishMode.HOST:
            continue
        if not port.published_port:
            free = (n for n in CHOSEN_BY_AGENTS if (port.protocol, n) not in given)
            if not (found := next(free, 0)):
                return None
            port = replace(port, published_port=found)
        given.add(number(port))
        chosen.append(port)
    return tuple(chosen)
