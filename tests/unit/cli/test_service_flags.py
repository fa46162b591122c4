"""Flags of health checks, readiness, updates and rollbacks; and every flag that Docker has."""

import json
import shlex

import click
import pytest
from msgspec.structs import replace

from cli.lazy import UNSUPPORTED
from cli.main import root
from pyswarm_core.clock import MILLISECOND, MINUTE, SECOND
from pyswarm_core.codec import from_proto
from pyswarm_core.specs import (
    ContainerSpec,
    FailureAction,
    HealthConfig,
    RestartPolicy,
    ServiceSpec,
    TaskSpec,
    UpdateConfig,
    UpdateOrder,
)
from tests.fixtures.source import ROOT
from tests.unit.cli.conftest import Pyswarm
from tests.unit.cli.objects import service, service_reply
from tests.unit.cli.scripted import Script

DOCKER = json.loads((ROOT / "tests/fixtures/docker_flags.json").read_text())["commands"]
LISTS = ("list", "config", "mount", "network", "port", "secret", "ulimit", "pref")
ROWS = [
    (command.split()[-1], row)
    for command in DOCKER
    for row in DOCKER[command]
    if command.split()[-1] in ("create", "update", "scale")
]


def _verb(name: str) -> click.Command:
    group = root.get_command(click.Context(root), "service")
    assert isinstance(group, click.Group)
    command = group.get_command(click.Context(group), name)
    assert command is not None
    return command


def options_of(verb: str) -> dict[str, click.Option]:
    options = [each for each in _verb(verb).params if isinstance(each, click.Option)]
    return {name: each for each in options for name in each.opts}


@pytest.mark.parametrize(("verb", "row"), ROWS, ids=[f"{verb} {row['flag']}" for verb, row in ROWS])
def test_a_flag_of_docker_has_its_form_and_default_or_is_refused_with_the_alternative(
    verb: str, row: dict[str, str]
) -> None:
    flag = row["flag"]
    option = options_of(verb).get(flag)
    if option is None:
        assert UNSUPPORTED[flag], "say what to use instead"
        return
    assert flag not in UNSUPPORTED
    assert (row.get("short") or "") in ("", *option.opts)
    assert option.is_flag == ("type" not in row)
    assert option.multiple == (row.get("type") in LISTS)
    assert option.name is not None
    unset = _verb(verb).make_context(verb, ["web=1"]).params[option.name]
    assert unset in (None, False, (), "replicated" if flag == "--mode" else "")
    assert row.get("default", "[]") == "[]"


@pytest.mark.parametrize("verb", ["create", "update"])
@pytest.mark.parametrize(
    ("flags", "default"),
    [
        ("--update-parallelism --rollback-parallelism", "1"),
        ("--update-delay --rollback-delay --health-start-period --restart-max-delay", "0s"),
        ("--update-monitor --rollback-monitor --restart-delay --health-start-interval", "5s"),
        ("--update-max-failure-ratio --rollback-max-failure-ratio", "0"),
        ("--update-failure-action --rollback-failure-action", "pause"),
        ("--update-order --rollback-order", "stop-first"),
        ("--health-interval --health-timeout --ready-interval --ready-timeout", "30s"),
        ("--health-retries --ready-retries", "3"),
        ("--restart-condition", "any"),
    ],
)
def test_help_tells_the_default_that_docker_has(verb: str, flags: str, default: str) -> None:
    for flag in flags.split():
        text = options_of(verb)[flag].help or ""
        assert text.removesuffix(")").replace("= constant", "").split()[-1] == default


HEALTH = (
    "--health-cmd 'curl -f localhost' --health-interval 10s --health-timeout 500ms "
    "--health-retries 5 --health-start-period 1m --health-start-interval 1s"
)
FULL = {
    HEALTH: HealthConfig(
        test=("CMD-SHELL", "curl -f localhost"),
        interval=10 * SECOND,
        timeout=500 * MILLISECOND,
        retries=5,
        start_period=MINUTE,
        start_interval=SECOND,
    ),
    "--health-http 8080/healthz": HealthConfig(test=("HTTP", "8080/healthz")),
    "--health-http 8080": HealthConfig(test=("HTTP", "8080/")),
    "--health-http '80/a?b=c'": HealthConfig(test=("HTTP", "80/a?b=c")),
    "--health-tcp 5432": HealthConfig(test=("TCP", "5432")),
    "--health-grpc 50051": HealthConfig(test=("GRPC", "50051")),
    "--health-grpc 50051/shop.Cart": HealthConfig(test=("GRPC", "50051/shop.Cart")),
    "--health-interval 1s": HealthConfig(interval=SECOND),
    "--no-healthcheck": HealthConfig(test=("NONE",)),
    "": HealthConfig(),
}


