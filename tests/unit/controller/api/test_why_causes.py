"""The whole answers of `why` about ended tasks, checks, restarts, limits and updates."""

from typing import Any

from msgspec.structs import replace

from controller.api.queries.lookup import task_name
from controller.api.queries.progress import service_progress
from controller.api.queries.why import why
from controller.api.queries.why_update import waits_for, with_message
from pyswarm_core.clock import MINUTE, SECOND, Instant
from pyswarm_core.identity.author import Author
from pyswarm_core.objects import (
    HealthState,
    PreviousSpec,
    Service,
    Task,
    TaskDetail,
    UpdateStatus,
    Version,
)
from pyswarm_core.specs import (
    ContainerMode,
    EndpointSpec,
    HealthConfig,
    Limits,
    PortConfig,
    Resources,
    RestartCondition,
    RestartPolicy,
    TaskSpec,
    UpdateConfig,
)
from pyswarm_core.state import State
from pyswarm_core.states import Availability, NodeState, TaskState, UpdateState
from tests.fixtures import build
from tests.fixtures.build import MIB, NOW, node, service, task

LATER = Instant(NOW + 90 * SECOND)
FAILED, STARTING, SHUTDOWN = TaskState.FAILED, TaskState.STARTING, TaskState.SHUTDOWN


def world(web: Service, *tasks: Task) -> State:
    return build.state(nodes=[node("n1"), node("n2")], services=[web], tasks=tasks)


def limited(mib: int, spec: TaskSpec | None = None) -> TaskSpec:
    limits = Limits(memory_bytes=mib * MIB)
    return replace(spec or build.template(), resources=Resources(limits=limits))


def ended(name: str = "web.1", *, restarts: int = 0, version: int = 1, **detail: object) -> Task:
    told = TaskDetail(**detail)  # type: ignore[arg-type]
    at = NOW + 60 * SECOND
    return task(
        name, node="n1", state=FAILED, restarts=restarts, detail=told, at=at, version=version
    )


def updated(web: Service, state: UpdateState = UpdateState.UPDATING, **changes: object) -> Service:
    status = UpdateStatus(
        state=state, started_at=NOW, from_version=1, to_version=web.template_version, slots=3
    )
    return replace(web, update_status=replace(status, **changes))


def test_out_of_memory_names_the_limit_and_the_next_one() -> None:
    web = service("web", spec=limited(64))
    state = world(web, ended(oom=True, exit_code=137, ran=42 * SECOND))
    assert why(state, "web.1", LATER) == [
        "task web.1 is failed, desired running",
        "it was created 1m30s ago from version 1",
        "it ran out of memory on n1 30.0 s ago, after it ran for 42.0 s, and was killed:"
        " its limit was 64MiB",
        "remedy: raise its limit: pyswarm service update --limit-memory 128MiB web",
        "restart policy: condition any, delay 5.0 s",
    ]


def test_a_limit_that_was_raised_since_is_not_to_be_raised_again() -> None:
    raised = replace(service("web", spec=limited(256), version=2), in_place_version=2)
    before = PreviousSpec(version=1, spec=replace(raised.spec, task_template=limited(64)))
    raised = replace(raised, previous_specs=(before,))
    state = world(raised, ended(oom=True))
    assert why(state, "web.1", LATER)[2:] == [
        "it ran out of memory on n1 30.0 s ago, and was killed: its limit was 64MiB",
        "restart policy: condition any, delay 5.0 s",
    ]
    acknowledged = world(raised, ended(oom=True, in_place_version=2))
    assert why(acknowledged, "web.1", LATER)[2:4] == [
        "it ran out of memory on n1 30.0 s ago, and was killed: its limit was 256MiB",
        "remedy: raise its limit: pyswarm service update --limit-memory 512MiB web",
    ]


def checked(**config: object) -> Service:
    spec = build.template()
    check = HealthConfig(test=("TCP", "80"), **config)  # type: ignore[arg-type]
    container = replace(spec.container_spec, healthcheck=check)
    return service("web", spec=replace(spec, container_spec=container))


def test_an_unhealthy_task_shows_the_output_of_its_check() -> None:
    state = world(checked(), ended(error="unhealthy: connection refused", exit_code=143))
    assert why(state, "web.1", LATER)[2:] == [
        "it failed on n1 30.0 s ago: unhealthy: connection refused",
        "remedy: if it needs longer to start:"
        " pyswarm service update --health-start-period DURATION web",
        "remedy: see what it wrote: pyswarm service logs web.1",
        "restart policy: condition any, delay 5.0 s",
    ]


