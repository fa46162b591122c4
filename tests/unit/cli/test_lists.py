"""Lists and documents: Docker's columns and keys, letter for letter."""

import json

import pytest
from msgspec.structs import replace

from pyswarm_core.api.v1 import control_pb2 as pb
from pyswarm_core.clock import MINUTE, SECOND
from pyswarm_core.codec import to_proto
from pyswarm_core.docker.objects import of_node
from pyswarm_core.ids import NetworkId, NodeId, TaskId
from pyswarm_core.kinds import encode
from pyswarm_core.objects import Cluster, Network, Task, UpdateStatus
from pyswarm_core.specs import ContainerSpec as Container
from pyswarm_core.specs import (
    HealthConfig,
    NetworkSpec,
    Placement,
    RestartPolicy,
    TaskSpec,
    UpdateConfig,
)
from pyswarm_core.states import TaskState, UpdateState
from tests.unit.cli.conftest import Pyswarm
from tests.unit.cli.golden import assert_golden
from tests.unit.cli.objects import (
    CREATED,
    NODE_ID,
    NOW,
    SERVICE_ID,
    network_reply,
    node_view,
    service,
    service_reply,
    services_reply,
    tasks_reply,
)
from tests.unit.cli.scripted import Script

PLACED = TaskSpec(
    container_spec=Container(image="team/db:2@sha256:" + "b" * 64),
    placement=Placement(
        constraints=("node.role==worker",), preferences=("node.labels.zone",), max_replicas=2
    ),
)


CHECKED = Container(
    image="web:1",
    healthcheck=HealthConfig(
        test=("CMD-SHELL", "curl -f localhost"), interval=10 * SECOND, retries=5
    ),
    readiness=HealthConfig(test=("HTTP", "8080/ready"), timeout=SECOND),
)
UPDATED = replace(
    service(
        task_template=TaskSpec(
            container_spec=CHECKED,
            restart_policy=RestartPolicy(window=MINUTE, max_delay=5 * MINUTE),
        ),
        update_config=UpdateConfig(delay=10 * SECOND, max_failure_ratio=0.25),
    ),
    update_status=UpdateStatus(
        state=UpdateState.PAUSED,
        started_at=CREATED,
        message="update paused due to failure or early termination of task t1",
        from_version=1,
        to_version=2,
        slots=3,
        failures=1,
    ),
)


@pytest.fixture(autouse=True)
def _steady_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pyswarm_core.aio.system.SystemClock.now", lambda _: NOW)


