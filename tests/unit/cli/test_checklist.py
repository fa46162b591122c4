"""The security check-list of a service, item by item."""

import json
from typing import Any

import pytest
from msgspec.structs import replace

from cli.render.checklist import NO, UNKNOWN, YES, items
from pyswarm_core.payloads import syntax
from pyswarm_core.specs import (
    ContainerSpec,
    Device,
    HealthConfig,
    Limits,
    NetworkAttachment,
    Resources,
    ServiceSpec,
    TaskSpec,
)
from tests.unit.cli.conftest import Pyswarm
from tests.unit.cli.objects import service, service_reply
from tests.unit.cli.scripted import Script

PLAIN = ServiceSpec(name="web", task_template=TaskSpec(container_spec=ContainerSpec(image="web:1")))
DIGEST = f"web:1@sha256:{'0' * 64}"
HARDENED = ServiceSpec(
    name="safe",
    task_template=TaskSpec(
        container_spec=ContainerSpec(
            image=DIGEST,
            user="1000:1000",
            read_only=True,
            tmpfs={"/tmp": "noexec"},
            capability_drop=("all",),
            capability_add=("NET_BIND_SERVICE",),
            env=("NODE_ENV=production", "DB_PASSWORD_FILE=/run/password"),
            healthcheck=HealthConfig(test=("HTTP", "80/")),
        ),
        resources=Resources(limits=Limits(nano_cpus=10**9, memory_bytes=512 << 20, pids=100)),
    ),
)


def followed(spec: ServiceSpec, image_user: str | None = None) -> dict[str, str]:
    return {item.check: item.followed for item in items(spec, image_user)}


def with_container(**changes: Any) -> ServiceSpec:
    template = HARDENED.task_template
    container = replace(template.container_spec, **changes)
    return replace(HARDENED, task_template=replace(template, container_spec=container))


def test_a_hardened_service_follows_every_item() -> None:
    assert set(followed(HARDENED).values()) == {YES}
    assert not any(item.advice for item in items(HARDENED))


def test_a_plain_service_follows_few_and_gets_advice() -> None:
    found = followed(PLAIN)
    assert {check for check, answer in found.items() if answer == YES} == {
        "no new privileges",
        "closed to its host",
        "no secrets in environment",
    }
    assert {check for check, answer in found.items() if answer == UNKNOWN} == {
        "not root",
        "health check",
    }
    assert all(item.advice for item in items(PLAIN) if item.followed != YES)


@pytest.mark.parametrize(
    ("check", "changes"),
    [
        ("not root", {"user": "0:1000"}),
        ("not root", {"user": "root"}),
        ("read-only root", {"read_only": False}),
        ("capabilities dropped", {"capability_drop": ("NET_RAW",)}),
        ("no new privileges", {"security_opt": ("no-new-privileges=false",)}),
        ("closed to its host", {"pid_mode": "host"}),
        ("closed to its host", {"devices": (Device(path_on_host="/dev/fuse"),)}),
        ("closed to its host", {"security_opt": ("seccomp=unconfined",)}),
        ("no secrets in environment", {"env": ("API_TOKEN=x",)}),
        ("no secrets in environment", {"env": ("db_password=",)}),
        ("no secrets in environment", {"secrets": (syntax.secret_env("X=db"),)}),
        ("health check", {"healthcheck": HealthConfig(test=("NONE",))}),
        ("image fixed", {"image": "web:latest"}),
    ],
)
def test_each_item_is_lost_by_what_it_is_about(check: str, changes: dict[str, Any]) -> None:
    found = followed(with_container(**changes))
    assert {name for name, answer in found.items() if answer != YES} == {check}
    assert found[check] == NO


def test_privileges_lose_several_items() -> None:
    found = followed(with_container(privileged=True))
    assert {name for name, answer in found.items() if answer == NO} == {
        "capabilities dropped",
        "no new privileges",
        "closed to its host",
    }


def test_each_limit_and_the_host_s_network_count() -> None:
    template = HARDENED.task_template
    on_host = replace(template, networks=(NetworkAttachment(target="host"),))
    assert followed(replace(HARDENED, task_template=on_host))["closed to its host"] == NO
    unlimited = followed(replace(HARDENED, task_template=replace(template, resources=Resources())))
    assert {name for name, answer in unlimited.items() if answer == NO} == {
        "memory limit",
        "CPU limit",
        "process limit",
    }


def test_the_user_of_the_image_counts_if_the_service_has_none() -> None:
    assert followed(PLAIN, "app")["not root"] == YES
    assert followed(PLAIN, "")["not root"] == NO
    assert followed(with_container(user="", userns_mode="auto"))["not root"] == YES


def test_no_value_of_a_variable_is_shown() -> None:
    told = " ".join(item.found + item.advice for item in items(with_container(env=("PWD=hush",))))
    assert "PWD" in told
    assert "hush" not in told


def test_inspect_prints_the_list(script: Script, pyswarm: Pyswarm) -> None:
    script.on("GetService", service_reply(replace(service(), spec=PLAIN)))
    ran = pyswarm("service", "inspect", "--security", "web")
    lines = ran.out.splitlines()
    assert (ran.code, ran.err) == (0, "")
    assert lines[0].split() == ["SERVICE", "CHECK", "FOLLOWED", "FOUND", "ADVICE"]
    assert lines[2].split() == "web read-only root no writable --read-only --tmpfs-add /tmp".split()
    ran = pyswarm("service", "inspect", "--security", "--format", "json", "web")
    rows = [json.loads(line) for line in ran.out.splitlines()]
    assert [row["Check"] for row in rows] == list(followed(PLAIN))
    ran = pyswarm("service", "inspect", "--security", "--format", "{{.Check}}={{.Followed}}", "web")
    assert "CPU limit=no" in ran.out.splitlines()
    ran = pyswarm("service", "inspect", "--security", "--pretty", "web")
    assert ran.err == "Error: --security conflicts with --pretty: expected one of them\n"