def created(fleet: Script, pyswarm: Pyswarm, line: str) -> ServiceSpec:
    fleet.on("CreateService", service_reply())
    ran = pyswarm("service", "create", "-d", *shlex.split(line), "web")
    assert (ran.code, ran.err) == (0, "")
    return from_proto(ServiceSpec, fleet.requests("CreateService")[-1].spec)


@pytest.mark.parametrize("line", FULL)
def test_create_configures_the_health_check(line: str, script: Script, pyswarm: Pyswarm) -> None:
    container = created(script, pyswarm, line).task_template.container_spec
    assert (container.healthcheck, container.readiness) == (FULL[line], HealthConfig())


@pytest.mark.parametrize("line", [line for line in FULL if "-interval 1s" not in line[:24]])
def test_create_configures_readiness(line: str, script: Script, pyswarm: Pyswarm) -> None:
    line = line.replace("--health-", "--ready-").replace("--no-healthcheck", "--no-readiness")
    expected = FULL[line.replace("--ready-", "--health-").replace("--no-readiness", "")]
    container = created(script, pyswarm, line).task_template.container_spec
    assert (container.readiness, container.healthcheck) == (expected, HealthConfig())


@pytest.mark.parametrize("of", ["update", "rollback"])
def test_create_configures_updates_and_rollbacks(of: str, script: Script, pyswarm: Pyswarm) -> None:
    line = (
        f"--{of}-parallelism 0 --{of}-delay 10s --{of}-monitor 1m --{of}-failure-action continue "
        f"--{of}-max-failure-ratio .25 --{of}-order start-first"
    )
    spec = created(script, pyswarm, line)
    config = UpdateConfig(
        parallelism=0,
        delay=10 * SECOND,
        monitor=MINUTE,
        failure_action=FailureAction.CONTINUE,
        max_failure_ratio=0.25,
        order=UpdateOrder.START_FIRST,
    )
    assert getattr(spec, f"{of}_config") == config
    others = replace(spec, **{f"{of}_config": UpdateConfig()})
    assert (others.update_config, others.rollback_config) == (UpdateConfig(), UpdateConfig())


def test_create_configures_the_restart_backoff(script: Script, pyswarm: Pyswarm) -> None:
    policy = created(script, pyswarm, "--restart-max-delay 5m").task_template.restart_policy
    assert policy == RestartPolicy(max_delay=5 * MINUTE)


OLD = HealthConfig(test=("CMD-SHELL", "true"), interval=MINUTE, retries=2)


def updated(fleet: Script, pyswarm: Pyswarm, old: HealthConfig, line: str) -> HealthConfig:
    container = ContainerSpec(image="web:1", healthcheck=old, readiness=old)
    found = service(task_template=TaskSpec(container_spec=container))
    fleet.on("GetService", service_reply(found)).on("UpdateService", service_reply(found))
    ran = pyswarm("service", "update", "-d", *shlex.split(line), "web")
    assert (ran.code, ran.err) == (0, "")
    sent = from_proto(ServiceSpec, fleet.requests("UpdateService")[-1].spec)
    after = sent.task_template.container_spec
    assert replace(after, healthcheck=old, readiness=old) == container
    return after.readiness if "--ready" in line or "readiness" in line else after.healthcheck


@pytest.mark.parametrize(
    ("line", "after"),
    [
        ("--health-interval 5s", replace(OLD, interval=5 * SECOND)),
        ("--health-cmd false", replace(OLD, test=("CMD-SHELL", "false"))),
        ("--health-cmd ''", replace(OLD, test=())),
        ("--health-tcp 80", replace(OLD, test=("TCP", "80"))),
        ("--no-healthcheck", HealthConfig(test=("NONE",))),
        ("--ready-retries 9", replace(OLD, retries=9)),
        ("--no-readiness", HealthConfig()),
    ],
)
def test_update_changes_the_named_part_of_a_check(
    line: str, after: HealthConfig, script: Script, pyswarm: Pyswarm
) -> None:
    assert updated(script, pyswarm, OLD, line) == after


def test_a_flag_of_a_check_that_is_off_turns_the_images_on(
    script: Script, pyswarm: Pyswarm
) -> None:
    container = ContainerSpec(image="web:1", healthcheck=HealthConfig(test=("NONE",)))
    found = service(task_template=TaskSpec(container_spec=container))
    script.on("GetService", service_reply(found)).on("UpdateService", service_reply(found))
    assert pyswarm("service", "update", "-d", "--health-timeout", "1s", "web").code == 0
    sent = from_proto(ServiceSpec, script.requests("UpdateService")[-1].spec)
    assert sent.task_template.container_spec.healthcheck == HealthConfig(timeout=SECOND)


