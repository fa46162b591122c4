"""Limits that change while a task exists: from the assignment to the acknowledgement."""

import pytest
from msgspec.structs import replace

from agent.assignment import AssignedTask, parse_assignment
from agent.runtime.base import CgroupLimits
from agent.tasks import events
from agent.tasks.events import ChangedInPlace, Effect, InPlaceRequested, NetworksJoining
from agent.tasks.ocispec_resources import cgroup_limits
from agent.tasks.record import InPlaceChange, Interface, Record
from pyswarm_core.api.v1 import dispatcher_pb2
from pyswarm_core.clock import SECOND, Instant
from pyswarm_core.codec import to_proto
from pyswarm_core.ids import NetworkId, NodeId
from pyswarm_core.indexes.columns import pack_ids
from pyswarm_core.specs import ContainerSpec, Limits, Reservations, Resources, TaskSpec
from pyswarm_core.states import TaskState
from tests.unit.agent.tasks.test_machine import record, run

MIB = 1 << 20
CHANGE = Effect.CHANGE_IN_PLACE


def limits(version: int, mib: int = 64) -> InPlaceChange:
    return InPlaceChange(version, Resources(limits=Limits(memory_bytes=mib * MIB)))


def running(**changes: object) -> Record:
    return record(TaskState.RUNNING, spec_version=1, started_at=Instant(SECOND), **changes)


def test_limits_of_a_running_task_change_and_are_acknowledged() -> None:
    asked, effects = run(running(), InPlaceRequested(limits(3)))
    assert (effects, asked.detail.in_place_version) == ([CHANGE], 0)
    changed, effects = run(asked, ChangedInPlace(limits(3)))
    assert effects == []
    assert (changed.in_place_change, changed.detail.in_place_version) == (None, 3)
    assert changed.spec.resources.limits.memory_bytes == 64 * MIB
    assert run(changed, InPlaceRequested(limits(3)), InPlaceRequested(limits(2))) == (changed, [])


def test_reservations_stay_those_that_the_task_was_placed_with() -> None:
    reserved = Reservations(memory_bytes=MIB)
    start = running()
    spec = replace(start.spec, resources=Resources(reservations=reserved))
    changed, _ = run(
        replace(start, spec=spec), InPlaceRequested(limits(3)), ChangedInPlace(limits(3))
    )
    assert changed.spec.resources == Resources(
        limits=Limits(memory_bytes=64 * MIB), reservations=reserved
    )


def test_refused_limits_are_reported_and_not_tried_again() -> None:
    refused, effects = run(
        running(), InPlaceRequested(limits(3)), ChangedInPlace(limits(3), "80MiB are in use")
    )
    assert effects == [CHANGE]
    assert (refused.detail.in_place_version, refused.detail.in_place_error) == (
        3,
        "80MiB are in use",
    )
    assert refused.spec == running().spec
    assert run(refused, InPlaceRequested(limits(3))) == (refused, [])
    changed, effects = run(refused, InPlaceRequested(limits(4)), ChangedInPlace(limits(4)))
    assert (changed.detail.in_place_version, changed.detail.in_place_error) == (4, "")


def test_limits_stay_where_the_networks_alone_are_refused() -> None:
    refused, _ = run(
        running(),
        InPlaceRequested(limits(3)),
        ChangedInPlace(limits(3), "no address is free", networks_refused=True),
    )
    assert refused.spec.resources.limits.memory_bytes == 64 * MIB
    assert (refused.spec.networks, refused.detail.in_place_version) == (running().spec.networks, 3)
    again, _ = run(refused, InPlaceRequested(limits(4)))
    assert again.in_place_change == limits(4), "the record is true: nothing needs to be written"


def test_limits_after_a_change_that_may_be_half_done_are_written() -> None:
    asked, _ = run(running(), InPlaceRequested(limits(3)))
    assert asked.in_place_change == limits(3)
    during, _ = run(asked, InPlaceRequested(limits(4)))
    assert during.in_place_change == replace(limits(4), forced=True)
    refused, _ = run(asked, ChangedInPlace(limits(3), "in use"), InPlaceRequested(limits(4)))
    assert refused.in_place_change == replace(limits(4), forced=True)


def test_a_refused_change_keeps_the_interfaces_that_could_not_be_undone() -> None:
    kept = (Interface(NetworkId("net2"), "10.129.0.2", "eth1"),)
    joining = (InPlaceRequested(limits(3)), NetworksJoining(kept))
    refused, _ = run(running(), *joining, ChangedInPlace(limits(3), "no", networks_refused=True))
    assert refused.held == kept
    restored, _ = run(refused, NetworksJoining(()))
    assert restored.held == ()
    ended, _ = run(refused, events.Exited(0))
    assert run(ended, NetworksJoining(())) == (ended, [])


