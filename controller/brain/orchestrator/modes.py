"""The orchestrator of each service mode: the only place where a mode is dispatched on. PURE.

A new mode is a tagged struct in pyswarm_core/specs.py and a module that is named here.
"""

from collections.abc import Collection, Iterable, Mapping
from types import MappingProxyType
from typing import Protocol

from controller.brain.orchestrator import container_service, global_service, replicated_service
from controller.brain.orchestrator.plan import Plan
from pyswarm_core.clock import Instant
from pyswarm_core.objects import Service
from pyswarm_core.specs import ContainerMode, GlobalMode, ReplicatedMode, ServiceMode
from pyswarm_core.state import State


class Orchestrator(Protocol):
    """The functions of a mode's module, for a service of the mode that is not being removed."""

    def reconcile(self, plan: Plan, state: State, looked_at: Iterable[int], now: Instant) -> None:
        """Plan what the service needs. `looked_at`: slots to look at, unsettled or not."""

    def desired_text(self, service: Service) -> str:
        """How many tasks it should have, for people."""

    def desired(self, state: State, service: Service) -> int:
        """How many tasks should run."""

    def desired_slots(self, state: State, service: Service) -> Collection[int] | None:
        """The slots that should be filled; None: any."""

    def unlisted(self, state: State, service: Service, desired: int) -> int:
        """How many of the desired tasks wait for a node without being stored."""


_ORCHESTRATORS: Mapping[type[ServiceMode], Orchestrator] = MappingProxyType(
    {
        ReplicatedMode: replicated_service,
        GlobalMode: global_service,
        ContainerMode: container_service,
    }
)


def orchestrator_of(service: Service) -> Orchestrator:
    """The orchestrator of the service's mode."""
    return _ORCHESTRATORS[type(service.spec.mode)]
