"""The spec that the flags of `run` and `create` make."""

import shlex
from pathlib import Path

import pytest

from pyswarm_core.clock import MILLISECOND, MINUTE, SECOND
from pyswarm_core.codec import from_proto
from pyswarm_core.specs import (
    ContainerMode,
    HealthConfig,
    NetworkAttachment,
    PortConfig,
    Protocol,
    RestartCondition,
    RestartPolicy,
    ServiceSpec,
)
from tests.unit.cli.conftest import Pyswarm
from tests.unit.cli.objects import node_view, service_reply
from tests.unit.cli.scripted import Script

GIB = 1 << 30


@pytest.fixture
def fleet(script: Script) -> Script:
    from pyswarm_core.api.v1 import control_pb2 as pb

    script.on("CreateService", service_reply()).on("GetNode", pb.NodeReply(node=node_view()))
    return script


def made(fleet: Script, pyswarm: Pyswarm, line: str) -> ServiceSpec:
    ran = pyswarm("create", *shlex.split(line))
    assert (ran.code, ran.err) == (0, "")
    request = fleet.requests("CreateService")[-1]
    assert from_proto(ServiceSpec, request.spec).stopped
    return from_proto(ServiceSpec, request.spec)


def test_a_container_without_flags_is_not_restarted_and_keeps_its_image_s_settings(
    fleet: Script, pyswarm: Pyswarm
) -> None:
    spec = made(fleet, pyswarm, "alpine sh -c 'a b'")
    template = spec.task_template
    assert (spec.name, spec.mode) == ("", ContainerMode())
    assert (template.container_spec.image, template.container_spec.args) == (
        "alpine",
        ("sh", "-c", "a b"),
    )
    assert template.restart_policy == RestartPolicy(
        condition=RestartCondition.NONE, delay=100 * MILLISECOND, max_delay=MINUTE
    )
    assert template.networks == ()
    assert not fleet.requests("CreateService")[-1].query_registry


ATTRIBUTES = [
    ("-i", "open_stdin", True),
    ("-i", "stdin_once", True),
    ("-t", "tty", True),
    ("-h db", "hostname", "db"),
    ("-h db --domainname example.org", "hostname", "db.example.org"),
    ("-e A=1 --env B=2", "env", ("A=1", "B=2")),
    ("-w /app", "dir", "/app"),
    ("-u 1000:1000", "user", "1000:1000"),
    ("--group-add audio", "groups", ("audio",)),
    ("--init", "init", True),
    ("--read-only", "read_only", True),
    ("--read-only=false", "read_only", False),
    ("--stop-signal QUIT", "stop_signal", "QUIT"),
    ("--stop-timeout 3", "stop_grace_period", 3 * SECOND),
    ("--cap-add NET_ADMIN", "capability_add", ("NET_ADMIN",)),
    ("--cap-drop ALL", "capability_drop", ("ALL",)),
    ("--add-host a:10.0.0.1", "hosts", ("10.0.0.1 a",)),
    ("--sysctl net.core.somaxconn=9", "sysctls", {"net.core.somaxconn": "9"}),
    ("--oom-score-adj 5", "oom_score_adj", 5),
    ("--no-healthcheck", "healthcheck", HealthConfig(test=("NONE",))),
    ("--health-cmd true", "healthcheck", HealthConfig(test=("CMD-SHELL", "true"))),
    ("-l a=1 --label b", "labels", {"a": "1", "b": ""}),
]


@pytest.mark.parametrize(("flags", "field", "value"), ATTRIBUTES)
def test_a_flag_sets_its_field(
    flags: str, field: str, value: object, fleet: Script, pyswarm: Pyswarm
) -> None:
    container = made(fleet, pyswarm, f"{flags} web").task_template.container_spec
    assert getattr(container, field) == value


def test_labels_are_those_of_the_service_too(fleet: Script, pyswarm: Pyswarm) -> None:
    assert made(fleet, pyswarm, "-l com.docker.stack.namespace=shop web").labels == {
        "com.docker.stack.namespace": "shop"
    }


@pytest.mark.parametrize(
    ("flags", "cpus", "memory", "pids", "swap"),
    [
        ("--cpus=1.5 --memory=1g --memory-swap=2g", 1_500_000_000, GIB, 0, GIB),
        ("-m 1g --memory-swap -1", 0, GIB, 0, -1),
        ("-m 1g --memory-swap 1g", 0, GIB, 0, 1),
        ("--pids-limit 100", 0, 0, 100, 0),
        ("--pids-limit -1", 0, 0, 0, 0),
    ],
)
def test_limits(
    flags: str, cpus: int, memory: int, pids: int, swap: int, fleet: Script, pyswarm: Pyswarm
) -> None:
    resources = made(fleet, pyswarm, f"{flags} web").task_template.resources
    limits = resources.limits
    assert (limits.nano_cpus, limits.memory_bytes, limits.pids, resources.swap_bytes) == (
        cpus,
        memory,
        pids,
        swap,
    )


