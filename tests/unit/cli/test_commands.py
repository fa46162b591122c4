"""Commands that change the fleet: flags in, requests and progress out."""

import io
import shlex
import threading
from pathlib import Path
from typing import Any

import click
import pytest
from msgspec.structs import replace

from cli.main import COMMANDS, root
from pyswarm_core.api.v1 import control_pb2 as pb
from pyswarm_core.codec import from_proto
from pyswarm_core.errors import Conflict, InvalidArgument, NotFound
from pyswarm_core.specs import (
    ContainerSpec,
    GlobalMode,
    Limits,
    NetworkAttachment,
    Placement,
    ReplicatedMode,
    Reservations,
    Resources,
    RestartCondition,
    RestartPolicy,
    ServiceSpec,
    TaskSpec,
    Ulimit,
)
from pyswarm_core.states import TaskState
from tests.unit.cli.conftest import Pyswarm
from tests.unit.cli.objects import (
    NODE_ID,
    SERVICE_ID,
    network_reply,
    node_view,
    progress,
    service,
    service_reply,
)
from tests.unit.cli.scripted import Script

SECOND = 1_000_000_000


FULL = ServiceSpec(
    name="web",
    labels={"a": "b", "lone": ""},
    mode=ReplicatedMode(replicas=5),
    task_template=TaskSpec(
        container_spec=ContainerSpec(
            image="web:1",
            labels={"c": "d"},
            command=("sh", "-c"),
            args=("serve", "--port=80", "-d"),
            env=("A=flag", "B=file", "OWN=mine", "EMPTY="),
            dir="/srv",
            user="app:app",
            groups=("dialout",),
            hostname="h",
            init=True,
            tty=True,
            read_only=True,
            stop_signal="SIGINT",
            stop_grace_period=90 * SECOND,
            capability_add=("NET_ADMIN",),
            capability_drop=("ALL",),
            sysctls={"net.core.somaxconn": "512"},
            ulimits=(
                Ulimit(name="nofile", soft=64, hard=128),
                Ulimit(name="nproc", soft=10, hard=10),
            ),
            oom_score_adj=-5,
        ),
        resources=Resources(
            limits=Limits(nano_cpus=500_000_000, memory_bytes=64 << 20, pids=100),
            reservations=Reservations(nano_cpus=250_000_000, memory_bytes=32 << 20),
            swap_bytes=1 << 30,
            memory_swappiness=10,
        ),
        restart_policy=RestartPolicy(
            condition=RestartCondition.ON_FAILURE,
            delay=SECOND,
            max_attempts=3,
            window=120 * SECOND,
        ),
        placement=Placement(
            constraints=("node.role==worker",),
            preferences=("node.labels.zone",),
            max_replicas=2,
        ),
        networks=(
            NetworkAttachment(target="app"),
            NetworkAttachment(target="back", aliases=("db", "sql")),
        ),
        allow_fleet_api=True,
    ),
)


@pytest.fixture
def fleet(script: Script) -> Script:
    """Takes every change of a service; it converges at once."""
    for rpc in ("CreateService", "UpdateService", "GetService", "RemoveService"):
        script.on(rpc, service_reply())
    return script.on("WatchService", [progress(3, 3)])


def created(fleet: Script) -> ServiceSpec:
    return from_proto(ServiceSpec, fleet.requests("CreateService")[-1].spec)


def test_every_flag_of_create_reaches_the_spec(
    fleet: Script, pyswarm: Pyswarm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "env").write_text("# a comment\nA=file\nB=file\nOWN\nUNSET_HERE\n\n")
    monkeypatch.setenv("OWN", "mine")
    line = (
        "service create --name web --replicas 5 --replicas-max-per-node 2 --limit-cpu 0.5 "
        "--limit-memory 64M --limit-pids 100 --reserve-cpu .25 --reserve-memory 32m "
        "--memory-swap 1g --memory-swappiness 10 --oom-score-adj -5 --entrypoint 'sh -c' "
        f"--hostname h -w /srv -u app:app --group dialout -t --init --read-only --env-file "
        f"{tmp_path}/env -e A=flag -e EMPTY= --stop-signal SIGINT --stop-grace-period 1m30s "
        "--restart-condition on-failure --restart-delay 1s --restart-max-attempts 3 "
        "--restart-window 2m -l a=b --label lone --container-label c=d --network app "
        "--network name=back,alias=db,alias=sql --constraint node.role==worker "
        "--placement-pref spread=node.labels.zone --cap-add NET_ADMIN --cap-drop ALL "
        "--sysctl net.core.somaxconn=512 --ulimit nofile=64:128 --ulimit nproc=10 "
        "--allow-fleet-api --detach web:1 serve --port=80 -d"
    )
    ran = pyswarm(*shlex.split(line))
    assert (ran.code, ran.out, ran.err) == (0, f"{SERVICE_ID}\n", "")
    assert created(fleet) == FULL


