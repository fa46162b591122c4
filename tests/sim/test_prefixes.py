"""A rollout whose leader dies after any of its writes ends as if it had not died.

A first run counts the transactions that leaders commit from the update on; then there is a run
for each of them, in which the leader is killed between the commit and its reply.
"""

import os
import weakref
from collections.abc import Callable

import msgspec
import pytest
from msgspec.structs import replace

from controller.store.base import Committed, Txn
from pyswarm_core.clock import MILLISECOND, SECOND
from pyswarm_core.objects import Service
from pyswarm_core.specs import (
    ContainerSpec,
    FailureAction,
    ReplicatedMode,
    ServiceSpec,
    TaskSpec,
    UpdateConfig,
    UpdateOrder,
)
from pyswarm_core.states import UpdateState
from tests.sim.controllers import KEYS, Machine
from tests.sim.rollout_states import is_current, serves
from tests.sim.script import CALM, Step, play, ready
from tests.sim.world import World

EVERY = 1 if int(os.environ.get("PYSWARM_SIM_SEEDS", "500")) > 1_000 else 5
"""Of the writes, one in so many is tried; in the nightly run all."""
SLOTS = 4
OPTIONS = CALM.but(hosts=3, controllers=2, seconds=40)
STOP_FIRST, START_FIRST = UpdateOrder.STOP_FIRST, UpdateOrder.START_FIRST


class Case(msgspec.Struct, frozen=True):
    """A rollout, and how it ends."""

    image: str
    config: UpdateConfig
    end: UpdateState
    old: int
    """How many slots serve with the old version in the end."""


CASES = {
    "stop-first": Case(
        "api:2", UpdateConfig(parallelism=2, monitor=SECOND), UpdateState.COMPLETED, 0
    ),
    "start-first": Case(
        "api:2",
        UpdateConfig(order=START_FIRST, delay=SECOND, monitor=SECOND),
        UpdateState.COMPLETED,
        0,
    ),
    "pause": Case("missing:2", UpdateConfig(max_failure_ratio=0.25), UpdateState.PAUSED, SLOTS - 2),
    "rollback": Case(
        "badcreate:2",
        UpdateConfig(failure_action=FailureAction.ROLLBACK, max_failure_ratio=0.25),
        UpdateState.ROLLBACK_COMPLETED,
        0,
    ),
}


class Run:
    """One run: how many commits there were, what came of it."""

    def __init__(self, case: Case, kill_at: int) -> None:
        self._case = case
        self._kill_at = kill_at
        self._counts = False
        self._world: Callable[[], World | None] = lambda: None
        self.commits = 0
        self.end: tuple[object, ...] = ()
        """The state of the update, the image, and how many slots serve with either version."""
        result = play([Step(ready, self._create), Step(self._all_serve, self._update)], OPTIONS)
        assert result.violations == []

    def _create(self, world: World) -> None:
        self._world = weakref.ref(world)  # it is collected when its run is over
        before = world.faults.committed

        def committed(machine: Machine | None, txn: Txn, outcome: object) -> None:
            before(machine, txn, outcome)
            self._committed(machine, txn, outcome)

        world.faults.committed = committed  # type: ignore[method-assign]
        template = TaskSpec(container_spec=ContainerSpec(image="api:1"))
        spec = ServiceSpec(name="web", task_template=template, mode=ReplicatedMode(replicas=SLOTS))
        world.users.create_as(replace(spec, update_config=self._case.config))

    def _committed(self, machine: Machine | None, txn: Txn, outcome: object) -> None:
        service = self._service()
        if service is not None and service.update_status is not None:
            self._counts = True
        if not self._counts or machine is None or not isinstance(outcome, Committed):
            return
        self._note()
        if any(put.key == KEYS.leader for put in txn.puts):
            return
        self.commits += 1
        if self.commits == self._kill_at:
            world = self._world()
            assert world is not None
            machine.kill()
            world.scheduler.after(500 * MILLISECOND, machine.boot)

    def _service(self) -> Service | None:
        world = self._world()
        assert world is not None
        return next(iter(world.view.services.values()), None)

    def _all_serve(self, world: World) -> bool:
        return sum(serves(task) for task in world.view.tasks.values()) == SLOTS

    def _update(self, world: World) -> None:
        service = self._service()
        assert service is not None
        template = service.spec.task_template
        container = replace(template.container_spec, image=self._case.image)
        spec = replace(service.spec, task_template=replace(template, container_spec=container))
        world.users.update(service, spec, self._case.image, leader=True)

    def _note(self) -> None:
        world, service = self._world(), self._service()
        if world is None or service is None or service.update_status is None:
            return
        tasks = [task for task in world.view.tasks.values() if serves(task)]
        old = sum(not is_current(service, task.spec_version) for task in tasks)
        image = service.spec.task_template.container_spec.image
        self.end = (service.update_status.state, image, old, len(tasks) - old)


@pytest.mark.parametrize("name", CASES)
def test_a_rollout_ends_alike_whatever_write_its_leader_dies_after(name: str) -> None:
    case = CASES[name]
    undisturbed = Run(case, kill_at=0)
    assert undisturbed.end[0] is case.end
    assert undisturbed.end[2] == case.old
    ends = {n: Run(case, n).end for n in range(1, undisturbed.commits + 1, EVERY)}
    assert ends == dict.fromkeys(ends, undisturbed.end)
