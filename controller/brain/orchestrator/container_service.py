"""A container's one task. PURE.

A container is a service of one replica, so the orchestrator of replicated services decides about
its slot.
"""

from collections.abc import Iterable

from controller.brain.orchestrator import replicated_service
from controller.brain.orchestrator.plan import Plan
from pyswarm_core.clock import Instant
from pyswarm_core.objects import Service
from pyswarm_core.state import State


def reconcile(plan: Plan, state: State, looked_at: Iterable[int], now: Instant) -> None:
    """Plan what a container needs. `looked_at`: slots to look at, unsettled or not."""
    replicated_service.reconcile(plan, state, looked_at, now)


def desired_text(service: Service) -> str:
    """Whether it should run, for people."""
    return "stopped" if service.spec.stopped else "1 desired"


def desired(state: State, service: Service) -> int:
    """How many tasks should run."""
    return replicated_service.desired(state, service)


def desired_slots(state: State, service: Service) -> None:
    """Any slots may be filled."""


def unlisted(state: State, service: Service, desired: int) -> int:
    """How many of the desired tasks wait for a node without being stored: none."""
    return 0
