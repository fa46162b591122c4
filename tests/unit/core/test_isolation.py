"""Docker's syntax of what isolates a container: tmpfs, devices, security options, profiles; and
which specs are allowed.
"""

import json
import re
from typing import Any

import pytest
from msgspec.structs import replace

from pyswarm_core.docker.isolation import seccomp, security, tmpfs
from pyswarm_core.docker.isolation.seccomp import PROFILE_BYTES_MAX
from pyswarm_core.errors import InvalidArgument
from pyswarm_core.specs import ContainerSpec, Device, NetworkAttachment
from pyswarm_core.validation import service_problems
from pyswarm_core.validation.isolation import is_mount_path
from tests.fixtures import build


def problems(networks: tuple[str, ...] = (), **changes: object) -> list[str]:
    spec = build.service("web").spec
    template = spec.task_template
    container = replace(template.container_spec, **changes)
    joined = tuple(NetworkAttachment(target=name) for name in networks)
    template = replace(template, container_spec=container, networks=joined)
    return [str(problem) for problem in service_problems(replace(spec, task_template=template))]


# tmpfs


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("", ("nosuid", "noexec", "nodev")),
        ("rw,noexec,size=64m", ("nosuid", "noexec", "nodev", "rw", "size=64m")),
        ("exec,dev,suid", ("exec", "dev", "suid")),
        ("ro,rw", ("nosuid", "noexec", "nodev", "rw")),
        ("exec,noexec,mode=1777", ("nosuid", "nodev", "noexec", "mode=1777")),
        ("size=1k,size=10%,uid=0", ("nosuid", "noexec", "nodev", "size=10%", "uid=0")),
        ("nr_inodes=1m,,", ("nosuid", "noexec", "nodev", "nr_inodes=1m")),
    ],
)
def test_options_of_a_tmpfs_change_dockers_defaults(text: str, options: tuple[str, ...]) -> None:
    assert tmpfs.mount_options(text) == options


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("bind", "expected size=, mode="),
        ("size", "expected size=, mode="),
        ("rw=1", "expected size=, mode="),
        ("size=0", "expected a size such as 64m or 10% after size="),
        ("size=200%", "a size such as"),
        ("mode=9", "an octal mode such as 1777 after mode="),
        ("uid=-1", "a number after uid="),
        ("lowerdir=/", "expected size=, mode="),
    ],
)
def test_other_options_of_a_tmpfs_are_refused(text: str, reason: str) -> None:
    with pytest.raises(InvalidArgument, match=reason):
        tmpfs.mount_options(text)


def test_a_path_has_options_after_a_colon() -> None:
    assert tmpfs.split("/run") == ("/run", "")
    assert tmpfs.split("/run:rw,size=1m") == ("/run", "rw,size=1m")


# Devices


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("/dev/fuse", ("/dev/fuse", "/dev/fuse", "rwm")),
        ("/dev/fuse:/dev/x", ("/dev/fuse", "/dev/x", "rwm")),
        ("/dev/fuse:rw", ("/dev/fuse", "/dev/fuse", "rw")),
        ("/dev/fuse:/dev/x:r", ("/dev/fuse", "/dev/x", "r")),
    ],
)
def test_a_device_has_its_path_and_permissions(text: str, found: tuple[str, str, str]) -> None:
    device = security.device(text)
    assert (device.path_on_host, device.path_in_container, device.cgroup_permissions) == found


@pytest.mark.parametrize("text", ["", ":", ":/x", "/a:/b:rw:r"])
def test_a_device_without_a_path_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgument, match="expected HOST"):
        security.device(text)


# Security options


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ((), {}),
        (("no-new-privileges",), {"no_new_privileges": True}),
        (("no-new-privileges:true",), {"no_new_privileges": True}),
        (("no-new-privileges=false",), {"no_new_privileges": False}),
        (("seccomp=unconfined",), {"seccomp": "unconfined"}),
        (("seccomp:unconfined", "seccomp=builtin"), {"seccomp": ""}),
        (("apparmor=unconfined",), {"apparmor": "unconfined"}),
        (("apparmor=docker-default",), {"apparmor": "docker-default"}),
        (("systempaths=unconfined", "label=disable"), {"system_paths": True}),
    ],
)
def test_security_options_have_dockers_meaning(
    options: tuple[str, ...], found: dict[str, Any]
) -> None:
    assert security.read(options) == security.SecurityOptions(**found)


