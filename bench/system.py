"""What a benchmark asks of a system that runs services: pyswarm's playground, or a peer beside it.

One code measures both, so that a ratio tells about the systems.
"""

from typing import NamedTuple, Protocol

from cli.playground.fleet import Fleet as Plan
from pyswarm_core.specs import ServiceSpec


class Replica(NamedTuple):
    """A running task."""

    slot: int
    task: str
    pid: int
    """Of its process, as this machine numbers it."""
    host: str
    address: str
    """On its first network."""


class System(Protocol):
    """Three hosts named host1, host2 and host3, with an overlay network and an image on each."""

    @property
    def plan(self) -> Plan:
        """Names, addresses and namespaces of the hosts."""

    def cpu_seconds(self) -> float:
        """Processor time of all hosts: daemons and containers."""

    def create(self, spec: ServiceSpec) -> str:
        """Create a service and return its id once all of it runs."""

    def update(self, service_id: str, spec: ServiceSpec) -> None:
        """Give it another spec; return once all replicas are of that."""

    def remove(self, service_id: str) -> None:
        """Remove it and return once nothing of its containers is left on any host."""

    def replicas(self, service_id: str) -> list[Replica]:
        """Its running tasks."""

    def lose(self, host: str, verb: str) -> None:
        """`kill`: the host loses power. `cut`: its cable is pulled."""

    def heal(self, host: str) -> None:
        """Power and cable back; return once the host is ready."""
