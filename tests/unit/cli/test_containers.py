"""`ps`, and the verbs that start, stop, rename, remove and inspect containers."""

from collections.abc import Callable

import pytest
from google.protobuf.message import Message
from msgspec.structs import replace

from pyswarm_core.api.v1 import containers_pb2 as cp
from pyswarm_core.api.v1 import control_pb2 as pb
from pyswarm_core.clock import MINUTE, SECOND, Instant
from pyswarm_core.codec import from_proto, to_proto
from pyswarm_core.docker.containers.views import ContainerState, ContainerView
from pyswarm_core.errors import AlreadyExists, NotFound, Unavailable
from pyswarm_core.ids import NetworkId, TaskId
from pyswarm_core.objects import (
    Endpoint,
    HealthState,
    Service,
    Task,
    TaskAddress,
    TaskDetail,
)
from pyswarm_core.specs import (
    ContainerMode,
    ContainerSpec,
    Limits,
    NetworkAttachment,
    PortConfig,
    Resources,
    RestartCondition,
    RestartPolicy,
    ServiceSpec,
    TaskSpec,
)
from pyswarm_core.states import TaskState
from tests.unit.cli.conftest import Pyswarm
from tests.unit.cli.golden import assert_golden
from tests.unit.cli.objects import (
    CREATED,
    NODE_ID,
    NOW,
    SERVICE_ID,
    progress,
    service,
    service_reply,
    tasks_reply,
)
from tests.unit.cli.scripted import Script

NET = "n" * 24 + "e"
VIEW = ContainerView(
    id=SERVICE_ID,
    name="db",
    image="postgres:15@sha256:" + "a" * 64,
    command=("postgres", "-c", "shared_buffers=1GB"),
    created_at=CREATED,
    state=ContainerState.RUNNING,
    since=CREATED,
    health=HealthState.HEALTHY,
    ports=(PortConfig(target_port=80, published_port=8080),),
    networks=("app",),
    labels={"b": "2", "a": "1"},
    node_name="host1",
    service_id=SERVICE_ID,
)


def container(*, stopped: bool = False, name: str = "db", **mode: bool) -> Service:
    template = TaskSpec(
        container_spec=ContainerSpec(
            image="postgres:15", args=("postgres", "-c", "a=b"), env=("A=1",), labels={"a": "1"}
        ),
        resources=Resources(limits=Limits(memory_bytes=1 << 30, nano_cpus=1_500_000_000)),
        restart_policy=RestartPolicy(
            condition=RestartCondition.NONE
            if mode.get("auto_remove")
            else RestartCondition.ON_FAILURE
        ),
        networks=(NetworkAttachment(target=NET, aliases=("sql",)),),
    )
    ports = (PortConfig(target_port=80, published_port=8080),)
    made = service(name, mode=ContainerMode(**mode), stopped=stopped, task_template=template)
    return replace(made, endpoint=Endpoint(ports=ports))


def reply(found: Service | None = None, state: TaskState | None = TaskState.RUNNING) -> Message:
    """What GetContainer answers: the container, with a task in that state."""
    found = found or container()
    answer = pb.ContainerReply(networks={NET: "app"})
    to_proto(found, answer.service)
    if state is not None:
        detail = TaskDetail(
            pid=77, exit_code=3 if state > TaskState.RUNNING else 0, ran=SECOND,
            addresses=(TaskAddress(network_id=NetworkId(NET), address="10.128.0.2"),),
        )  # fmt: skip
        task = Task(TaskId("t" * 25), SERVICE_ID, 1, 3, CREATED, NODE_ID, state=state,
                    status_at=Instant(CREATED + MINUTE), detail=detail)  # fmt: skip
        answer.task.name, answer.task.node_name = "db", "host1"
        to_proto(task, answer.task.task)
        to_proto(found.spec.task_template, answer.task.spec)
    return answer


def of_a_task(state: TaskState = TaskState.RUNNING) -> pb.ContainerReply:
    """What GetContainer answers to `web.1`."""
    answer = pb.ContainerReply()
    to_proto(service(), answer.service)
    view = tasks_reply().tasks[1]
    view.task.state = state.value  # type: ignore[assignment]
    answer.task.CopyFrom(view)
    return answer


