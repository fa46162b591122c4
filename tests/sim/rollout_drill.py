"""A drill in calm weather: a service that serves gets another version, well or broken.

Nothing else happens meanwhile, so what the settings promise holds exactly: how many slots serve at
any moment, whether the update completes, pauses or is rolled back, and that it does so in time.
"""

from collections.abc import Callable, Iterator

import msgspec
from msgspec.structs import replace

from pyswarm_core.clock import MILLISECOND, SECOND
from pyswarm_core.ids import ServiceId, TaskId
from pyswarm_core.objects import Service, Task
from pyswarm_core.specs import FailureAction, ReplicatedMode, ServiceSpec, UpdateConfig, UpdateOrder
from pyswarm_core.state import State
from pyswarm_core.states import UpdateState
from tests.sim.behaviours import has_health
from tests.sim.marks import Marks
from tests.sim.membership import is_free
from tests.sim.rand import Chance
from tests.sim.rollout_states import (
    is_beside_failed,
    is_current,
    is_rolling,
    serves,
    settings,
    should_run,
)
from tests.sim.rollouts import Rollouts
from tests.sim.rules import Fail, Rule
from tests.sim.settled import Settled
from tests.sim.specs import template_of
from tests.sim.updates import Updates
from tests.sim.workload import Users

STEP = 20 * MILLISECOND
PER_SLOT = 40 * SECOND
"""One slot's update takes at most this long beside its delay: a grace period, the slowest image,
the longest health check.
"""
AFTERWARDS = 10 * SECOND
WELL = ("web", "api", "slow")
BROKEN = ("missing", "badcreate", "badstart")
CRASHES_WITHIN = 5 * SECOND

_U = UpdateState
_ENDS = {
    FailureAction.PAUSE: _U.PAUSED,
    FailureAction.ROLLBACK: _U.ROLLBACK_COMPLETED,
    FailureAction.CONTINUE: _U.COMPLETED,
}