@pytest.fixture
def fleet(script: Script) -> Script:
    """A small fleet that answers everything that only reads."""
    db = service("db", task_template=PLACED, labels={"tier": "back"})
    network = Network(
        id=NetworkId("w" * 25), spec=NetworkSpec(name="app"), subnet="10.128.0.0/16", vni=4096,
        created_at=CREATED, updated_at=CREATED,
    )  # fmt: skip
    networks = pb.ListObjectsReply(objects=[pb.EncodedObject(value=encode(network))])
    images = pb.ListImagesReply()
    node = images.nodes.add(node_name="host1")
    node.images.add(
        id="c" * 64,
        names=["docker.io/library/web:1", "192.0.2.9:5000/team/web:1"],
        size_bytes=4_270_000,
        created="2023-11-14T22:13:20Z",
    )
    info = pb.GetInfoReply(
        controller="host1", leader="192.0.2.1:2377", version="0.1.0", nodes=3, nodes_ready=2,
        services=1, tasks=5, tasks_running=4, store="etcd", revision=9, join_addr="192.0.2.1:2377",
        nodes_disconnected=1, nodes_held=1, down_per_minute=3, nodes_filtered=2,
    )  # fmt: skip
    to_proto(Cluster(id="c" * 25), info.cluster)
    return (
        script.on("ListServices", services_reply(service(), db))
        .on("ListTasks", tasks_reply())
        .on("ListNodes", pb.ListNodesReply(nodes=[node_view(leader=True), node_view("host2")]))
        .on("GetNode", pb.NodeReply(node=node_view()))
        .on("GetService", service_reply(db))
        .on("ListObjects", networks)
        .on("GetNetwork", network_reply(network))
        .on("ListImages", images)
        .on("GetInfo", info)
        .on("GetJoinToken", pb.JoinTokenReply(token="SECRET"))
    )


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("service_ls", "service ls"),
        ("service_ps", "service ps web"),
        ("service_ps_no_trunc", "service ps --no-trunc web"),
        ("service_inspect", "service inspect db"),
        ("service_inspect_pretty", "service inspect --pretty db"),
        ("task_inspect", "task inspect web.1"),
        ("node_ls", "node ls"),
        ("node_inspect", "node inspect host1"),
        ("node_inspect_pretty", "node inspect --pretty self"),
        ("network_ls", "network ls"),
        ("network_inspect", "network inspect app"),
        ("image_ls", "image ls"),
        ("swarm_info", "swarm info"),
    ],
)
def test_output_is_as_docker_users_know_it(
    name: str, line: str, fleet: Script, pyswarm: Pyswarm
) -> None:
    ran = pyswarm(*line.split())
    assert (ran.code, ran.err) == (0, "")
    assert_golden(name, ran.out)


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        (["service", "ls", "-q"], "0123456789abcdefghijklmno\n0123456789abcdefghijklmno\n"),
        (["service", "ls", "--format", "{{.Name}} {{.Replicas}}"],
         "web 2/3\ndb 2/3 (max 2 per node)\n"),
        (["service", "ls", "--format", "table {{.Name}}\\t{{.Mode}}"],
         "NAME      MODE\nweb       replicated\ndb        replicated\n"),
        (["service", "inspect", "db", "-f", "{{.Spec.Name}} {{.Spec.Labels.tier}}"], "db back\n"),
        (["service", "inspect", "db", "-f", "{{json .Spec.TaskTemplate.Placement.Constraints}}"],
         '["node.role==worker"]\n'),
        (["node", "ls", "--format", "{{.Hostname}} {{.Self}}"], "host1 true\nhost2 false\n"),
        (["node", "inspect", "host1", "--format", "{{.Status.State}}"], "ready\n"),
        (["task", "inspect", "web.1", "--format", "{{.Status.ContainerStatus.ExitCode}}"], "1\n"),
        (["swarm", "info", "--format", "{{.NodesReady}}/{{.Nodes}}"], "2/3\n"),
        (["swarm", "join-token", "-q", "worker"], "SECRET\n"),
        (["network", "ls", "-q"], "wwwwwwwwwwww\n"),
        (["image", "ls", "-q"], "cccccccccccc\n"),
    ],
)  # fmt: skip
def test_formats_of_lists_and_documents(
    line: list[str], shown: str, fleet: Script, pyswarm: Pyswarm
) -> None:
    ran = pyswarm(*line)
    assert (ran.code, ran.out, ran.err) == (0, shown, "")


def test_json_lists_are_one_object_a_line(fleet: Script, pyswarm: Pyswarm) -> None:
    lines = pyswarm("service", "ls", "--format", "json").out.splitlines()
    assert [json.loads(line)["Name"] for line in lines] == ["web", "db"]


def test_inspect_shows_checks_updates_and_their_status(script: Script, pyswarm: Pyswarm) -> None:
    script.on("GetService", service_reply(UPDATED))
    for name, flags in (
        ("service_inspect_update", []),
        ("service_inspect_update_pretty", ["--pretty"]),
    ):
        ran = pyswarm("service", "inspect", *flags, "web")
        assert (ran.code, ran.err) == (0, "")
        assert_golden(name, ran.out)
    ran = pyswarm("service", "inspect", "web", "-f", "{{.UpdateStatus.State}}")
    assert ran.out == "paused\n"


def test_tasks_show_their_health_and_why_they_are_not_ready(
    script: Script, pyswarm: Pyswarm
) -> None:
    reply = tasks_reply()
    view = reply.tasks[1]
    script.on("ListTasks", reply)
    shown = []
    for state, health, message in (
        (TaskState.STARTING, "starting", "started"),
        (TaskState.RUNNING, "healthy", "not ready: exit code 1"),
        (TaskState.RUNNING, "unhealthy", "running"),
        (TaskState.FAILED, "unhealthy", ""),
        (TaskState.RUNNING, "", ""),
    ):
        view.task.state = state.value  # type: ignore[assignment]
        view.task.detail.health = health
        view.task.detail.message = message
        ran = pyswarm(
            "service", "ps", "web", "--format", "{{.CurrentState}}|{{.Error}}|{{.Health}}"
        )
        shown.append(ran.out.splitlines()[0])
    assert shown == [
        "Starting 2 minutes ago (health: starting)||starting",
        'Running 2 minutes ago (healthy)|"not ready: exit code 1"|healthy',
        "Running 2 minutes ago (unhealthy)||unhealthy",
        "Failed 2 minutes ago||unhealthy",
        "Running 2 minutes ago||",
    ]