REFUSED = {
    "--health-cmd x --no-healthcheck": "--no-healthcheck conflicts with --health-cmd",
    "--health-retries 1 --no-healthcheck": "--no-healthcheck conflicts with --health-retries",
    "--health-cmd x --health-tcp 1": "--health-cmd conflicts with --health-tcp: expected one of",
    "--health-http 1 --health-grpc 1": "--health-http conflicts with --health-grpc",
    "--ready-cmd x --no-readiness": "--no-readiness conflicts with --ready-cmd",
    "--ready-tcp 1 --ready-grpc 1": "--ready-tcp conflicts with --ready-grpc",
    "--health-http 0/": '--health-http: value "0/" is not valid: expected PORT/PATH, as in',
    "--health-http 65536/": "with a port of 1 to 65535",
    "--health-http /x": '--health-http: value "/x"',
    "--health-http http://x": '--health-http: value "http://x"',
    "--health-http '80/a b'": '--health-http: value "80/a b" is not valid',
    "--health-tcp 70000": '--health-tcp: value "70000" is not valid: expected PORT, with a port of',
    "--health-tcp 80/x": '--health-tcp: value "80/x"',
    "--health-tcp ٣": "--health-tcp: value",
    "--ready-grpc x": '--ready-grpc: value "x" is not valid: expected PORT or PORT/SERVICE',
    "--health-interval 1": '--health-interval: value "1" is not valid: expected 0s, or 1ms to',
    "--health-interval 999us": 'value "999us" is not valid: expected 0s, or 1ms to 8760h0m0s',
    "--ready-timeout 9000h": '--ready-timeout: value "9000h" is not valid: expected 0s, or 1ms',
    "--health-start-period 9000h": "--health-start-period: value",
    "--health-start-interval 1ns": "--health-start-interval: value",
    "--health-retries -1": '--health-retries: value "-1" is not valid: expected 0 to 1000000',
    "--health-retries 1000001": "expected 0 to 1000000",
    "--health-retries x": '--health-retries: value "x" is not valid: expected an integer',
    "--ready-interval 5s": '--ready-interval: value "5s" is not valid: expected --ready-cmd, ',
    "--ready-retries 5": '--ready-retries: value "5" is not valid: expected --ready-cmd, ',
    "--network none --health-tcp 80": '--health-tcp: value "80" is not valid: expected a command',
    "--network none --ready-http 80": '--ready-http: value "80" is not valid: expected a command',
    "--ready-tcp 80 -p mode=host,published=80,target=80": '--publish: value "80:80" is not valid: '
    "expected mode=ingress with a readiness check",
    "--update-parallelism -1": '--update-parallelism: value "-1" is not valid: expected 0 to 1000',
    "--rollback-parallelism 100001": "expected 0 to 100000",
    "--update-delay -1s": '--update-delay: value "-1s" is not valid',
    "--update-delay 9000h": 'value "9000h" is not valid: expected 0s to 8760h0m0s',
    "--rollback-delay 9000h": "--rollback-delay: value",
    "--update-monitor 9000h": "--update-monitor: value",
    "--rollback-monitor soon": '--rollback-monitor: value "soon"',
    "--update-failure-action retry": "expected one of pause, continue, rollback",
    "--rollback-failure-action rollback": "expected one of pause, continue",
    "--update-order first": "expected one of stop-first, start-first",
    "--update-max-failure-ratio 1.1": 'value "1.1" is not valid: expected 0 to 1',
    "--rollback-max-failure-ratio nan": 'value "nan" is not valid: expected 0 to 1',
    "--update-max-failure-ratio -0.1": "expected 0 to 1",
    "--restart-max-delay 1s": "expected 0s, or 5s (--restart-delay) to 8760h0m0s",
    "--restart-max-delay 9000h": "--restart-max-delay: value",
    "--mount x": '--mount: value "x" is not valid: unexpected key "x": expected one of type',
    "--secret target=x": "--secret: value",
    "--log-driver fluentd": '--log-driver: value "fluentd" is not valid: expected json-file, loc',
    "--log-opt max-size=x": '--log-opt: value "max-size=x" is not valid',
    "--log-driver none --log-opt tag=x": '"tag=x" is not valid: expected an option of none: it has',
    "--generic-resource gpu=x": 'value "gpu=x" is not valid: expected KIND=NUMBER such as gpu=2',
    "--generic-resource gpu=9999999": "expected 1 to 1000000 of gpu",
}


@pytest.mark.parametrize("line", REFUSED)
def test_what_is_not_valid_is_refused_before_anything_changes(line: str, pyswarm: Pyswarm) -> None:
    ran = pyswarm("service", "create", *shlex.split(line), "web")
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith("Error: ")
    assert REFUSED[line].encode("unicode_escape").decode() in ran.err