def test_create_without_flags_has_dockers_defaults(fleet: Script, pyswarm: Pyswarm) -> None:
    pyswarm("service", "create", "-d", "web")
    template = TaskSpec(container_spec=ContainerSpec(image="web"))
    assert created(fleet) == ServiceSpec(name="", task_template=template)


def test_create_of_a_global_service(fleet: Script, pyswarm: Pyswarm) -> None:
    pyswarm("service", "create", "-d", "--mode", "global", "web")
    assert created(fleet).mode == GlobalMode()


def test_switches_take_dockers_values(fleet: Script, pyswarm: Pyswarm) -> None:
    pyswarm("service", "create", "--detach=true", "--tty=true", "--init=false", "web", "x=1")
    container = created(fleet).task_template.container_spec
    assert (container.tty, container.init, container.args) == (True, False, ("x=1",))


def test_create_tells_the_id_on_stdout_and_progress_on_stderr(
    fleet: Script, pyswarm: Pyswarm
) -> None:
    why = "no suitable node (insufficient memory on 3 nodes)"
    stuck = progress(1, 3, state=TaskState.PENDING, error=why)
    fleet.on("WatchService", [progress(0, 3), stuck, stuck, progress(3, 3)])
    ran = pyswarm("service", "create", "web")
    assert (ran.code, ran.out) == (0, f"{SERVICE_ID}\n")
    assert ran.err.splitlines() == [
        "overall progress: 0 out of 3 tasks",
        "overall progress: 1 out of 3 tasks",
        f"2 tasks: {why}",
        "overall progress: 3 out of 3 tasks",
        "verify: Service web converged",
    ]


def test_a_wait_outlives_a_broken_connection(fleet: Script, pyswarm: Pyswarm) -> None:
    from pyswarm_core.errors import Unavailable

    fleet.on("WatchService", [progress(1, 3), Unavailable("no leader")], [progress(3, 3)])
    ran = pyswarm("service", "create", "web")
    assert ran.code == 0
    assert ran.err.endswith("verify: Service web converged\n")