@pytest.mark.parametrize(
    ("word", "condition", "attempts", "unless_stopped"),
    [
        ("no", RestartCondition.NONE, 0, False),
        ("on-failure", RestartCondition.ON_FAILURE, 0, False),
        ("on-failure:3", RestartCondition.ON_FAILURE, 3, False),
        ("always", RestartCondition.ANY, 0, False),
        ("unless-stopped", RestartCondition.ANY, 0, True),
    ],
)
def test_restart_policies(
    word: str,
    condition: RestartCondition,
    attempts: int,
    unless_stopped: bool,
    fleet: Script,
    pyswarm: Pyswarm,
) -> None:
    spec = made(fleet, pyswarm, f"--restart {word} web")
    policy = spec.task_template.restart_policy
    assert (policy.condition, policy.max_attempts) == (condition, attempts)
    assert spec.mode == ContainerMode(unless_stopped=unless_stopped)


@pytest.mark.parametrize(
    ("flags", "command", "args"),
    [
        ("--entrypoint /bin/a web b", ("/bin/a",), ("b",)),
        ("--entrypoint '/bin/a b' web", ("/bin/a b",), ()),
        ("--entrypoint '' web sh -c x", ("sh",), ("-c", "x")),
    ],
)
def test_an_entrypoint_is_one_word(
    flags: str, command: tuple[str], args: tuple[str], fleet: Script, pyswarm: Pyswarm
) -> None:
    container = made(fleet, pyswarm, flags).task_template.container_spec
    assert (container.command, container.args) == (command, args)


def test_ports(fleet: Script, pyswarm: Pyswarm) -> None:
    line = "-p 8080:80 -p 53/udp --expose 9000-9001 -P web"
    assert made(fleet, pyswarm, line).endpoint_spec.ports == (
        PortConfig(target_port=80, published_port=8080),
        PortConfig(target_port=53, protocol=Protocol.UDP),
        PortConfig(target_port=9000),
        PortConfig(target_port=9001),
    )
    assert made(fleet, pyswarm, "--expose 9000 web").endpoint_spec.ports == ()


@pytest.mark.parametrize(
    ("line", "publishes"),
    [("web", False), ("-P web", True), ("-P --network app web", True),
     ("-P --network host web", False), ("-P --network none web", False)],
)  # fmt: skip
def test_the_image_s_ports_are_published_where_there_are_ports(
    line: str, publishes: bool, fleet: Script, pyswarm: Pyswarm
) -> None:
    assert made(fleet, pyswarm, line).endpoint_spec.ports == ()
    assert fleet.requests("CreateService")[-1].publish_all is publishes


def test_networks(fleet: Script, pyswarm: Pyswarm) -> None:
    line = (
        "--network app --network-alias db --network-alias sql --ip 10.128.0.9"
        " --net name=back,ip=10.129.0.9 web"
    )
    assert made(fleet, pyswarm, line).task_template.networks == (
        NetworkAttachment(target="app", aliases=("db", "sql"), task_ip="10.128.0.9"),
        NetworkAttachment(target="back", task_ip="10.129.0.9"),
    )


@pytest.mark.parametrize(
    ("line", "joined"),
    [
        ("", ()),
        ("--network default -p 8080:80", ()),
        ("--network bridge", ()),
        ("--network name=bridge", ()),
        ("--network host", ("host",)),
        ("--network none", ("none",)),
        ("--network app --network back", ("app", "back")),
        ("--network bridge --network app", ("bridge", "app")),
    ],
)
def test_the_network_bridge_is_the_same_as_none(
    line: str, joined: tuple[str, ...], fleet: Script, pyswarm: Pyswarm
) -> None:
    template = made(fleet, pyswarm, f"{line} web").task_template
    assert template.networks == tuple(NetworkAttachment(target=name) for name in joined)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("--network container:db", "give both --network NAME, and they find each other by name"),
        ("--network host --network app", "expected no other network beside it"),
        ("--network app --network app", "expected each network once"),
        ("--network bridge --network-alias db", "expected --network NAME of an overlay network"),
        ("--network none --ip 10.0.0.9", "expected --network NAME of an overlay network"),
        ("--network name=bridge,alias=db", "network bridge has no names"),
        ("--network name=app,mac-address=02:42:ac:11:00:09", "use --mac-address"),
        ("--network name=app,ip6=fd00::9", "the IPv6 address follows from the IPv4 address"),
        ("--network name=app,gw-priority=1", "name it first"),
        ("--network name=app,driver-opt=a=b", "use `network create --opt`"),
        ("--network host -p 8080:80", "expected mode=host with network host"),
        ("--network none -p 8080:80", "expected no published port with network none"),
    ],
)
def test_what_a_network_cannot_do_is_refused_with_the_alternative(
    line: str, told: str, script: Script, pyswarm: Pyswarm
) -> None:
    ran = pyswarm("run", *line.split(), "web")
    assert (ran.code, ran.out) == (125, "")
    assert told in ran.err
    assert script.asked == []