def remedies_of(web: Service, **detail: Any) -> list[str]:
    lines = why(world(web, ended(**detail)), "web.1", LATER)
    found = [line.removeprefix("remedy: ") for line in lines if line.startswith("remedy: ")]
    return [line.replace("pyswarm service update ", "") for line in found]


SEE = "see what it wrote: pyswarm service logs web.1"
LONGER = "if it needs longer to start: --health-start-period DURATION web"
PROGRAM = "run a program that the image has: --entrypoint COMMAND --args ARGUMENTS web"


def test_a_task_that_was_healthy_needs_no_longer_start() -> None:
    unhealthy = "unhealthy: connection refused"
    assert remedies_of(checked(), error=unhealthy, ran=200 * MINUTE) == [SEE]
    assert remedies_of(checked(start_period=SECOND), error=unhealthy) == [SEE]
    assert remedies_of(checked(), error=unhealthy) == [LONGER, SEE]


def test_a_check_that_exceeded_its_timeout_needs_a_longer_one_first() -> None:
    exceeded = "unhealthy: exceeded timeout (1m30s): waiting"
    more = "give the check more time: --health-timeout 3m0s web"
    assert remedies_of(checked(), error=exceeded) == [more, LONGER, SEE]
    assert remedies_of(checked(timeout=90 * SECOND), error=exceeded, ran=1) == [more, SEE]
    assert remedies_of(checked(timeout=100 * SECOND), error=exceeded, ran=1) == [SEE]
    assert remedies_of(checked(), error="unhealthy: exceeded timeout (20ms)", ran=1) == [
        "give the check more time: --health-timeout 40ms web",
        SEE,
    ]
    assert remedies_of(checked(), error="unhealthy: exceeded timeout (1.2.3s)", ran=1) == [SEE]


def test_a_missing_program_or_image_is_answered_with_the_flag_that_names_another() -> None:
    web = service("web")
    missing = 'exec: "nothing": executable file not found in $PATH (/bin)'
    assert remedies_of(web, error=missing, exit_code=127) == [PROGRAM]
    assert remedies_of(web, error=missing) == [PROGRAM]
    assert remedies_of(web, error="non-zero exit (127)", exit_code=127) == [SEE, PROGRAM]
    assert remedies_of(web, error="non-zero exit (1)", exit_code=1) == [SEE]
    rejected = replace(
        ended(error="no such image: web:2 (manifest unknown)"), state=TaskState.REJECTED
    )
    assert "remedy: use an image that exists: pyswarm service update --image IMAGE web" in why(
        world(web, rejected), "web.1", LATER
    )


def test_a_task_that_serves_does_not_report_that_it_was_started() -> None:
    serving = TaskDetail(message="started", serving=True)
    web = service("web")
    assert why(world(web, task("web.1", node="n1", detail=serving)), "web.1", LATER)[1:] == [
        "it was created 1m30s ago from version 1",
        "it is on n1, running for 1m30s",
    ]
    mute = TaskDetail(message="started")
    assert "started" in why(world(web, task("web.1", node="n1", detail=mute)), "web.1", LATER)


def test_a_starting_task_waits_for_its_health_check() -> None:
    detail = TaskDetail(
        message="starting: waiting for the health check", health=HealthState.STARTING
    )
    state = world(service("web"), task("web.1", node="n1", state=STARTING, detail=detail))
    assert why(state, "web", LATER)[1:] == [
        "task web.1 is starting, desired running",
        "it was created 1m30s ago from version 1",
        "it is on n1, starting for 1m30s",
        "starting: waiting for the health check",
        "it counts as running, and receives connections, once its health check succeeds",
        "last results: pyswarm task inspect web.1",
    ]


def test_a_task_that_is_not_ready_is_shown_with_the_output_of_its_check() -> None:
    detail = TaskDetail(message="not ready: 503 Service Unavailable")
    state = world(service("web"), task("web.1", node="n1", detail=detail))
    assert why(state, "web", LATER)[3:] == [
        "it is on n1, running for 1m30s",
        "not ready: 503 Service Unavailable",
        "it receives no connections until its readiness check succeeds, and is not replaced",
        "last results: pyswarm task inspect web.1",
    ]


def test_a_task_that_does_not_listen_says_on_which_port() -> None:
    web = service("web")
    port = PortConfig(target_port=8080, published_port=80)
    web = replace(web, spec=replace(web.spec, endpoint_spec=EndpointSpec(ports=(port,))))
    state = world(web, task("web.1", node="n1", detail=TaskDetail(pid=7)))
    assert why(state, "web.1", LATER)[3:] == [
        "it receives no connections until it listens on TCP port 8080 on all addresses",
    ]


