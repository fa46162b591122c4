"""Containers: what their users do, and the rules about their one task and its writable layer."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING

from msgspec.structs import replace

from agent.network.overlay.plug import Plug
from pyswarm_core.ids import ServiceId
from pyswarm_core.kinds import SERVICE
from pyswarm_core.objects import Service, Task
from pyswarm_core.specs import (
    BRIDGE_NETWORK,
    NO_NETWORK,
    ContainerMode,
    NetworkAttachment,
    RestartCondition,
    RestartPolicy,
    ServiceSpec,
    UpdateOrder,
)
from pyswarm_core.states import TaskState, is_terminal
from tests.sim.hosts import Host
from tests.sim.marks import Marks
from tests.sim.rand import Chance
from tests.sim.rules import Rule
from tests.sim.view import Change, View

if TYPE_CHECKING:
    from tests.sim.asked import Asked
    from tests.sim.workload import Users


def as_container(spec: ServiceSpec, *, auto_remove: bool) -> ServiceSpec:
    """The spec as that of a container."""
    template = spec.task_template
    policy = RestartPolicy(condition=RestartCondition.NONE) if auto_remove else None
    placement = replace(template.placement, max_replicas=0)
    return replace(
        spec,
        mode=ContainerMode(auto_remove=auto_remove),
        task_template=replace(
            template, restart_policy=policy or template.restart_policy, placement=placement
        ),
        update_config=replace(spec.update_config, order=UpdateOrder.STOP_FIRST),
        rollback_config=replace(spec.rollback_config, order=UpdateOrder.STOP_FIRST),
    )


class ContainerUsers:
    """Those who type `run`, `stop`, `start`, `restart`, `rename` and `rm`."""

    def __init__(self, users: "Users", chance: Chance, view: View) -> None:
        self._users = users
        self._chance = chance
        self._view = view

    def acts(self) -> list[Callable[[], None]]:
        """What they may do, the likely things several times."""
        return [
            *[self.create] * 3,
            self.stop_or_start,
            self.restart,
            self.rename,
            *[self.connect_or_disconnect] * 4,
        ]

    def create(self) -> None:
        """`run`, some with --rm."""
        spec = self._users.drawn_spec()
        if spec is not None:
            self._users.create_as(as_container(spec, auto_remove=self._chance.hits(0.4)))

    def stop_or_start(self) -> None:
        """Its layer stays."""
        if (service := self._some()) is not None:
            stopped = not service.spec.stopped
            spec = replace(service.spec, stopped=stopped)
            self._users.update(service, spec, "stop" if stopped else "start")

    def restart(self) -> None:
        """Its task, or another one after its last has ended."""
        if (service := self._some()) is not None:
            tasks = self._view.slots_of(service.id).get(1, [])
            if tasks:
                self._users.restart_task(tasks[-1])

    def rename(self) -> None:
        """Sometimes to a name that another has, or had."""
        if (service := self._some()) is not None:
            name = self._chance.choice((f"{service.spec.name}x", "s1", "s2", "s3"))
            self._users.marks.hit("container renamed")
            self._users.update(service, replace(service.spec, name=name), f"name {name}")

    def connect_or_disconnect(self) -> None:
        """A network that it has is left, another one joined."""
        networks = [n for n in self._view.networks.values() if not n.spec.ingress]
        running = [one for one in self._alive() if self._runs(one)]
        if not networks or not (alive := running or self._alive()):
            return
        service, network = self._chance.choice(alive), self._chance.choice(networks)
        joined = service.spec.task_template.networks
        left = tuple(one for one in joined if one.target not in (network.id, NO_NETWORK))
        is_left = any(one.target == network.id for one in joined)
        then = left if is_left else (*left, NetworkAttachment(target=network.id))
        if not is_left and not joined:
            then = (NetworkAttachment(target=BRIDGE_NETWORK), *then)
        then = then or (NetworkAttachment(target=NO_NETWORK),)
        template = replace(service.spec.task_template, networks=then)
        self._users.marks.hit(
            "container left a network" if is_left else "container joined a network"
        )
        verb = "disconnect" if is_left else "connect"
        self._users.update(
            service, replace(service.spec, task_template=template), f"{verb} {network.spec.name}"
        )

    def _some(self) -> Service | None:
        alive = self._alive()
        return self._chance.choice(alive) if alive else None

    def _alive(self) -> list[Service]:
        return [s for s in self._view.services.values() if is_container(s) and not s.removing]

    def _runs(self, service: Service) -> bool:
        tasks = self._view.slots_of(service.id).get(1, [])
        return any(task.state is TaskState.RUNNING for task in tasks)


def is_container(service: Service) -> bool:
    """Whether it has one task with a layer."""
    return isinstance(service.spec.mode, ContainerMode)


def wrong_networks(service: Service, task: Task, plugs: Iterable[Plug]) -> Iterator[str]:
    """The networks that a container should be on, what is stored of its task, and its interfaces
    agree.
    """
    joined = [one.target for one in service.spec.task_template.networks] or [BRIDGE_NETWORK]
    desired = [target for target in joined if target != NO_NETWORK]
    held = [one.network_id for one in task.detail.addresses]
    if held != desired:
        yield f"container {service.spec.name} is on {held}, should be on {desired}"
    has = {plug.addresses[0] for plug in plugs}
    if has != {one.address for one in task.detail.addresses}:
        yield f"container {service.spec.name} has {has}, not {task.detail.addresses}"


def removes_itself(service: Service) -> bool:
    """Whether it is removed once its task has ended."""
    return isinstance(service.spec.mode, ContainerMode) and service.spec.mode.auto_remove


class OneTask:
    """A container has at most one task that has not ended, and that on the node of its layer, which
    changes only if the node was removed.
    """

    rule = Rule.ONE_CONTAINER

    def broken_by(self, change: Change, view: View) -> Iterator[str]:
        for old, new in change.of(SERVICE):
            if old is None or new is None or old.pinned_node in ("", new.pinned_node):
                continue
            if old.pinned_node in view.nodes:
                yield f"container {new.spec.name} moved from {old.pinned_node} to {new.pinned_node}"
        for key in change.chunks:
            service = view.services.get(key.service_id)
            if service is None or not is_container(service):
                continue
            living = [task for task in view.chunks.get(key, ()) if _lives(task, view)]
            if len(living) > 1:
                yield f"container {service.spec.name} has tasks {[task.id for task in living]}"
            for task in living:
                if task.node_id != service.pinned_node:
                    where = f"{task.node_id}, not on {service.pinned_node}"
                    yield f"task {task.id} of container {service.spec.name} is on {where}"


def _lives(task: Task, view: View) -> bool:
    placed = task.state >= TaskState.ASSIGNED and not is_terminal(task.state)
    return placed and task.node_id in view.nodes


class LayersAreKept:
    """No two containers have a layer, and it is deleted only once the store has its service no
    longer, or pinned to another node.
    """

    rule = Rule.LAYER_KEPT

    def __init__(self, hosts: Mapping[str, Host], marks: Marks) -> None:
        self._found: list[str] = []
        self._deleted: list[tuple[Host, str]] = []
        self._marks = marks
        for host in hosts.values():
            host.engine.on_shared_layer = self._found.append
            host.engine.on_deleted_layer = partial(self._delete, host)

    def _delete(self, host: Host, layer: str) -> None:
        self._deleted.append((host, layer))

    def broken_by(self, change: Change, view: View) -> Iterator[str]:
        found, self._found[:] = list(self._found), []
        yield from found
        deleted, self._deleted[:] = list(self._deleted), []
        for host, layer in deleted:
            self._marks.hit("layer deleted")
            service = view.services.get(ServiceId(layer))
            if service is not None and service.pinned_node == host.node_id:
                yield f"{host.name} deleted the layer of container {service.spec.name}"


class RemovedByItself:
    """A container that nobody asked to remove is removed only if it says so, and runs nowhere."""

    rule = Rule.AUTO_REMOVED

    def __init__(self, asked: "Asked", hosts: Mapping[str, Host], marks: Marks) -> None:
        self._asked = asked
        self._hosts = hosts
        self._marks = marks

    def broken_by(self, change: Change, view: View) -> Iterator[str]:
        for old, new in change.of(SERVICE):
            # Marked and removed by one transaction, if it had no task on a node any more.
            service = old if new is None else new
            if service is None or (new is not None and not new.removing):
                continue
            if (old is not None and old.removing) or service.id in self._asked.removals:
                continue
            if not removes_itself(service):
                continue  # a law of specs
            self._marks.hit("container removed itself")
            self._asked.removals[service.id] = None
            running = {task_id for host in self._hosts.values() for task_id in host.running()}
            for task in (task for tasks in view.slots_of(service.id).values() for task in tasks):
                if task.id in running and task.node_id in view.nodes:
                    yield f"container {service.spec.name} is removed, and its task {task.id} runs"


def left_over(service: Service, slots: Mapping[int, list[Task]]) -> Iterator[str]:
    """A container with --rm that has ended and is still there."""
    tasks = [task for held in slots.values() for task in held]
    if not removes_itself(service) or not tasks:
        return
    policy = service.spec.task_template.restart_policy
    last = tasks[-1]
    ended = all(is_terminal(task.state) for task in tasks)
    by_itself = last.state in (TaskState.COMPLETE, TaskState.FAILED, TaskState.REJECTED)
    anew = last.status_at < service.started_at or last.detail.told_to_end
    if not ended or policy.condition is not RestartCondition.NONE:
        return
    if service.spec.stopped or (by_itself and not anew):
        yield f"container {service.spec.name} has ended and did not remove itself"


def wrong_layers(view: View, hosts: Iterable[Host]) -> Iterator[str]:
    """Layers that hosts have and should not have, or should have and do not."""
    for host in hosts:
        if host.lost or host.worker is None or host.node_id not in view.nodes:
            continue
        pinned = {s.id: s for s in view.services.values() if s.pinned_node == host.node_id}
        for layer in host.engine.layers:
            if layer not in pinned:
                yield f"{host.name} still has the layer of {layer}"
        for service_id, service in pinned.items():
            tasks = [task for held in view.slots_of(service_id).values() for task in held]
            runs = any(task.state is TaskState.RUNNING for task in tasks)
            if runs and service_id not in host.engine.layers:
                yield f"{host.name} has no layer of container {service.spec.name}"