@pytest.mark.parametrize(
    ("option", "reason"),
    [
        ("", "expected no-new-privileges"),
        ("nonsense", "expected no-new-privileges"),
        ("no-new-privileges=maybe", "expected no-new-privileges"),
        ("seccomp", "expected no-new-privileges"),
        ("seccomp=/some/file", "expected the JSON of a seccomp profile"),
        ("apparmor", "expected no-new-privileges"),
        ("apparmor=a b", "expected no-new-privileges"),
        ("systempaths=confined", "expected no-new-privileges"),
        ("label=type:svirt_t", "expected label=disable: hosts apply no SELinux labels"),
    ],
)
def test_other_security_options_are_refused(option: str, reason: str) -> None:
    with pytest.raises(InvalidArgument, match=reason):
        security.read((option,))


def test_only_a_profile_needs_apparmor() -> None:
    assert security.needs_apparmor(("no-new-privileges", "apparmor=mine"))
    assert not security.needs_apparmor(("apparmor=mine", "apparmor=unconfined"))
    assert not security.needs_apparmor(("seccomp=unconfined",))


def test_what_gives_power_over_a_host_is_named_with_its_flag() -> None:
    spec = ContainerSpec(
        image="web:1",
        privileged=True,
        pid_mode="host",
        ipc_mode="host",
        uts_mode="host",
        cgroupns_mode="host",
        devices=(Device(path_on_host="/dev/fuse"),),
        device_cgroup_rules=("c 1:1 r",),
        security_opt=("no-new-privileges", "seccomp={}" + " " * 99, "systempaths=unconfined"),
    )
    assert list(security.powers(spec)) == [
        ("--privileged", "true"),
        ("--pid", "host"),
        ("--ipc", "host"),
        ("--uts", "host"),
        ("--cgroupns", "host"),
        ("--device", "/dev/fuse"),
        ("--device-cgroup-rule", "c 1:1 r"),
        ("--security-opt", "seccomp=FILE"),
        ("--security-opt", "systempaths=unconfined"),
    ]
    harmless = ContainerSpec(
        image="web:1",
        tmpfs={"/x": ""},
        shm_size=1 << 20,
        ipc_mode="shareable",
        userns_mode="auto",
        cgroupns_mode="private",
        security_opt=("no-new-privileges=false", "seccomp=builtin", "label=disable"),
    )
    assert list(security.powers(harmless)) == []


# Seccomp profiles