def test_interrupted_wait_says_that_the_change_continues(
    fleet: Script, pyswarm: Pyswarm, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("cli.converge._Display.update", interrupted)
    ran = pyswarm("service", "create", "web")
    assert (ran.code, ran.out) == (3, f"{SERVICE_ID}\n")
    assert "the change continues, `pyswarm service ps web`" in ran.err


def test_scale_sends_all_and_shows_the_progress_of_each(fleet: Script, pyswarm: Pyswarm) -> None:
    other = replace(service("db"), id="o" * 25)
    fleet.on("GetService", service_reply(), service_reply(other))
    fleet.on("UpdateService", service_reply(), service_reply(other))
    ran = pyswarm("service", "scale", "web=5", "db=0")
    assert (ran.code, ran.out) == (0, "web scaled to 5\ndb scaled to 0\n")
    sent = fleet.requests("UpdateService")
    assert [request.spec.mode.replicated.replicas for request in sent] == [5, 0]
    assert [request.version.index for request in sent] == [3, 3]
    assert "web: verify: Service web converged" in ran.err
    assert "db: verify: Service db converged" in ran.err


def test_a_change_that_lost_the_race_is_made_again(fleet: Script, pyswarm: Pyswarm) -> None:
    newer = replace(service(), version=type(service().version)(index=4), spec=service("web").spec)
    fleet.on("GetService", service_reply(), service_reply(newer))
    fleet.on("UpdateService", Conflict("update out of sequence"), service_reply(newer))
    assert pyswarm("service", "scale", "-d", "web=5").code == 0
    assert [request.version.index for request in fleet.requests("UpdateService")] == [3, 4]


def test_a_change_that_loses_twice_is_refused(fleet: Script, pyswarm: Pyswarm) -> None:
    fleet.on("UpdateService", Conflict("update out of sequence"))
    ran = pyswarm("service", "scale", "-d", "web=5")
    assert (ran.code, ran.err) == (1, "Error: update out of sequence\n")
    assert len(fleet.requests("UpdateService")) == 2


def test_no_terminal_obeys_an_error(fleet: Script, pyswarm: Pyswarm) -> None:
    fleet.on("UpdateService", InvalidArgument("tar: \x1b]0;owned\x07\u202e: damaged"))
    ran = pyswarm("service", "scale", "-d", "web=5")
    assert ran.err == "Error: tar:  ]0;owned  : damaged\n"


def test_global_services_cannot_be_scaled(fleet: Script, pyswarm: Pyswarm) -> None:
    mode = GlobalMode()
    fleet.on("GetService", service_reply(service(mode=mode)))
    ran = pyswarm("service", "scale", "web=5")
    assert ran.code == 2
    assert "replicated mode" in ran.err


def test_rm_goes_on_behind_one_that_is_not_there(fleet: Script, pyswarm: Pyswarm) -> None:
    fleet.on("RemoveService", NotFound("no such service: 'a'"), service_reply())
    gone = pb.ServiceProgress(gone=True)
    fleet.on("WatchService", [pb.ServiceProgress(alive=2), gone])
    ran = pyswarm("service", "rm", "a", "web")
    assert (ran.code, ran.out) == (1, "web\n")
    assert ran.err.splitlines() == [
        "removing: 2 tasks left",
        "removing: 0 tasks left",
        "Error: no such service: 'a'",
    ]


def test_rm_is_done_when_nobody_knows_the_service_any_more(fleet: Script, pyswarm: Pyswarm) -> None:
    fleet.on("WatchService", [NotFound("no such service")])
    assert pyswarm("service", "rm", "web").code == 0


def update(fleet: Script, pyswarm: Pyswarm, old: TaskSpec, *flags: str) -> ServiceSpec:
    fleet.on("GetService", service_reply(service(task_template=old, labels={"a": "1", "b": "2"})))
    ran = pyswarm("service", "update", "--detach", *flags, "web")
    assert (ran.code, ran.err) == (0, "")
    return from_proto(ServiceSpec, fleet.requests("UpdateService")[-1].spec)


OLD = TaskSpec(
    container_spec=ContainerSpec(
        image="web:1", env=("A=1", "B=2"), args=("x",), capability_add=("NET_ADMIN",)
    ),
    placement=Placement(constraints=("node.role==worker",), preferences=("node.labels.zone",)),
    networks=(NetworkAttachment(target="n1"),),
)


def test_update_edits_lists_in_place(fleet: Script, pyswarm: Pyswarm) -> None:
    spec = update(
        fleet, pyswarm, OLD,
        "--env-add", "A=9", "--env-add", "C=3", "--env-rm", "B",
        "--label-add", "c=3", "--label-rm", "a",
        "--constraint-add", "node.hostname!=host1", "--constraint-rm", "node.role==worker",
        "--placement-pref-rm", "spread=node.labels.zone",
        "--cap-drop", "CAP_NET_ADMIN", "--args", "y 'z z'", "--image", "web:2", "--replicas", "7",
    )  # fmt: skip
    container = spec.task_template.container_spec
    assert container.env == ("A=9", "C=3")
    assert (container.capability_add, container.capability_drop) == ((), ("CAP_NET_ADMIN",))
    assert (container.args, container.image) == (("y", "z z"), "web:2")
    assert spec.labels == {"b": "2", "c": "3"}
    assert spec.task_template.placement == Placement(constraints=("node.hostname!=host1",))
    assert spec.mode == ReplicatedMode(replicas=7)


def test_update_leaves_alone_what_was_not_named(fleet: Script, pyswarm: Pyswarm) -> None:
    spec = update(fleet, pyswarm, OLD, "--limit-memory", "64M")
    limited = replace(OLD, resources=Resources(limits=Limits(memory_bytes=64 << 20)))
    assert spec.task_template == limited


def test_update_force_replaces_tasks_although_nothing_changed(
    fleet: Script, pyswarm: Pyswarm
) -> None:
    assert update(fleet, pyswarm, OLD, "--force").task_template.force_update == 1


def test_update_names_networks_by_id(fleet: Script, pyswarm: Pyswarm) -> None:
    from pyswarm_core.ids import NetworkId
    from pyswarm_core.objects import Network
    from pyswarm_core.specs import NetworkSpec

    def reply(request: Any) -> pb.NetworkReply:
        ids = {"back": "n2", "front": "n1"}
        spec = NetworkSpec(name=request.ref)
        found = Network(id=NetworkId(ids[request.ref]), spec=spec, subnet="", vni=1)
        return network_reply(found)

    fleet.on("GetNetwork", reply)
    spec = update(fleet, pyswarm, OLD, "--network-add", "name=back,alias=db", "--network-rm",
                  "front")  # fmt: skip
    assert spec.task_template.networks == (NetworkAttachment(target="n2", aliases=("db",)),)


def test_node_update_edits_labels_and_availability(script: Script, pyswarm: Pyswarm) -> None:
    reply = pb.NodeReply(node=node_view())
    script.on("GetNode", reply)
    script.on("UpdateNode", pb.NodeReply(node=node_view(), warnings=["container db is stopped"]))
    ran = pyswarm("node", "update", "--availability", "drain", "--label-add", "zone=a", "host1")
    assert (ran.code, ran.out) == (0, "host1\n")
    assert ran.err == "warning: container db is stopped\n"
    sent = script.requests("UpdateNode")[0]
    assert (sent.ref, sent.version.index) == (NODE_ID, 7)
    assert (sent.spec.availability, dict(sent.spec.labels)) == ("drain", {"zone": "a"})


def test_pull_tells_each_nodes_failure_and_fails(script: Script, pyswarm: Pyswarm) -> None:
    script.on(
        "PullImage",
        [
            pb.NodeImageProgress(node_name="host1", done=True),
            pb.NodeImageProgress(node_name="host2", done=True, error="manifest unknown"),
        ],
    )
    ran = pyswarm("image", "pull", "web:1")
    assert ran.code == 1
    assert ran.err.splitlines() == ["host1: done", "Error: host2: manifest unknown"]
    assert script.requests("PullImage")[0].reference == "docker.io/library/web:1"


def test_nodes_that_fail_alike_are_named_before_one_reason(
    script: Script, pyswarm: Pyswarm
) -> None:
    reasons = {"host1": "no such image", "host2": "no space left", "host3": "no such image"}
    failed = [
        pb.NodeImageProgress(node_name=name, done=True, error=reason)
        for name, reason in reasons.items()
    ]
    script.on("PullImage", failed)
    ran = pyswarm("pull", "web:1")
    assert (ran.code, ran.err.splitlines()[-1]) == (
        1,
        "Error: host1, host3: no such image; host2: no space left",
    )


@pytest.mark.parametrize(
    ("typed", "password"),
    [(b"a\rb\xc2\x85c \r\nnext\n", "a\rb\x85c "), (b"no end", "no end"), (b"", "")],
)
def test_a_password_is_the_first_line_of_standard_input(
    script: Script,
    pyswarm: Pyswarm,
    monkeypatch: pytest.MonkeyPatch,
    typed: bytes,
    password: str,
) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(typed)))
    script.on("PullImage", [])
    assert pyswarm("image", "pull", "--username", "u", "--password-stdin", "web").code == 0
    assert script.requests("PullImage")[0].password == password