def test_a_slot_lists_the_task_that_is_to_run_then_frozen_ones_then_the_others(
    script: Script, pyswarm: Pyswarm
) -> None:
    reply, template = pb.ListTasksReply(), tasks_reply().tasks[1]
    running = Task(TaskId("a" * 25), SERVICE_ID, 1, 1, CREATED, state=TaskState.RUNNING)
    others = [
        replace(running, id=TaskId(name * 25), desired_state=desired, created_at=created)
        for name, desired, created in (
            ("b", TaskState.SHUTDOWN, NOW),
            ("c", TaskState.FROZEN, CREATED),
            ("d", TaskState.FROZEN, NOW),
        )
    ]
    for one in (*others, running):
        reply.tasks.add().CopyFrom(template)
        to_proto(one, reply.tasks[-1].task)
    script.on("ListTasks", reply)
    ran = pyswarm("service", "ps", "web", "--format", "{{.ID}} {{.DesiredState}}")
    assert [line[0] + line[12:] for line in ran.out.splitlines()] == [
        "a Running",
        "d Frozen",
        "c Frozen",
        "b Shutdown",
    ]


def test_a_stopped_service_keeps_its_number_of_replicas(script: Script, pyswarm: Pyswarm) -> None:
    reply = services_reply(service(replicas=3, stopped=True), running=0)
    reply.services[0].desired = 0
    script.on("ListServices", reply)
    assert pyswarm("service", "ls", "--format", "{{.Replicas}}").out == "0/3 (stopped)\n"


def test_misspelt_placeholder_is_found_in_an_empty_list(script: Script, pyswarm: Pyswarm) -> None:
    script.on("ListServices", services_reply())
    ran = pyswarm("service", "ls", "--format", "{{.Nmae}}")
    assert ran.code == 2
    assert ".Name" in ran.err


def test_filters_are_the_controllers_to_judge(fleet: Script, pyswarm: Pyswarm) -> None:
    pyswarm("service", "ls", "-f", "name=web", "--filter", "label=a=b")
    assert list(fleet.requests("ListServices")[0].filters) == ["name=web", "label=a=b"]


def test_inspect_shows_what_it_found_and_names_what_it_did_not(
    script: Script, pyswarm: Pyswarm
) -> None:
    from pyswarm_core.errors import NotFound

    script.on("GetService", service_reply(), NotFound("no such service: 'db'"))
    ran = pyswarm("service", "inspect", "web", "db")
    assert ran.code == 1
    assert [found["Spec"]["Name"] for found in json.loads(ran.out)] == ["web"]
    assert ran.err == "Error: no such service: 'db'\n"


def test_tokens_are_not_shown_by_info(fleet: Script, pyswarm: Pyswarm) -> None:
    assert "SECRET" not in pyswarm("swarm", "info", "--format", "json").out


def test_self_is_the_node_that_answers(fleet: Script, pyswarm: Pyswarm) -> None:
    assert pyswarm("node", "inspect", "self", "-f", "{{.ManagerStatus.Leader}}").out == "true\n"
    assert fleet.requests("GetNode") == []


def test_node_document_tells_what_is_reserved() -> None:
    from pyswarm_core.codec import from_proto
    from pyswarm_core.views import NodeView

    assert of_node(from_proto(NodeView, node_view()))["Reserved"] == {
        "NanoCPUs": 500_000_000,
        "MemoryBytes": 1 << 30,
        "GenericResources": [],
    }


def test_replicas_that_have_no_task_yet_are_told_beside_the_table(
    fleet: Script, pyswarm: Pyswarm
) -> None:
    waiting, summaries = pb.ListTasksReply(), services_reply(service(replicas=50))
    view = tasks_reply().tasks[0]
    pending = Task(TaskId("t" * 25), SERVICE_ID, 1, 1, NOW, NodeId(""), state=TaskState.PENDING)
    to_proto(pending, view.task)
    waiting.tasks.append(view)
    summaries.services[0].unlisted = 30
    fleet.on("ListTasks", waiting).on("ListServices", summaries)
    ran = pyswarm("service", "ps", "web")
    assert ran.code == 0
    assert ran.err == "web: 30 more replicas wait for a node; see `pyswarm why web`\n"
    assert pyswarm("service", "ps", "--quiet", "web").err == ""
    assert list(fleet.requests("ListServices")[-1].filters) == [f"id={view.task.service_id}"]


def test_ids_of_a_task_are_those_of_its_service_and_place(fleet: Script, pyswarm: Pyswarm) -> None:
    for place in ("1", NODE_ID):
        reply = tasks_reply()
        for view in reply.tasks:
            view.name = f"web.{place}"
        fleet.on("ListTasks", reply)
        ran = pyswarm("service", "ps", "--no-resolve", "--format", "{{.Name}}", "web")
        assert set(ran.out.split()) == {f"{SERVICE_ID}.{place}"}