def test_placement(fleet: Script, pyswarm: Pyswarm) -> None:
    line = "--node host1 --platform linux/arm64/v8 --constraint node.labels.a==b web"
    assert made(fleet, pyswarm, line).task_template.placement.constraints == (
        "node.labels.a==b",
        "node.hostname==host1",
        "node.platform.os==linux",
        "node.platform.arch==arm64",
    )


def test_label_and_container_id_files(fleet: Script, pyswarm: Pyswarm, tmp_path: Path) -> None:
    labels, cidfile = tmp_path / "labels", tmp_path / "cid"
    labels.write_text("# comment\na=1\nb=2\n")
    spec = made(fleet, pyswarm, f"--label-file {labels} -l b=3 --cidfile {cidfile} web")
    assert spec.labels == {"a": "1", "b": "3"}
    assert cidfile.read_text() == service_reply().service.id
    ran = pyswarm("create", "--cidfile", str(cidfile), "web")
    assert ran.code == 2
    assert "exists: make sure the other container is not running" in ran.err


def test_the_registry_is_asked_only_to_pull_always(fleet: Script, pyswarm: Pyswarm) -> None:
    made(fleet, pyswarm, "--pull always web")
    assert fleet.requests("CreateService")[-1].query_registry


WRONG = {
    "--restart sometimes web": ('--restart: value "sometimes"', "expected no, on-failure[:MAX]"),
    "--restart always:3 web": ('--restart: value "always:3"', "expected no"),
    "--restart on-failure:x web": ('--restart: value "x"', "expected an integer"),
    "--restart always --rm web": ("conflicting options", "--restart and --rm"),
    "--memory 1k web": ('--memory: value "1k"', "expected 0, or 6MiB to"),
    "--memory-swap 1g web": ('--memory-swap: value "1g"', "expected --memory as well"),
    "-m 1g --memory-swap 1m web": ('--memory-swap: value "1m"', "expected at least"),
    "--cpus x web": ('--cpus: value "x"', "expected 0, or 0.01 to"),
    "--pids-limit -2 web": ('--pids-limit: value "-2"', "expected 0 to"),
    "--stop-timeout soon web": ('--stop-timeout: value "soon"', "expected -1, or 0 to"),
    "--add-host x web": ('--add-host: value "x"', "expected NAME:IP"),
    "--add-host x:y web": ("--add-host: ", "with an IP address"),
    "--label =x web": ('--label: value "=x"', "expected KEY=VALUE"),
    "--domainname a web": ('--domainname: value "a"', "expected --hostname NAME as well"),
    "--entrypoint '' web": ('--entrypoint: value ""', "expected a COMMAND as well"),
    "--expose x web": ('--expose: value "x"', "expected PORT[-PORT][/PROTOCOL]"),
    "--expose 0 web": ('--expose: value "0"', "expected ports of 1 to 65535"),
    "--platform / web": ('--platform: value "/"', "expected OS/ARCH"),
    "--platform beos web": ('--platform: value "beos"', "OS one of linux, windows"),
    "--network container:a web": ("--network: ", "containers share no network namespace"),
    "--ip 10.0.0.1 web": ('--ip: value "10.0.0.1"', "expected --network NAME"),
    "--network-alias a --network host web": ("--network-alias: ", "of an overlay network"),
    "--disable-content-trust=false web": ("--disable-content-trust: ", "are not verified"),
    "--pull never web": ('--pull: value "never"', "expected always or missing"),
    "--attach all web": ('--attach: value "all"', "expected stdin, stdout or stderr"),
    "--label-file /nowhere web": ('--label-file "/nowhere" cannot be read', "no such file"),
    "--name 'a b' web": ('--name: value "a b"', "expected"),
    "UPPER": ('image: value "UPPER"', "lower case"),
}


@pytest.mark.parametrize("line", WRONG)
def test_what_is_not_valid_is_refused_before_anything_is_created(
    line: str, script: Script, pyswarm: Pyswarm
) -> None:
    for command, code in (("create", 2), ("run", 125)):
        ran = pyswarm(command, *shlex.split(line))
        assert (ran.code, ran.out, ran.err.count("\n")) == (code, "", 1)
        for part in WRONG[line]:
            assert part.lower() in ran.err.lower()
    assert script.asked == []