def test_a_crash_loop_and_the_growing_delay_are_named() -> None:
    spec = build.template(delay=1 * SECOND)
    policy = replace(spec.restart_policy, max_delay=5 * MINUTE, max_attempts=9)
    last = replace(ended(restarts=4, exit_code=3), consecutive_restarts=4)
    state = world(service("web", spec=replace(spec, restart_policy=policy)), last)
    assert why(state, "web.1", Instant(NOW + 61 * SECOND))[1:] == [
        "it was created 1m1s ago from version 1, as restart 4 of its slot",
        "it failed on n1 1.0 s ago: exit code 3",
        "remedy: see what it wrote: pyswarm service logs web.1",
        "restart policy: condition any, delay 16.0 s (at most 5m0s);"
        " 4 of 9 attempts were used before it",
        "web.1 is in a crash loop: 5 failures in a row",
    ]


def test_tasks_of_global_services_have_one_name_everywhere() -> None:
    failed = replace(ended("edge.2", restarts=4, exit_code=3), consecutive_restarts=4)
    state = world(updated(service("edge", replicas=None)), failed)
    assert task_name(state, failed) == "edge.n1"
    lines = why(state, "edge.2", LATER)
    assert lines[0] == "task edge.n1 is failed, desired running"
    assert lines[-1] == "edge.n1 is in a crash loop: 5 failures in a row"
    first = task("edge.2", node="n1", state=STARTING)
    edge = updated(service("edge", replicas=None))
    assert waits_for(world(edge, first), edge, LATER).startswith("when edge.n1 ")
    once = service("edge", replicas=None, spec=build.template(condition="none"))
    failure = service_progress(world(once, failed), once.id, LATER).failure
    assert failure.startswith("edge.n1 failed: exit code 3")


def test_attempts_within_a_window_are_counted() -> None:
    spec = build.template(max_attempts=3, window=2 * MINUTE)
    last = replace(
        ended(restarts=7, exit_code=3), restarted_at=(Instant(NOW - 100), Instant(NOW + 1))
    )
    state = world(service("web", spec=spec), last)
    assert (
        "restart policy: condition any, delay 5.0 s;"
        " 2 of 3 attempts within 2m0s were used before it"
    ) in why(state, "web.1", LATER)


def test_a_stopped_service_says_how_to_start_it() -> None:
    web = service("web", replicas=2)
    web = replace(web, spec=replace(web.spec, stopped=True))
    state = world(web, task("web.1", node="n1", state=SHUTDOWN, desired=SHUTDOWN))
    lines = why(state, "web", LATER)
    assert lines[1:] == ["it is stopped: start it with `pyswarm service start web`"]


def test_a_container_is_named_as_such_and_started_again_by_its_own_verbs() -> None:
    db = replace(service("db"), updated_by=Author(name="root"), updated_at=NOW)
    policy = RestartPolicy(condition=RestartCondition.NONE)
    template = replace(db.spec.task_template, restart_policy=policy)
    spec = replace(db.spec, mode=ContainerMode(), task_template=template)
    db = replace(db, spec=spec)
    lines = why(world(db, ended("db.1", exit_code=3)), "db", LATER)
    assert lines[:2] == [
        "container db has 0 running tasks, 1 desired",
        "container db was created by root about a minute ago",
    ]
    assert "remedy: see what it wrote: pyswarm logs db" in lines
    assert "remedy: start it again: pyswarm start db" in lines
    assert not any("pyswarm service" in line for line in lines)
    stopped = replace(db, spec=replace(spec, stopped=True))
    assert "it is stopped: start it with `pyswarm start db`" in why(world(stopped), "db", LATER)


def test_refused_limits_say_that_the_task_is_replaced() -> None:
    web = replace(service("web", spec=limited(16), version=3), in_place_version=3)
    told = "cannot change the memory limit to 16MiB: 40MiB are in use"
    refused = TaskDetail(serving=True, in_place_version=3, in_place_error=told)
    state = world(web, task("web.1", node="n1", detail=refused))
    assert why(state, "web", LATER)[-1] == f"it waits to be replaced: {told}"
    awaiting = world(web, task("web.1", node="n1"))
    lines = why(awaiting, "web.1", LATER)
    assert lines[-1] == "its agent is changing its limits to those of version 3"