def test_commands_are_all_there() -> None:
    import click

    context = click.Context(root)
    for name in COMMANDS:
        command = root.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            for verb in command.list_commands(context):
                assert command.get_command(context, verb) is not None


def test_the_digest_is_looked_up_when_the_image_is_given(fleet: Script, pyswarm: Pyswarm) -> None:
    for flags in ([], ["--no-resolve-image"]):
        assert pyswarm("service", "create", "-d", *flags, "web").code == 0
    assert [one.query_registry for one in fleet.requests("CreateService")] == [True, False]
    lines = (
        ["--image", "web:1"], ["--force"], ["--env-add", "A=1"],
        ["--image", "web:1", "--no-resolve-image"],
    )  # fmt: skip
    for flags in lines:
        assert pyswarm("service", "update", "-d", *flags, "web").code == 0
    asked = [one.query_registry for one in fleet.requests("UpdateService")]
    assert asked == [True, False, False, False]


def test_what_the_controller_warns_of_is_told_on_stderr(fleet: Script, pyswarm: Pyswarm) -> None:
    reply = service_reply()
    reply.warnings.append("image web:1 could not be accessed on a registry to record its digest.")
    fleet.on("CreateService", reply)
    fleet.on("UpdateService", reply)
    for line in (["create", "-d", "web"], ["update", "-d", "--image", "web:1", "web"]):
        ran = pyswarm("service", *line)
        assert ran.err == f"{reply.warnings[0]}\n"
        assert "image" not in ran.out


def test_a_slow_registry_is_named_while_it_is_waited_for(
    fleet: Script, pyswarm: Pyswarm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cli.render.terminal.ANNOUNCE_AFTER_S", 0.0)
    told = threading.Event()
    echo = click.echo

    def heard(*words: object, **options: object) -> None:
        echo(*words, **options)  # type: ignore[arg-type]
        told.set()

    monkeypatch.setattr("cli.render.terminal.click.echo", heard)
    fleet.on("CreateService", lambda _: (told.wait(20), service_reply())[1])
    ran = pyswarm("service", "create", "-d", "web:1")
    assert ran.err == "resolving the digest of web:1\n"
