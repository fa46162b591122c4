"""Flags that isolate a container from its host, or open it."""

import json
import shlex
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from cli.lazy import UNSUPPORTED
from pyswarm_core.clock import SECOND
from pyswarm_core.codec import from_proto
from pyswarm_core.docker.isolation.seccomp import PROFILE_BYTES_MAX
from pyswarm_core.specs import ContainerSpec, Device, ServiceSpec
from tests.unit.cli.conftest import Pyswarm
from tests.unit.cli.objects import service, service_reply
from tests.unit.cli.scripted import Script
from tests.unit.cli.test_service_flags import created, options_of

FUSE = Device(path_on_host="/dev/fuse", path_in_container="/dev/fuse")
ROWS: dict[str, dict[str, Any]] = {
    "--tmpfs /run --tmpfs /tmp:rw,noexec,size=64m": {
        "tmpfs": {"/run": "", "/tmp": "rw,noexec,size=64m"}
    },
    "--shm-size 128m": {"shm_size": 128 << 20},
    "--privileged": {"privileged": True},
    "--privileged=false --pid host --ipc none --uts host": {
        "pid_mode": "host",
        "ipc_mode": "none",
        "uts_mode": "host",
    },
    "--userns auto --cgroupns private": {"userns_mode": "auto", "cgroupns_mode": "private"},
    "--security-opt no-new-privileges --security-opt seccomp:unconfined": {
        "security_opt": ("no-new-privileges", "seccomp=unconfined")
    },
    "--security-opt no-new-privileges:true --security-opt systempaths=unconfined": {
        "security_opt": ("no-new-privileges=true", "systempaths=unconfined")
    },
    "--device /dev/fuse --device /dev/kvm:/dev/own:r": {
        "devices": (
            FUSE,
            Device(path_on_host="/dev/kvm", path_in_container="/dev/own", cgroup_permissions="r"),
        )
    },
    "--device-cgroup-rule 'c 10:* rwm'": {"device_cgroup_rules": ("c 10:* rwm",)},
    "--group-add video --group 44": {"groups": ("video", "44")},
    "--stop-timeout 30": {"stop_grace_period": 30 * SECOND},
}


@pytest.mark.parametrize("line", ROWS)
def test_create_sends_what_the_flags_say(line: str, script: Script, pyswarm: Pyswarm) -> None:
    container = created(script, pyswarm, line).task_template.container_spec
    assert container == ContainerSpec(image="web", **ROWS[line])


def updated(script: Script, pyswarm: Pyswarm, line: str, **before: Any) -> ContainerSpec:
    made = service()
    template = made.spec.task_template
    container = replace(template.container_spec, **before)
    template = replace(template, container_spec=container)
    made = replace(made, spec=replace(made.spec, task_template=template))
    script.on("GetService", service_reply(made))
    script.on("UpdateService", service_reply(made))
    ran = pyswarm("service", "update", "-d", *shlex.split(line), "web")
    assert (ran.code, ran.err) == (0, "")
    spec = from_proto(ServiceSpec, script.requests("UpdateService")[-1].spec)
    return spec.task_template.container_spec


def test_update_adds_replaces_and_removes(script: Script, pyswarm: Pyswarm) -> None:
    container = updated(
        script,
        pyswarm,
        "--tmpfs-add /tmp:size=2m --tmpfs-add /new --tmpfs-rm /run --device-add /dev/kvm:r"
        " --device-rm /dev/fuse --device-cgroup-rule-add 'b 1:1 r' --device-cgroup-rule-rm"
        " 'c 1:1 r' --security-opt-add seccomp=unconfined --security-opt-rm systempaths"
        " --pid host --no-privileged",
        tmpfs={"/run": "", "/tmp": "size=1m", "/kept": ""},
        devices=(FUSE,),
        device_cgroup_rules=("c 1:1 r", "c 2:2 r"),
        security_opt=("seccomp={}", "systempaths=unconfined", "no-new-privileges"),
        privileged=True,
    )
    assert container.tmpfs == {"/tmp": "size=2m", "/kept": "", "/new": ""}
    assert [device.path_on_host for device in container.devices] == ["/dev/kvm"]
    assert container.device_cgroup_rules == ("c 2:2 r", "b 1:1 r")
    assert container.security_opt == ("seccomp=unconfined", "no-new-privileges")
    assert (container.pid_mode, container.privileged) == ("host", False)


def test_update_without_these_flags_changes_none(script: Script, pyswarm: Pyswarm) -> None:
    before: dict[str, Any] = {
        "tmpfs": {"/run": ""},
        "devices": (FUSE,),
        "device_cgroup_rules": ("c 1:1 r",),
        "security_opt": ("no-new-privileges",),
        "privileged": True,
        "shm_size": 1 << 20,
    }
    container = updated(script, pyswarm, "--env-add A=1", **before)
    assert {name: getattr(container, name) for name in before} == before


PROFILE = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [], "comment": "some\nlines"}