def test_a_paused_update_names_the_failed_task_and_both_ways_on() -> None:
    paused = updated(
        service("web", replicas=3, version=2, template_version=2),
        UpdateState.PAUSED,
        message="update paused due to failure or early termination of task web.1",
        failures=1,
    )
    state = world(paused, ended(version=2, exit_code=1), task("web.2", node="n1"))
    assert why(state, "web", LATER)[:5] == [
        "service web has 1 running task, 3 desired",
        "the update to version 2 began 1m30s ago: 1 of 3 tasks is to be replaced, 1 failed",
        "update paused due to failure or early termination of task web.1",
        "web.1: it failed on n1 30.0 s ago: exit code 1",
        "remedy: return to version 1: pyswarm service rollback web",
    ]
    assert why(state, "web", LATER)[5] == "remedy: go on as it is: pyswarm service update web"
    assert "remedy: return to the spec of before: pyswarm service rollback web" in why(
        state, "web.1", LATER
    )


def waiting(now: int, *tasks: Task, **settings: object) -> str:
    web = service("web", replicas=3, version=2, template_version=2)
    spec = replace(web.spec, update_config=replace(UpdateConfig(), **settings))
    web = updated(replace(web, spec=spec, version=Version(2)))
    return waits_for(world(web, *tasks), web, Instant(NOW + now))


def test_an_update_says_what_it_waits_for() -> None:
    old, new = task("web.1", node="n1"), task("web.2", node="n2", version=2)
    stopping = replace(old, desired_state=SHUTDOWN)
    failing = TaskDetail(message="starting: health check failed: 503")
    begun = replace(new, state=STARTING, detail=failing)
    assert waiting(0, stopping, new) == "when web.1 (running) has stopped"
    assert waiting(0, old, begun) == "when web.2 (starting: health check failed: 503) serves"
    many = [replace(begun, id=f"t{slot}", slot=slot, detail=TaskDetail()) for slot in range(2, 7)]
    assert waiting(0, old, *many) == (
        "when web.2 (starting) serves, web.3 (starting) serves, web.4 (starting) serves"
        " and others do"
    )


def test_an_update_waits_for_its_delay_and_then_for_the_monitored_time() -> None:
    old, new = task("web.1", node="n1"), task("web.2", node="n2", version=2)
    assert waiting(3 * SECOND, old, new, delay=10 * SECOND) == "in 7.0 s (its delay)"
    assert waiting(11 * SECOND, old, new, delay=10 * SECOND) == ""
    assert waiting(3 * SECOND, new) == "in 2.0 s: until then the new tasks are monitored"
    assert waiting(6 * SECOND, new) == ""


def test_an_update_that_waits_for_nothing_else_names_the_new_task_of_a_failed_slot() -> None:
    old, new = task("web.1", node="n1"), task("web.2", node="n2", version=2)
    told = TaskDetail(message="no suitable node: 2 of 2 nodes lack memory")
    again = task("web.1", task_id="again", state=TaskState.PENDING, version=2, restarts=1)
    again = replace(again, detail=told)
    # The outdated task beside it delays nothing.
    assert (
        waiting(3 * SECOND, old, new, again) == "in 2.0 s: until then the new tasks are monitored"
    )
    assert waiting(6 * SECOND, old, new, again) == f"when web.1 ({told.message}) serves"
    late = replace(again, node_id=old.node_id, state=TaskState.RUNNING, failed_update=True)
    assert waiting(6 * SECOND, old, new, late) == f"when web.1 ({told.message}) serves"
    served = replace(late, detail=TaskDetail(serving=True))
    assert waiting(6 * SECOND, old, new, served) == ""


def test_a_task_that_was_restarted_says_why_the_one_before_it_ended() -> None:
    before = replace(ended(restarts=3, exit_code=3), consecutive_restarts=3)
    again = task(
        "web.1",
        task_id="next",
        node="n1",
        state=TaskState.READY,
        desired=TaskState.READY,
        restarts=4,
        created=NOW + 60 * SECOND,
        at=NOW + 60 * SECOND,
    )
    again = replace(again, consecutive_restarts=4)
    state = world(service("web"), replace(before, desired_state=SHUTDOWN), again)
    assert why(state, "web", Instant(NOW + 62 * SECOND))[1:] == [
        "task web.1 is ready, desired ready",
        "it was created 2.0 s ago from version 1, as restart 4 of its slot",
        "it is on n1, ready for 2.0 s",
        "it waits for the restart delay: starts in 3.0 s",
        "the task before it: it failed on n1 2.0 s ago: exit code 3",
        "web.1 is in a crash loop: 4 failures in a row",
        "remedy: see what it wrote: pyswarm service logs web.1",
    ]
    serving = replace(again, state=TaskState.RUNNING, desired_state=TaskState.RUNNING)
    serving = replace(serving, detail=TaskDetail(serving=True))
    state = world(service("web"), replace(before, desired_state=SHUTDOWN), serving)
    assert not [line for line in why(state, "next", LATER) if "before it" in line]