@pytest.fixture
def fleet(script: Script, monkeypatch: pytest.MonkeyPatch) -> Script:
    monkeypatch.setattr("pyswarm_core.aio.system.SystemClock.now", lambda _: NOW)
    return answer_for(script)


def answer_for(script: Script) -> Script:
    """Answers about one container."""
    answer = pb.NetworkReply()
    script.on("GetContainer", reply()).on("GetService", service_reply(container()))
    script.on("UpdateService", service_reply(container())).on(
        "RemoveService", service_reply(container())
    )
    script.on("GetNetwork", answer).on("TaskChecks", pb.WhyReply())
    script.on("SignalTask", pb.SignalTaskReply()).on("RestartTask", tasks_reply().tasks[1])
    gone = pb.ServiceProgress(gone=True, converged=True)
    return script.on("WatchService", [gone])


def listed(*views: ContainerView) -> cp.ListContainersReply:
    found = cp.ListContainersReply()
    for view in views:
        to_proto(view, found.containers.add())
    return found


def updates(fleet: Script) -> list[ServiceSpec]:
    return [from_proto(ServiceSpec, one.spec) for one in fleet.requests("UpdateService")]


@pytest.mark.parametrize(("name", "flags"), [("ps", ""), ("ps_no_trunc", "--no-trunc")])
def test_ps(name: str, flags: str, fleet: Script, pyswarm: Pyswarm) -> None:
    replica = replace(
        VIEW, id="t" * 25, name="web.1." + "t" * 25, command=(), ports=(), service_name="web",
        state=ContainerState.EXITED, exit_code=3, image="web:1",
    )  # fmt: skip
    fleet.on("ListContainers", listed(VIEW, replica))
    for verb in (("ps",), ("container", "ls")):
        ran = pyswarm(*verb, *flags.split())
        assert (ran.code, ran.err) == (0, "")
        assert_golden(name, ran.out)
    assert pyswarm("ps", "-q").out == f"{SERVICE_ID[:12]}\n{'t' * 12}\n"
    assert pyswarm("ps", "--format", "{{.Names}}|{{.Labels}}|{{.Node}}").out.splitlines()[0] == (
        "db|a=1,b=2|host1"
    )


@pytest.mark.parametrize(
    ("rw", "whole", "shown"),
    [(1_090, 4_271_090, "1.09kB (virtual 4.27MB)"), (0, 0, "0B"), (-1, -1, "N/A")],
)
def test_sizes_are_shown_in_dockers_words(
    rw: int, whole: int, shown: str, fleet: Script, pyswarm: Pyswarm
) -> None:
    answer = listed(replace(VIEW, size_rw=rw, size_root_fs=whole))
    answer.warnings.append("sizes of node host2 are missing: it is down")
    fleet.on("ListContainers", answer)
    for flags in (("-s",), ("--size",), ("--format", "{{.Size}}")):
        ran = pyswarm("ps", *flags)
        assert (ran.code, ran.out.splitlines()[-1].endswith(shown)) == (0, True)
        assert ran.err == "warning: sizes of node host2 are missing: it is down\n"
    assert all(one.size for one in fleet.requests("ListContainers"))
    for line in ("", "-qs", "--format {{.Names}}"):
        pyswarm("ps", *line.split())
        assert not fleet.requests("ListContainers")[-1].size


def test_a_format_that_is_not_valid_measures_nothing(fleet: Script, pyswarm: Pyswarm) -> None:
    assert pyswarm("ps", "--size", "--format", "{{.Nosuch}}").code == 2
    assert fleet.asked == []


def test_control_characters_of_commands_are_escaped(fleet: Script, pyswarm: Pyswarm) -> None:
    fleet.on("ListContainers", listed(replace(VIEW, command=("sh", "\x1b[2J"))))
    assert pyswarm("ps", "--format", "{{.Command}}").out == '"sh \\x1b[2J"\n'


