"""Why a task runs nowhere but where the data of its volumes is. PURE."""

from controller.brain.scheduler.explain import message
from controller.brain.scheduler.filters import Demand
from controller.brain.scheduler.ledger import Ledger
from controller.brain.volumes import volume_named
from pyswarm_core.objects import Node, Service
from pyswarm_core.state import State


def of_pending(ledger: Ledger, demand: Demand) -> list[str]:
    """Of a task without a node: which volume is where; empty if none has one copy alone."""
    told = message(ledger, demand) if demand.homes else ""
    return [told] if told else []


def of_lost_node(state: State, service: Service, node: Node) -> list[str]:
    """Of a task that stays on a node that is down: its data is there."""
    host, name = node.description.hostname, service.spec.name
    held = [
        volume.spec.name
        for one in service.spec.task_template.volumes
        if (volume := volume_named(state, one)) is not None and volume.home == node.id
    ]
    if not held:
        return []
    some = "volumes" if len(held) > 1 else "volume"
    return [
        f"it stays there: {some} {', '.join(held)} has its only copy on {host}",
        f"remedy: restore {host} to ready",
        f"remedy: if {host} never returns, give up the data: pyswarm node rm --force {host}, remove"
        f" {name}, run pyswarm volume rm {' '.join(held)}, and create {name} again",
    ]