def test_an_update_of_limits_alone_does_not_wait_for_tasks_that_do_not_serve() -> None:
    web = service("web", spec=limited(64), version=2)
    web = updated(replace(web, in_place_version=2), to_version=2, slots=1)
    mute = task("web.1", node="n1", detail=TaskDetail(pid=7))
    assert waits_for(world(web, mute), web, LATER) == "when web.1 has its new limits"
    assert why(world(web, mute), "web", LATER)[1] == (
        "the update to version 2 began 1m30s ago: 1 task has yet to get new limits"
    )
    changed = replace(mute, detail=TaskDetail(pid=7, in_place_version=2))
    assert waits_for(world(web, changed), web, LATER) == ""


def test_inspect_says_what_an_update_that_goes_on_waits_for() -> None:
    web = updated(service("web", replicas=2, version=2, template_version=2), message="in progress")
    state = world(web, task("web.1", node="n1", state=STARTING, version=2), task("web.2"))
    shown = with_message(state, web, LATER)
    assert shown.update_status is not None
    assert shown.update_status.message == "in progress; it continues when web.1 (starting) serves"
    assert replace(shown, update_status=web.update_status) == web
    for settled in (service("web"), updated(web, UpdateState.PAUSED)):
        assert with_message(world(settled), settled, LATER) is settled


def test_a_rollback_names_the_task_for_which_the_update_was_rolled_back() -> None:
    web = service("web", replicas=2, version=3, template_version=3)
    failed = replace(ended(version=2, error="unhealthy: 503"), desired_state=SHUTDOWN)
    cause = "update rolled back due to failure or early termination of task web.1"
    goes_on = updated(web, UpdateState.ROLLBACK_STARTED, to_version=3, slots=1, message=cause)
    state = world(goes_on, failed, task("web.2", node="n1", version=3))
    told = "it failed on n1 30.0 s ago: unhealthy: 503"
    lines = why(state, "web", LATER)
    assert lines[2:4] == [cause, f"web.1: {told}"]
    assert not [line for line in lines if "service rollback" in line]
    done = updated(
        web, UpdateState.ROLLBACK_COMPLETED, to_version=3, completed_at=NOW + 80 * SECOND
    )
    state = world(done, failed, task("web.2", node="n1", version=3))
    assert why(state, "web", LATER)[1:3] == [
        "it was rolled back to the spec of version 1 10.0 s ago",
        f"web.1, of version 2: {told}",
    ]


def test_a_failed_task_is_found_in_a_message_that_goes_on() -> None:
    cause = "update paused due to failure or early termination of task web.1"
    web = service("web", replicas=2, version=2, template_version=2)
    web = updated(
        web, UpdateState.PAUSED, message=f"{cause}: it cannot be rolled back: no such network"
    )
    lines = why(world(web, ended(version=2, exit_code=1)), "web", LATER)
    assert "web.1: it failed on n1 30.0 s ago: exit code 1" in lines


def test_an_update_names_the_node_that_can_start_no_task() -> None:
    web = updated(service("web", replicas=None, version=2, template_version=2))
    hosts = [
        node("n1"),
        node("n2", availability=Availability.PAUSE),
        node("n3", state=NodeState.DISCONNECTED),
    ]
    old = [task("web.2", node="n2"), task("web.3", node="n3")]
    new = task("web.1", node="n1", version=2)
    state = build.state(nodes=hosts, services=[web], tasks=[new, *old])
    assert waits_for(state, web, LATER) == "when node n3 can start tasks"


def test_the_outdated_task_of_a_paused_node_says_what_it_waits_for() -> None:
    web = updated(
        service("web", replicas=None, version=2, template_version=2), UpdateState.COMPLETED
    )
    paused = node("n1", availability=Availability.PAUSE)
    state = build.state(nodes=[paused], services=[web], tasks=[task("web.1", node="n1")])
    assert why(state, "web.1", LATER)[-3:] == [
        "it is outdated and waits to be replaced",
        "its node is paused: an update of a global service leaves it on n1",
        "remedy: pyswarm node update --availability active n1",
    ]