STATUS = {
    (ContainerState.RUNNING, HealthState.NONE): "Up 2 minutes",
    (ContainerState.RUNNING, HealthState.HEALTHY): "Up 2 minutes (healthy)",
    (ContainerState.RUNNING, HealthState.STARTING): "Up 2 minutes (health: starting)",
    (ContainerState.PAUSED, HealthState.NONE): "Up 2 minutes (Paused)",
    (ContainerState.EXITED, HealthState.HEALTHY): "Exited (3) 2 minutes ago",
    (ContainerState.RESTARTING, HealthState.NONE): "Restarting (3) 2 minutes ago",
    (ContainerState.CREATED, HealthState.NONE): "Created",
    (ContainerState.REMOVING, HealthState.NONE): "Removal In Progress",
    (ContainerState.DEAD, HealthState.NONE): "Dead",
}


@pytest.mark.parametrize(("state", "health"), STATUS)
def test_the_status_has_dockers_words(
    state: ContainerState, health: HealthState, fleet: Script, pyswarm: Pyswarm
) -> None:
    fleet.on("ListContainers", listed(replace(VIEW, state=state, health=health, exit_code=3)))
    shown = pyswarm("ps", "--format", "{{.Status}}").out
    assert shown == f"{STATUS[state, health]}\n"


@pytest.mark.parametrize(
    ("flags", "every", "last"),
    [("", False, 0), ("-a", True, 0), ("-l", False, 1), ("-n 5", False, 5), ("-n -1", False, 0)],
)
def test_ps_asks_the_controller(
    flags: str, every: bool, last: int, fleet: Script, pyswarm: Pyswarm
) -> None:
    fleet.on("ListContainers", listed())
    pyswarm("ps", *flags.split(), "-f", "status=exited", "--filter", "node=host1")
    (asked,) = fleet.requests("ListContainers")
    assert (asked.all, asked.last, list(asked.filters)) == (
        every,
        last,
        ["status=exited", "node=host1"],
    )


@pytest.mark.parametrize("verb", ["start", "stop", "restart", "rm", "inspect", "logs"])
def test_what_does_not_exist_is_named_as_docker_names_it(
    verb: str, fleet: Script, pyswarm: Pyswarm
) -> None:
    fleet.on("GetContainer", NotFound("No such container: nothing"))
    fleet.on("Logs", NotFound("No such container: nothing"))
    kinds = ("GetNetwork", "GetNode", "GetService", "ListTasks", "GetObject", "InspectImage")
    for rpc in kinds:
        fleet.on(rpc, NotFound("no such thing"))
    what = "object" if verb == "inspect" else "container"
    ran = pyswarm(verb, "nothing")
    assert ran.code == 1
    assert ran.err.startswith(f"Error: No such {what}: nothing")


def test_several_containers_are_stopped_although_one_does_not_exist(
    fleet: Script, pyswarm: Pyswarm
) -> None:
    fleet.on("GetContainer", reply(), NotFound("No such container: nothing"), reply())
    ran = pyswarm("stop", "db", "nothing", "other")
    assert (ran.code, ran.out) == (1, "db\nother\n")
    assert ran.err == "Error: No such container: nothing\n"
    assert [spec.stopped for spec in updates(fleet)] == [True, True]


def test_a_stop_with_a_signal_and_a_timeout_asks_the_task_first(
    fleet: Script, pyswarm: Pyswarm
) -> None:
    fleet.on("ListTasks", tasks_reply())
    assert pyswarm("stop", "-s", "QUIT", "-t", "3", "db").code == 0
    order = [name for name, _ in fleet.asked if name in ("SignalTask", "UpdateService")]
    assert order == ["SignalTask", "SignalTask", "UpdateService"]
    asked = fleet.requests("SignalTask")[0]
    assert (asked.signal, asked.stop, asked.timeout) == ("QUIT", True, 3 * SECOND)


def test_a_task_of_a_service_is_stopped_alone(fleet: Script, pyswarm: Pyswarm) -> None:
    fleet.on("GetContainer", of_a_task())
    assert pyswarm("stop", "-t", "0", "web.1").out == "web.1\n"
    (asked,) = fleet.requests("SignalTask")
    assert (asked.stop, asked.timeout) == (True, 1)
    assert updates(fleet) == []