RULES: list[dict[str, Any]] = [
    {"names": ["a"], "action": "SCMP_ACT_ALLOW", "args": None, "comment": "", "includes": {}},
    {"name": "b", "action": "SCMP_ACT_ERRNO", "errnoRet": 5},
    {"names": ["c"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_ADMIN"]}},
    {"names": ["d"], "action": "SCMP_ACT_ALLOW", "excludes": {"caps": ["CAP_SYS_ADMIN"]}},
    {"names": ["e"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "4.8"}},
    {"names": ["f"], "action": "SCMP_ACT_ALLOW", "includes": {"arches": ["amd64"]}},
    {"names": ["g"], "action": "SCMP_ACT_ALLOW", "excludes": {"arches": ["amd64", "x86"]}},
    {
        "names": ["h"],
        "action": "SCMP_ACT_ALLOW",
        "args": [{"index": 0, "value": 8, "valueTwo": 1, "op": "SCMP_CMP_MASKED_EQ"}],
    },
]
PROFILE = {
    "defaultAction": "SCMP_ACT_ERRNO",
    "defaultErrnoRet": 38,
    "archMap": [
        {"architecture": "SCMP_ARCH_AARCH64", "subArchitectures": ["SCMP_ARCH_ARM"]},
        {
            "architecture": "SCMP_ARCH_X86_64",
            "subArchitectures": ["SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        },
        {"architecture": "SCMP_ARCH_S390X", "subArchitectures": None},
    ],
    "syscalls": RULES,
}


def section(machine: str, kernel: tuple[int, int], *capabilities: str) -> dict[str, Any]:
    profile = seccomp.parse(json.dumps(PROFILE))
    return seccomp.section(profile, frozenset(capabilities), machine, kernel)


def names(found: dict[str, Any]) -> str:
    return "".join(name for rule in found["syscalls"] for name in rule["names"])


def test_a_profile_is_reduced_to_the_container_and_its_host() -> None:
    found = section("x86_64", (6, 1))
    assert (found["defaultAction"], found["defaultErrnoRet"]) == ("SCMP_ACT_ERRNO", 38)
    assert found["architectures"] == ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]
    assert names(found) == "abdefh"
    assert found["syscalls"][0] == {"names": ["a"], "action": "SCMP_ACT_ALLOW"}
    assert found["syscalls"][1] == {"names": ["b"], "action": "SCMP_ACT_ERRNO", "errnoRet": 5}
    (argument,) = found["syscalls"][-1]["args"]
    assert argument == {"index": 0, "op": "SCMP_CMP_MASKED_EQ", "value": 8, "valueTwo": 1}


def test_rules_of_a_profile_depend_on_capabilities_kernel_and_architecture() -> None:
    assert names(section("x86_64", (6, 1), "CAP_SYS_ADMIN")) == "abcefh"
    assert names(section("x86_64", (4, 7))) == "abdfh"
    assert names(section("aarch64", (6, 1))) == "abdegh"
    assert section("s390x", (6, 1))["architectures"] == ["SCMP_ARCH_S390X"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"defaultAction": "SCMP_ACT_NOTIFY"}, "SCMP_ACT_NOTIFY"),
        ({"listenerPath": "/run/x"}, "listenerPath is not supported"),
        ({"architectures": ["SCMP_ARCH_X86"]}, "both architectures and archMap"),
        ({"flags": ["SECCOMP_FILTER_FLAG_NEW_LISTENER"]}, "is not one of"),
        ({"syscalls": [{"action": "SCMP_ACT_ALLOW"}]}, "a name or names"),
        ({"syscalls": [{"name": "a", "names": ["b"], "action": "SCMP_ACT_LOG"}]}, "name or names"),
        ({"syscalls": [{"name": "a", "action": "ALWAYS"}]}, "ALWAYS"),
        ({"syscalls": [{"name": 1, "action": "SCMP_ACT_ALLOW"}]}, "str"),
        ({"syscalls": "none"}, "array"),
        (
            {"syscalls": [RULES[0] | {"args": [{"index": 6, "op": "SCMP_CMP_EQ"}]}]},
            "index is 0 to 5",
        ),
        ({"syscalls": [RULES[0] | {"args": [{"index": 0, "op": "IS"}]}]}, "op 'IS'"),
        (
            {"syscalls": [RULES[0] | {"args": [{"index": 0, "op": "SCMP_CMP_EQ", "value": -1}]}]},
            "value is 0 to",
        ),
        ({"syscalls": [RULES[0] | {"includes": {"minKernel": "new"}}]}, "minKernel"),
        ({"x": "y" * PROFILE_BYTES_MAX}, "at most 64 KiB"),
    ],
)
def test_a_profile_that_is_not_valid_says_why(change: dict[str, Any], reason: str) -> None:
    with pytest.raises(InvalidArgument, match=reason):
        seccomp.parse(json.dumps(PROFILE | change))


@pytest.mark.parametrize("text", ["", "[]", "{}", "null", "{", "[" * 50_000])
def test_what_is_no_profile_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgument, match="expected the JSON of a seccomp profile"):
        seccomp.parse(text)


# Specs


