"""The interface of a measured system: pyswarm's playground, or a peer.

The same code measures both, so that a ratio depends on the systems alone.
"""

from typing import NamedTuple, Protocol

from cli.playground.fleet import Fleet as Plan
from pyswarm_core.specs import ServiceSpec


class Replica(NamedTuple):
    """A running task."""

    slot: int
    task: str
    pid: int
    """The pid of its process in this machine's namespace."""
    host: str
    address: str
    """Its address on its first network."""


class System(Protocol):
    """Three hosts, host1 to host3, with an overlay network and an image on each."""

    @property
    def plan(self) -> Plan:
        """Names, addresses and namespaces of the hosts."""

    def cpu_seconds(self) -> float:
        """Processor time of all hosts: daemons and containers."""

    def create(self, spec: ServiceSpec) -> str:
        """Create a service and return its id once all of it runs."""

    def update(self, service_id: str, spec: ServiceSpec) -> None:
        """Update a service; return once all replicas have the new spec."""

    def remove(self, service_id: str) -> None:
        """Remove a service; return once no host has anything of its containers."""

    def replicas(self, service_id: str) -> list[Replica]:
        """The running tasks of a service."""

    def lose(self, host: str, verb: str) -> None:
        """`kill`: cut the host's power. `cut`: disconnect it from the network."""

    def heal(self, host: str) -> None:
        """Undo `lose`; return once the host is ready."""