@pytest.mark.parametrize("flags", ["-t x", "-t -2", "-s NOW"])
def test_a_wrong_stop_is_refused_at_once(flags: str, fleet: Script, pyswarm: Pyswarm) -> None:
    assert pyswarm("stop", *flags.split(), "db").code == 2
    assert fleet.asked == []


STARTS: dict[str, tuple[Callable[[], Message], list[bool]]] = {
    "a stopped one": (lambda: reply(container(stopped=True)), [False]),
    "one that has ended": (lambda: reply(state=TaskState.COMPLETE), [True, False]),
    "one that runs": (reply, []),
    "a created one": (lambda: reply(container(stopped=True), None), [False]),
}


@pytest.mark.parametrize("case", STARTS)
def test_start(case: str, fleet: Script, pyswarm: Pyswarm) -> None:
    answer, changes = STARTS[case]
    fleet.on("GetContainer", answer()).on("WatchService", [progress(1, 1)])
    fleet.on("GetService", service_reply(container(stopped=case != "one that has ended")))
    assert pyswarm("start", "db").out == "db\n"
    assert [spec.stopped for spec in updates(fleet)] == changes


def test_a_container_that_cannot_start_is_named_with_the_reason(
    fleet: Script, pyswarm: Pyswarm
) -> None:
    fleet.on("GetContainer", reply(container(stopped=True)))
    fleet.on("WatchService", [progress(0, 1, state=TaskState.REJECTED, error="no such image: x")])
    ran = pyswarm("start", "db")
    assert (ran.code, ran.out, ran.err) == (1, "", "Error: db: no such image: x\n")


def test_the_end_of_the_task_before_is_not_that_of_the_start(
    fleet: Script, pyswarm: Pyswarm
) -> None:
    again = replace(container(stopped=True), spec_version=4)
    fleet.on("UpdateService", service_reply(again))
    fleet.on("GetContainer", reply(again, TaskState.REJECTED))
    old = progress(0, 1, state=TaskState.REJECTED, error="the earlier one")
    fleet.on("WatchService", [old, progress(0, 1), progress(1, 1)])
    ran = pyswarm("start", "db")
    assert (ran.code, ran.out, ran.err) == (0, "db\n", "")


def test_an_ended_task_cannot_be_started(fleet: Script, pyswarm: Pyswarm) -> None:
    fleet.on("GetContainer", of_a_task(TaskState.FAILED))
    assert "its slot has a new task" in pyswarm("start", "web.1").err


def test_restart_stops_and_starts_a_container(fleet: Script, pyswarm: Pyswarm) -> None:
    stopped = service_reply(container(stopped=True))
    fleet.on("GetService", service_reply(container()), stopped)
    fleet.on("WatchService", [pb.ServiceProgress(converged=True)], [progress(1, 1)])
    assert pyswarm("restart", "db").out == "db\n"
    assert [spec.stopped for spec in updates(fleet)] == [True, False]


def test_a_container_that_would_remove_itself_is_kept_while_it_restarts(
    fleet: Script, pyswarm: Pyswarm
) -> None:
    service = container(auto_remove=True)
    fleet.on("GetContainer", reply(service)).on("GetService", service_reply(service))
    fleet.on("WatchService", [pb.ServiceProgress(converged=True)], [progress(1, 1)])
    ran = pyswarm("restart", "db")
    assert (ran.out, ran.err) == ("db\n", "")
    first, *_, last = updates(fleet)
    assert (first.mode, last.mode) == (ContainerMode(), ContainerMode(auto_remove=True))


def test_restart_of_a_task_replaces_it(fleet: Script, pyswarm: Pyswarm) -> None:
    fleet.on("GetContainer", of_a_task()).on("GetService", service_reply())
    fleet.on("WatchService", [progress(3, 3)])
    assert pyswarm("restart", "web.1").out == "web.1\n"
    assert len(fleet.requests("RestartTask")) == 1