@pytest.mark.parametrize(
    "changes",
    [
        {"tmpfs": {"/run": "size=1m", "/dev/shm": "", "/a/b/": "exec"}},
        {"shm_size": 1 << 30},
        {"pid_mode": "host", "ipc_mode": "host", "uts_mode": "host", "privileged": True},
        {"userns_mode": "host", "privileged": True},
        {"userns_mode": "auto", "ipc_mode": "none", "cgroupns_mode": "private"},
        {"devices": (Device(path_on_host="/dev/fuse", cgroup_permissions="r"),)},
        {"device_cgroup_rules": ("c 10:200 rwm", "b *:* r", "a *:* m")},
        {"security_opt": (f"seccomp={json.dumps(PROFILE)}", "no-new-privileges")},
        {"uts_mode": "host", "sysctls": {"kernel.sem": "1"}},
    ],
)
def test_what_a_runtime_accepts_is_allowed(changes: dict[str, Any]) -> None:
    assert problems(**changes) == []


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"pid_mode": "private"}, '--pid: value "private" is not valid: expected host'),
        ({"pid_mode": "container:web"}, "expected host: a task shares its namespaces with no"),
        ({"ipc_mode": "public"}, "--ipc: .*expected host, private, shareable or none"),
        ({"ipc_mode": "container:x"}, "shares its namespaces with no other container"),
        ({"uts_mode": "private"}, "--uts: .* expected host"),
        ({"userns_mode": "keep-id"}, "--userns: .* expected auto, host or private"),
        ({"cgroupns_mode": "x"}, "--cgroupns: .* expected host or private"),
        ({"tmpfs": {"run": ""}}, "--tmpfs: .* expected an absolute path"),
        ({"tmpfs": {"/a/../b": ""}}, "--tmpfs: .* expected an absolute path"),
        ({"tmpfs": {"/": ""}}, "outside of /proc and /sys"),
        ({"tmpfs": {"/proc/x": ""}}, "outside of /proc and /sys"),
        ({"tmpfs": {"/dev/": ""}}, "outside of /proc and /sys"),
        ({"tmpfs": {"/run": "bind"}}, '"/run:bind" is not valid: expected size='),
        ({"tmpfs": {f"/{n}": "" for n in range(65)}}, "--tmpfs: count 65 .* at most 64"),
        ({"shm_size": 1}, "--shm-size: value 1 is not valid: expected 0, or 4KiB to 256TiB"),
        ({"shm_size": 1 << 20, "ipc_mode": "host"}, "--shm-size: .* expected no --ipc host"),
        ({"shm_size": 1 << 20, "ipc_mode": "none"}, "--shm-size: .* expected no --ipc none"),
        ({"security_opt": ("x",)}, '--security-opt: value "x" is not valid: expected no-new'),
        ({"security_opt": ("label=disable",) * 17}, "--security-opt: count 17"),
        ({"devices": (Device(path_on_host="fuse"),)}, '--device: value "fuse:fuse:rwm"'),
        (
            {"devices": (Device(path_on_host="/dev/a", cgroup_permissions="rr"),)},
            "expected permissions of r, w and m, each once",
        ),
        ({"devices": (Device(path_on_host="/dev/a"),) * 65}, "--device: count 65"),
        ({"device_cgroup_rules": ("d 1:1 r",)}, "--device-cgroup-rule: .*'c 10:200 rwm'"),
        ({"device_cgroup_rules": ("c 1 r",)}, "--device-cgroup-rule"),
        ({"uts_mode": "host", "hostname": "own"}, "--hostname: .* expected no --uts host"),
        ({"uts_mode": "host", "sysctls": {"kernel.domainname": "x"}}, "no --uts host"),
        ({"ipc_mode": "host", "sysctls": {"kernel.sem": "1"}}, "no --ipc host"),
        ({"ipc_mode": "host", "sysctls": {"fs.mqueue.msg_max": "1"}}, "no --ipc host"),
        ({"userns_mode": "auto", "sysctls": {"net.core.somaxconn": "9"}}, "no --userns auto"),
        ({"userns_mode": "auto", "oom_score_adj": -1}, "--oom-score-adj: .* with --userns auto"),
        ({"userns_mode": "auto", "pid_mode": "host"}, "--userns: .* expected no --pid host"),
        ({"userns_mode": "private", "ipc_mode": "host"}, "--userns: .* no --ipc host"),
        ({"userns_mode": "auto", "privileged": True}, "--userns: .* expected no --privileged"),
    ],
)
def test_what_no_runtime_accepts_is_refused(changes: dict[str, Any], told: str) -> None:
    found = problems(**changes)
    assert len(found) == 1
    assert re.search(told, found[0]), found


def test_a_user_namespace_and_the_hosts_network_exclude_each_other() -> None:
    (told,) = problems(("host",), userns_mode="auto")
    assert told.endswith("expected no --network host")


@pytest.mark.parametrize(
    ("path", "valid"),
    [
        *((path, True) for path in ("/a", "/", "/a/", "/a b:c")),
        *((path, False) for path in ("a", "", "//a", "/a/./b", "/a\x1b", "/" + "a" * 4096)),
    ],
)
def test_paths_of_mounts_are_clean(path: str, valid: bool) -> None:
    assert is_mount_path(path) == valid