def test_a_seccomp_profile_is_sent_as_the_file_s_content(
    script: Script, pyswarm: Pyswarm, tmp_path: Path
) -> None:
    path = tmp_path / "my profile.json"
    path.write_text(json.dumps(PROFILE, indent=8))
    line = f"--security-opt 'seccomp={path}'"
    (option,) = created(script, pyswarm, line).task_template.container_spec.security_opt
    assert json.loads(option.removeprefix("seccomp=")) == PROFILE
    assert " \n" not in option
    added = line.replace("--security-opt", "--security-opt-add")
    assert updated(script, pyswarm, added).security_opt == (option,)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "the profile cannot be read: no such file or directory"),
        (b"no json", "expected JSON in"),
        (b"\xff\xfe", "expected JSON in"),
        (b"{}", "expected the JSON of a seccomp profile"),
        (b'{"defaultAction": "SCMP_ACT_NOTIFY"}', "SCMP_ACT_NOTIFY"),
        (b" " * (4 * PROFILE_BYTES_MAX + 1), "expected a profile of at most 256 KiB"),
        (json.dumps(PROFILE | {"x": "y" * PROFILE_BYTES_MAX}).encode(), "at most 64 KiB"),
    ],
)
@pytest.mark.parametrize("verb", ["create", "update"])
def test_a_profile_that_is_not_valid_is_refused_before_anything_changes(
    verb: str, content: bytes | None, told: str, pyswarm: Pyswarm, tmp_path: Path
) -> None:
    path = tmp_path / "p"
    if content is not None:
        path.write_bytes(content)
    flag = "--security-opt-add" if verb == "update" else "--security-opt"
    ran = pyswarm("service", verb, flag, f"seccomp={path}", "web")
    assert ran.code != 0
    assert ran.err.startswith("Error: --security-opt: value ")
    assert told in ran.err
    assert ran.err.count("\n") == 1


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("--tmpfs run", '--tmpfs: value "run" is not valid: expected an absolute path'),
        ("--tmpfs /run:nosuch", '--tmpfs: value "/run:nosuch" is not valid: expected size='),
        ("--pid container:db", "--pid: value"),
        ("--ipc container:db", "a task shares its namespaces with no other container"),
        ("--uts private", "--uts: value"),
        ("--userns keep-id", "--userns: value"),
        ("--cgroupns other", "--cgroupns: value"),
        ("--device ''", '--device: value "" is not valid: expected HOST'),
        ("--device fuse", "--device: value"),
        ("--device-cgroup-rule rwm", "--device-cgroup-rule: value"),
        ("--security-opt nosuch=1", '--security-opt: value "nosuch=1" is not valid: expected no-'),
        ("--security-opt label=user:x", "hosts apply no SELinux labels"),
        ("--userns auto --privileged", "expected no --privileged"),
        ("--userns auto --network host", "expected no --network host"),
        ("--uts host --hostname x", "--hostname: value"),
        ("--stop-timeout 3 --stop-grace-period 3s", "conflicts with --stop-grace-period"),
        ("--cgroup-parent /x", "each agent has one for all its"),
        ("--storage-opt size=1g", "a container's layer has no quota"),
        ("--isolation hyperv", "Windows"),
        ("--runtime runsc", "agents run crun, or else runc"),
        ("--gpus all", "--device nvidia.com/gpu=all gives tasks the GPUs"),
    ],
)
def test_what_is_not_valid_or_not_possible_says_why(line: str, told: str, pyswarm: Pyswarm) -> None:
    ran = pyswarm("service", "create", *shlex.split(line), "web")
    assert ran.code != 0
    assert told in ran.err.split("\n", 1)[0]


def test_pretty_shows_what_isolates_a_container(script: Script, pyswarm: Pyswarm) -> None:
    made = service()
    template = made.spec.task_template
    container = replace(
        template.container_spec,
        privileged=True,
        tmpfs={"/run": "", "/tmp": "size=1m"},
        shm_size=1 << 20,
        pid_mode="host",
        userns_mode="host",
        devices=(FUSE,),
        device_cgroup_rules=("c 1:1 r",),
        security_opt=("no-new-privileges", 'seccomp={"defaultAction":"SCMP_ACT_ALLOW"}'),
    )
    template = replace(template, container_spec=container)
    made = replace(made, spec=replace(made.spec, task_template=template))
    script.on("GetService", service_reply(made))
    lines = pyswarm("service", "inspect", "--pretty", "web").out.splitlines()
    for line in (
        " Privileged:    true",
        " Tmpfs:         /run /tmp:size=1m",
        " Shm Size:      1MiB",
        " Namespaces:    pid=host userns=host",
        " Devices:       /dev/fuse:/dev/fuse:rwm c 1:1 r",
        " Security:      no-new-privileges seccomp=FILE",
    ):
        assert line in lines


RUN = (
    "--cap-add --cap-drop --cgroup-parent --cgroupns --device --device-cgroup-rule --gpus"
    " --group-add --init --ipc --isolation --pid --privileged --read-only --runtime"
    " --security-opt --shm-size --stop-timeout --storage-opt --tmpfs --userns --uts"
).split()
"""Flags of `docker run` that isolate a container, or open it."""


@pytest.mark.parametrize("flag", RUN)
def test_a_flag_of_docker_run_is_one_of_services_or_refused_with_the_alternative(flag: str) -> None:
    if flag in UNSUPPORTED:
        assert UNSUPPORTED[flag]
    else:
        assert flag in options_of("create")
        assert {flag, f"{flag}-add"} & set(options_of("update"))
