"""Periods of the leader, seen from outside: how late the store knows, how soon history goes."""

from pyswarm_core.clock import MILLISECOND, SECOND
from pyswarm_core.specs import ReplicatedMode
from pyswarm_core.states import TaskState
from tests.sim.script import CALM, Step, create, play, ready
from tests.sim.world import World

ONE = ReplicatedMode(replicas=1)


def test_what_a_host_reports_is_stored_half_a_second_later() -> None:
    at: list[int] = []

    def note(world: World) -> None:
        at.append(world.scheduler.now)

    def runs(world: World) -> bool:
        return bool(world.hosts[0].running())

    def is_stored(world: World) -> bool:
        return any(task.state is TaskState.RUNNING for task in world.view.tasks.values())

    steps = [Step(ready, create("web", ONE)), Step(runs, note), Step(is_stored, note)]
    play(steps, CALM.but(hosts=1, seconds=10))
    assert at[1] - at[0] <= 700 * MILLISECOND


def test_history_is_compacted_every_half_minute() -> None:
    at: list[int] = []

    def note(world: World) -> None:
        at.append(world.scheduler.elapsed)

    def is_compacted(world: World) -> bool:
        return world.etcd.kv.compact_revision > 0

    steps = [Step(ready, create("web", ONE)), Step(is_compacted, note)]
    play(steps, CALM.but(hosts=1, seconds=40))
    assert at[0] <= 32 * SECOND