def test_limits_that_come_during_a_change_follow_it() -> None:
    asked, effects = run(running(), InPlaceRequested(limits(3)), InPlaceRequested(limits(4, 32)))
    assert effects == [CHANGE], "never two at once: they could finish in either order"
    between, effects = run(asked, ChangedInPlace(limits(3)))
    assert effects == [CHANGE]
    assert between.spec.resources.limits.memory_bytes == 64 * MIB
    assert between.detail.in_place_version == 0
    refused, effects = run(between, ChangedInPlace(limits(4, 32), "in use"))
    assert (effects, refused.in_place_change) == ([], None)
    assert refused.spec.resources.limits.memory_bytes == 64 * MIB


@pytest.mark.parametrize("state", [TaskState.PREPARING, TaskState.READY, TaskState.STARTING])
def test_limits_of_a_task_without_a_process_change_once_it_runs(state: TaskState) -> None:
    waiting, effects = run(record(state), InPlaceRequested(limits(3)))
    assert effects == []
    prepared = events.Prepared(image_id="i", stop_signal="SIGTERM", pid=7)
    before: dict[TaskState, list[events.TaskEvent]] = {
        TaskState.PREPARING: [prepared],
        TaskState.READY: [events.Desired(_RUNNING)],
    }
    start = replace(waiting, desired_state=TaskState.READY) if state is TaskState.READY else waiting
    started, effects = run(start, *before.get(state, []), events.Started())
    assert effects[-1:] == [CHANGE]
    assert started.state is _RUNNING


_RUNNING = TaskState.RUNNING


def test_a_returning_agent_changes_what_the_former_one_did_not_finish() -> None:
    asked, _ = run(running(), InPlaceRequested(limits(3)))
    assert run(asked, events.Started())[1] == [CHANGE]
    done, _ = run(asked, ChangedInPlace(limits(3)))
    assert run(done, events.Started())[1] == []


def test_an_ended_task_takes_no_limits() -> None:
    asked, _ = run(running(), InPlaceRequested(limits(3)))
    ended, _ = run(asked, events.Exited(0))
    assert run(ended, ChangedInPlace(limits(3), "it is not running")) == (ended, [])
    assert run(ended, InPlaceRequested(limits(4))) == (ended, [])


def test_an_end_out_of_memory_names_the_limit_that_was_in_force() -> None:
    ended, _ = run(
        running(),
        InPlaceRequested(limits(3)),
        ChangedInPlace(limits(3)),
        events.Exited(137, signal=9, oom=True),
    )
    assert ended.detail.error == "out of memory (exit 137): the memory limit of 64MiB was reached"


@pytest.mark.parametrize(
    ("resources", "expected"),
    [
        (Resources(), CgroupLimits()),
        (
            Resources(limits=Limits(nano_cpus=500_000_000, memory_bytes=64, pids=9)),
            CgroupLimits(cpu_quota_us=50_000, memory_bytes=64, memory_and_swap_bytes=128, pids=9),
        ),
        (
            Resources(limits=Limits(memory_bytes=64), swap_bytes=-1),
            CgroupLimits(memory_bytes=64),
        ),
        (
            Resources(limits=Limits(memory_bytes=64, nano_cpus=1), swap_bytes=6),
            CgroupLimits(cpu_quota_us=1_000, memory_bytes=64, memory_and_swap_bytes=70),
        ),
    ],
)
def test_a_change_has_the_arithmetic_of_a_new_container(
    resources: Resources, expected: CgroupLimits
) -> None:
    assert cgroup_limits(resources) == expected


def assigned(spec_version: int, in_place_version: int, *, with_spec: bool = True) -> AssignedTask:
    template = dispatcher_pb2.TaskTemplate(
        service_id="s", spec_version=spec_version, in_place_version=in_place_version
    )
    if with_spec:
        spec = TaskSpec(container_spec=ContainerSpec(image="web"), resources=limits(0).resources)
        to_proto(spec, template.spec)
    message = dispatcher_pb2.Assignments(
        templates=[template.SerializeToString()],
        ids=pack_ids(["t".ljust(25, "1")]),
        slots=[1],
        template_index=[0],
        desired_states=bytes([TaskState.RUNNING]),
    )
    (found,) = parse_assignment(message).tasks
    return found


def test_a_template_with_newer_limits_says_so_and_a_new_task_has_them_at_once() -> None:
    task = assigned(1, 3)
    assert task.template.in_place_change == InPlaceChange(3, limits(0).resources)
    accepted = task.record(NodeId("n1"), Instant(0))
    assert (accepted.in_place_change, accepted.detail.in_place_version) == (None, 3)
    assert accepted.in_place_version == 3


@pytest.mark.parametrize(("in_place_version", "with_spec"), [(0, True), (1, True), (3, False)])
def test_other_templates_change_no_limits(in_place_version: int, with_spec: bool) -> None:
    task = assigned(1, in_place_version, with_spec=with_spec)
    assert task.template.in_place_change is None
    assert task.record(NodeId("n1"), Instant(0)).detail.in_place_version == 0