class Watched(msgspec.Struct):
    """One update under watch."""

    id: ServiceId
    name: str
    replicas: int
    spec: ServiceSpec
    broken: bool
    began: int
    version: int
    """The spec version before."""
    known: frozenset[TaskId]
    """The tasks then, of all services."""
    before: ServiceSpec
    """The spec that its tasks had then."""
    least: int = 1 << 30
    """How many slots served at the worst moment."""
    waited: bool = False
    """A new task found no node at once."""

    @property
    def config(self) -> UpdateConfig:
        """The settings."""
        return self.spec.update_config

    @property
    def at_once(self) -> int:
        """How many slots may be in flight."""
        return min(self.config.parallelism or self.replicas, self.replicas)

    @property
    def rounds(self) -> int:
        """How often so many are begun."""
        return -(-self.replicas // max(self.at_once, 1))

    @property
    def end(self) -> UpdateState:
        """What its state must be."""
        if not self.broken:
            return _U.COMPLETED
        action = self.config.failure_action
        if self.config.max_failure_ratio >= 1.0:
            action = FailureAction.CONTINUE
        return _ENDS[action]

    @property
    def allowed_down(self) -> int:
        """How many slots may not serve at one moment."""
        start_first = self.config.order is UpdateOrder.START_FIRST and not self.waited
        if not self.broken:
            return 0 if start_first else self.at_once
        if self.end is _U.COMPLETED:
            return 0 if start_first else self.replicas  # the old tasks stay
        # Tolerated ones, and those in flight when one more fails.
        tolerated = int(self.config.max_failure_ratio * self.replicas)
        return 0 if start_first else tolerated + self.at_once


class RolloutDrill:
    """What is tried, once for a well and once for a broken version."""

    def __init__(
        self,
        settled: Settled,
        users: Users,
        updates: Updates,
        chance: Chance,
        marks: Marks,
        fail: Fail,
    ) -> None:
        """`updates`: of all controllers together."""
        self._updates = updates
        self._settled = settled
        self._users = users
        self._chance = chance
        self._marks = marks
        self._fail = fail
        self._rollouts = Rollouts(chance, checks=False)

    def roll_out(self, now: Callable[[], int], run: Callable[[int], None]) -> None:
        """Update a service that serves; then to what is well, whatever came of it."""
        service = next(self._candidates(), None)
        if service is None:
            return
        broken = self._chance.hits(0.5)
        watched = self._begin(service, broken=broken, now=now())
        self._watch(watched, now, run)
        self._marks.hit(f"drill: a rollout ended as {watched.end}")
        self._judge(watched)
        if broken:
            service = self._state().services[service.id]
            again = self._begin(service, broken=False, now=now())
            self._watch(again, now, run, availability=False)
            self._judge(again)

    # Inside

    def _state(self) -> State:
        loop = next(m.loop for m in self._settled.machines if m.loop is not None)
        return loop.state

    def _candidates(self) -> Iterator[Service]:
        state = self._state()
        for service in state.services.values():
            mode = service.spec.mode
            tasks = [t for t in state.tasks_of_service(service.id) if should_run(t)]
            if (
                isinstance(mode, ReplicatedMode)
                and 2 <= mode.replicas == len(tasks)
                and is_free(service)
                and not service.spec.task_template.volumes  # all its tasks wait for one node
                and not self._settled.is_restless(service)
                and all(serves(t) and is_current(service, t.spec_version) for t in tasks)
                and not is_rolling(service)
            ):
                yield service

    def _begin(self, service: Service, *, broken: bool, now: int) -> Watched:
        config = self._rollouts.config()
        if broken and config.failure_action is FailureAction.ROLLBACK:
            self._marks.hit("drill: a broken version is to be rolled back")
        name = self._chance.choice(_names(service.spec, config, broken=broken))
        image = f"{name}:{self._chance.randint(4, 6)}"
        template = service.spec.task_template
        container = replace(template.container_spec, image=image)
        spec = replace(
            service.spec,
            task_template=replace(template, container_spec=container),
            update_config=config,
            rollback_config=replace(config, failure_action=FailureAction.PAUSE),
        )
        assert isinstance(spec.mode, ReplicatedMode)
        known = frozenset(self._state().tasks)
        replicas, version = spec.mode.replicas, service.spec_version
        before = service.spec
        watched = Watched(
            service.id, spec.name, replicas, spec, broken, now, version, known, before
        )
        self._updates.waited.discard(service.id)
        self._users.update(service, spec, f"drill: {image} {config}", leader=True)
        return watched

    def _watch(
        self,
        watched: Watched,
        now: Callable[[], int],
        run: Callable[[int], None],
        *,
        availability: bool = True,
    ) -> None:
        rounds = 2 * watched.rounds if watched.broken else watched.rounds
        deadline = watched.began + rounds * (PER_SLOT + watched.config.delay) + AFTERWARDS
        deadline += watched.config.monitor
        bound = watched.replicas - watched.allowed_down
        while now() < deadline and not self._ended(watched):
            run(STEP)
            serving = self._serving(watched)
            if availability and serving < watched.least:
                watched.least = serving
                service = self._state().services[watched.id]
                restless = self._settled.is_restless(service)
                returning = down_in_return(service, watched, restless=restless)
                bound = watched.replicas - max(watched.allowed_down, returning)
                is_bound = "crash" not in _image(watched.spec) and not self._has_rivals(watched)
                if serving < bound and is_bound:
                    text = f"{serving} of {watched.replicas} slots serve, {bound} must"
                    self._fail(Rule.AVAILABLE, f"{watched.name}: {text}: {watched.config}")

    def _serving(self, watched: Watched) -> int:
        state = self._state()
        serving = set[int]()
        watched.waited = watched.id in self._updates.waited
        for task in state.tasks_of_service(watched.id):
            if serves(task):
                serving.add(task.slot)
        return len(serving)

    def _has_rivals(self, watched: Watched) -> bool:
        """Whether its new tasks had to wait while another service restarted tasks: those may take
        the room that the update makes.
        """
        tasks = self._state().tasks.values()
        others = (task.id for task in tasks if task.service_id != watched.id)
        return watched.waited and any(one not in watched.known for one in others)

    def _ended(self, watched: Watched) -> bool:
        service = self._state().services[watched.id]
        status = service.update_status
        later = service.spec_version > watched.version
        return later and status is not None and status.state is watched.end

    def _judge(self, watched: Watched) -> None:
        service = self._state().services[watched.id]
        status = service.update_status
        state = None if status is None else status.state
        if state is not watched.end and not watched.waited:
            text = f"the update of {watched.name} is {state}, should be {watched.end}"
            self._fail(Rule.ROLLED_OUT, f"{text}: {watched.config}, {status}")
        slots = self._state().tasks_of_service(service.id).slots
        tasks = [t for t in self._state().tasks_of_service(service.id) if should_run(t)]
        if state in (_U.COMPLETED, _U.ROLLBACK_COMPLETED):
            for task in tasks:
                beside = is_beside_failed(service, list(slots[task.slot]))
                if not is_current(service, task.spec_version) and not beside:
                    self._fail(Rule.ROLLED_OUT, f"{task.id} of {watched.name} is outdated")
        if state is _U.PAUSED:
            self._judge_paused(watched, service, tasks)

    def _judge_paused(self, watched: Watched, service: Service, tasks: list[Task]) -> None:
        """Slots that were not begun are as they were."""
        old = {t.slot for t in tasks if not is_current(service, t.spec_version) and serves(t)}
        is_bound = "crash" not in _image(watched.spec) and not self._has_rivals(watched)
        begun = watched.allowed_down if is_bound else watched.replicas
        if len(old) < watched.replicas - begun:
            text = f"the update of {watched.name} is paused, and of {watched.replicas} old tasks"
            self._fail(Rule.ROLLED_OUT, f"{text} {len(old)} serve: {watched.config}")


def down_in_return(service: Service, watched: Watched, *, restless: bool) -> int:
    """How many slots may not serve in a rollback to another template than the one before: that was
    of an update that was not completed. The settings are those of the spec that it returns to.
    """
    status = service.update_status
    returns = status is not None and status.state is _U.ROLLBACK_STARTED
    if not returns or template_of(service.spec) == template_of(watched.before):
        return 0
    config = settings(service)
    if restless:
        return watched.replicas
    if config.order is UpdateOrder.START_FIRST and not watched.waited:
        return 0
    return min(config.parallelism or watched.replicas, watched.replicas)


def _names(spec: ServiceSpec, config: UpdateConfig, *, broken: bool) -> tuple[str, ...]:
    """Images that are well, or whose tasks fail within the monitored time."""
    if not broken:
        return WELL
    sick = ("sick",) if has_health(spec) else ()
    crash = ("crash",) if config.monitor >= CRASHES_WITHIN else ()
    return (*BROKEN, *sick, *crash)


def _image(spec: ServiceSpec) -> str:
    return spec.task_template.container_spec.image