def test_rm_needs_force_for_what_runs(fleet: Script, pyswarm: Pyswarm) -> None:
    ran = pyswarm("rm", "db")
    assert ran.code == 1
    assert ran.err == (
        'Error: cannot remove container "db": container is running: stop the container before'
        " removing or force remove\n"
    )
    assert pyswarm("rm", "-f", "-v", "db").out == "db\n"
    assert [request.volumes for request in fleet.requests("RemoveService")] == [True]
    fleet.on("GetContainer", reply(state=TaskState.COMPLETE))
    assert pyswarm("rm", "db").out == "db\n"
    assert len(fleet.requests("RemoveService")) == 2


def test_forced_rm_of_what_does_not_exist_is_no_failure(fleet: Script, pyswarm: Pyswarm) -> None:
    fleet.on("GetContainer", NotFound("No such container: nothing"), reply())
    ran = pyswarm("rm", "-f", "nothing", "db")
    assert (ran.code, ran.out, ran.err) == (0, "db\n", "Error: No such container: nothing\n")


def test_wrong_detach_keys_are_refused_before_anything_is_created(
    fleet: Script, pyswarm: Pyswarm
) -> None:
    ran = pyswarm("run", "--detach-keys", "ctrl-", "web")
    assert ran.code == 125
    assert ran.err.startswith("Error: --detach-keys: ")
    assert fleet.asked == []


def test_rm_of_a_service_and_of_a_task(fleet: Script, pyswarm: Pyswarm) -> None:
    whole = pb.ContainerReply()
    to_proto(service(), whole.service)
    fleet.on("GetContainer", whole)
    assert "use --force or `pyswarm service rm`" in pyswarm("rm", "web").err
    assert pyswarm("rm", "-f", "web").out == "web\n"
    fleet.on("GetContainer", of_a_task(), of_a_task(), of_a_task(TaskState.FAILED))
    assert "it is running" in pyswarm("rm", "web.1").err
    assert pyswarm("rm", "-f", "web.1").out == "web.1\n"
    assert "--task-history-limit" in pyswarm("rm", "-f", "web.1").err
    assert len(fleet.requests("RestartTask")) == 1


def test_rename(fleet: Script, pyswarm: Pyswarm) -> None:
    assert pyswarm("rename", "db", "old").code == 0
    assert [spec.name for spec in updates(fleet)] == ["old"]
    assert "same name as its current name" in pyswarm("rename", "db", "db").err
    assert 'NEW_NAME: value "a b" is not valid' in pyswarm("rename", "db", "a b").err
    fleet.on("GetContainer", of_a_task())
    assert "names of services do not change" in pyswarm("rename", "web", "old").err


def test_prune_removes_the_stopped_containers(fleet: Script, pyswarm: Pyswarm) -> None:
    labelled = replace(VIEW, id="c" * 25, service_id="c" * 25, labels={})
    fleet.on("ListContainers", listed(VIEW, labelled))
    ran = pyswarm("container", "prune", "-f", "--filter", "label=a=1", "--filter", "until=1m")
    assert ran.out == f"Deleted Containers:\n{SERVICE_ID}\n\nTotal reclaimed space: 0B\n"
    (asked,) = fleet.requests("ListContainers")
    assert "is-task=false" in asked.filters
    assert "status=exited" in asked.filters
    assert [one.ref for one in fleet.requests("RemoveService")] == [SERVICE_ID]
    assert pyswarm("container", "prune", "-f", "--filter", "x=1").code == 2


def test_a_taken_name_is_refused_in_dockers_words(fleet: Script, pyswarm: Pyswarm) -> None:
    taken = AlreadyExists('service "db" exists already, with the id abc')
    fleet.on("CreateService", taken)
    ran = pyswarm("run", "-d", "--name", "db", "web")
    assert ran.code == 125
    assert 'The container name "db" is already in use by container "abc"' in ran.err


def test_run_detached_prints_the_id_of_what_was_started(fleet: Script, pyswarm: Pyswarm) -> None:
    fleet.on("CreateService", service_reply()).on("WatchService", [progress(1, 1)])
    assert pyswarm("run", "-d", "web").out == f"{SERVICE_ID}\n"


