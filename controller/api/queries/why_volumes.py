"""Why a task runs nowhere but where the data of its volumes is. PURE."""

from collections.abc import Iterable, Iterator

from controller.brain.mounts import task_volumes
from controller.brain.scheduler.explain import message
from controller.brain.scheduler.filters import Demand
from controller.brain.scheduler.ledger import Ledger
from controller.brain.scheduler.remedy import without_host
from controller.brain.volumes import leaves_volumes, relying, volume_named
from pyswarm_core.objects import Node, Service, Task
from pyswarm_core.state import State
from pyswarm_core.volumes.volume import Volume


def of_pending(state: State, ledger: Ledger, demand: Demand) -> list[str]:
    """Of a task without a node: which volume is where; empty if none has one copy alone. And why
    the last move failed.
    """
    told = message(ledger, demand) if demand.homes else ""
    failed = [
        f"the last move of volume {one.spec.name} failed: {one.failure}"
        for one in _named(state, [home.volume for home in demand.homes])
        if one.failure and one.work is None
    ]
    return [*([told] if told else []), *failed]


def of_lost_node(state: State, service: Service, task: Task, node: Node) -> list[str]:
    """Of a task that stays on a node that is down: its data is there."""
    host = node.description.hostname
    names = task_volumes(state, service, service.spec, task.slot, task.node_id)
    held = [one.spec.name for one in _named(state, names) if one.home == node.id]
    if not held:
        return []
    some = "volumes" if len(held) > 1 else "volume"
    return [
        f"it stays there: {some} {', '.join(held)} has its only copy on {host}",
        f"remedy: wait until {host} is ready again: the task goes on there",
        *[
            f"remedy: {text}"
            for name in held
            for text in without_host(name, host, _pinning(state, service, name))
        ],
    ]


def _pinning(state: State, service: Service, name: str) -> str:
    """The name of the service that keeps the volume to one copy: itself, or one beside it."""
    if not leaves_volumes(service):
        return service.spec.name
    return next((one.spec.name for one in relying(state, service, name)), service.spec.name)


def _named(state: State, names: Iterable[str]) -> Iterator[Volume]:
    for name in names:
        if (volume := volume_named(state, name)) is not None:
            yield volume