@pytest.mark.parametrize(
    ("reason", "code"),
    [
        ('exec "nope": executable file not found in $PATH', 127),
        ('exec "/etc": permission denied', 126),
        ("sysctl x: permission denied", 125),
    ],
)
def test_run_ends_with_dockers_exit_code(
    reason: str, code: int, fleet: Script, pyswarm: Pyswarm
) -> None:
    rejected = progress(0, 1, state=TaskState.REJECTED, error=reason)
    fleet.on("CreateService", service_reply()).on("WatchService", [rejected])
    ran = pyswarm("run", "-d", "web")
    assert (ran.code, ran.out, ran.err) == (code, "", f"Error: {reason}\n")


def test_a_container_that_removed_itself_is_named_with_the_reason(
    fleet: Script, pyswarm: Pyswarm
) -> None:
    """With --rm it is gone as soon as its task was rejected."""
    rejected = progress(0, 1, state=TaskState.REJECTED, error="no such image: x")
    rejected.gone = True
    fleet.on("CreateService", service_reply()).on("WatchService", [rejected])
    ran = pyswarm("run", "-d", "--rm", "web")
    assert (ran.code, ran.err) == (125, "Error: no such image: x\n")


@pytest.mark.parametrize("flags", [(), ("--restart", "always")])
@pytest.mark.parametrize("reason", ["invalid mount config for type x", "cannot pull web:1 from y"])
def test_a_container_without_its_image_or_binds_is_not_left(
    flags: tuple[str, ...], reason: str, fleet: Script, pyswarm: Pyswarm
) -> None:
    """Docker refuses it before there is one."""
    rejected = progress(0, 1, state=TaskState.REJECTED, error=reason)
    gone = [pb.ServiceProgress(gone=True, converged=True)]
    fleet.on("CreateService", service_reply()).on("WatchService", [rejected], gone)
    ran = pyswarm("run", "-d", *flags, "-v", "/no:/x", "web")
    assert (ran.code, ran.out, ran.err) == (125, "", f"Error: {reason}\n")
    assert [request.ref for request in fleet.requests("RemoveService")] == [SERVICE_ID]


def test_run_without_a_controller_ends_with_125(fleet: Script, pyswarm: Pyswarm) -> None:
    fleet.on("CreateService", Unavailable("no"))
    assert pyswarm("run", "-d", "web").code == 125


def test_an_unknown_node_is_refused_at_once(fleet: Script, pyswarm: Pyswarm) -> None:
    said = 'Error: --node: no such node: "host9": `pyswarm node ls` lists all nodes\n'
    fleet.on("GetNode", NotFound('no such node: "host9"'))
    ran = pyswarm("run", "-d", "--node", "host9", "web")
    assert (ran.code, ran.err) == (125, said)
    assert fleet.requests("CreateService") == []


def test_what_ended_at_once_was_started(fleet: Script, pyswarm: Pyswarm) -> None:
    fleet.on("CreateService", service_reply(container()))
    fleet.on("GetContainer", reply(state=TaskState.COMPLETE))
    fleet.on("WatchService", [pb.ServiceProgress(completed=1, converged=True)])
    assert pyswarm("run", "-d", "web").out == f"{SERVICE_ID}\n"


def test_what_a_start_waits_for_is_told_once(fleet: Script, pyswarm: Pyswarm) -> None:
    waits = progress(0, 1, state=TaskState.PENDING)
    waits.slots[0].message = "no node has 8 CPUs"
    pulls = progress(0, 1)
    pulls.slots[0].message = "pulling: 3 MB of 2 blobs so far"
    fleet.on("CreateService", service_reply(container()))
    moments = [waits, waits, pulls, pulls, progress(1, 1)]
    fleet.on("WatchService", moments)
    ran = pyswarm("run", "-d", "web")
    assert ran.code == 0
    assert ran.err == "db: no node has 8 CPUs\ndb: pulling its image on host1\n"
    assert pyswarm("run", "-d", "--quiet", "web").err == "db: no node has 8 CPUs\n"
