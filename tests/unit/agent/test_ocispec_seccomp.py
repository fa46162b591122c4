"""The filter of a container, judged as the kernel would: by call, arguments and capabilities."""

import errno
from collections import Counter
from collections.abc import Iterable
from typing import Any

import pytest

from agent.tasks.isolation import seccomp_rules as rules
from agent.tasks.ocispec_seccomp import seccomp_section

ALLOWED = 0
DOCKERS = frozenset(
    f"CAP_{name}"
    for name in "CHOWN DAC_OVERRIDE FSETID FOWNER MKNOD NET_RAW SETGID SETUID SETFCAP SETPCAP "
    "NET_BIND_SERVICE SYS_CHROOT KILL AUDIT_WRITE".split()
)
NEWUSER, SIGCHLD = 0x10000000, 17
ADMIN_ONLY = (
    "mount umount2 unshare setns open_tree mount_setattr fsconfig fsopen fsmount fspick move_mount "
    "bpf perf_event_open syslog fanotify_init sethostname quotactl lookup_dcookie"
).split()


def _matches(argument: dict[str, Any], arguments: tuple[int, ...]) -> bool:
    operator: str = argument["op"]
    given: int = arguments[argument["index"]]
    value: int = argument["value"]
    match operator:
        case "SCMP_CMP_EQ":
            return given == value
        case "SCMP_CMP_LT":
            return given < value
        case "SCMP_CMP_GT":
            return given > value
        case "SCMP_CMP_MASKED_EQ":
            return given & value == int(argument["valueTwo"])
        case _:
            raise AssertionError(argument)


def answer(
    name: str,
    *arguments: int,
    caps: Iterable[str] = (),
    machine: str = "x86_64",
    kernel: tuple[int, int] = (6, 1),
) -> int:
    """ALLOWED or the error of a call; the rules must not contradict each other."""
    section = seccomp_section(DOCKERS.union(caps), machine, kernel)
    found = {
        ALLOWED if rule["action"] == "SCMP_ACT_ALLOW" else rule["errnoRet"]
        for rule in section["syscalls"]
        if name in rule["names"]
        and all(_matches(argument, arguments) for argument in rule.get("args", ()))
    }
    assert len(found) <= 1, (name, arguments, found)
    return found.pop() if found else section["defaultErrnoRet"]


@pytest.mark.parametrize("name", ADMIN_ONLY)
def test_what_changes_the_host_needs_sys_admin(name: str) -> None:
    assert answer(name) == errno.EPERM
    assert answer(name, caps=["CAP_SYS_ADMIN"]) == ALLOWED


@pytest.mark.parametrize(
    ("capability", "name"),
    [(cap, name) for cap, names in rules.WITH_CAPABILITY.items() for name in sorted(names)],
)
def test_a_capability_opens_its_calls_and_no_others(capability: str, name: str) -> None:
    assert answer(name, 0, caps=[capability]) == ALLOWED
    others = {cap for cap, names in rules.WITH_CAPABILITY.items() if name in names}
    unrelated = rules.WITH_CAPABILITY.keys() - others
    if not others & DOCKERS and name not in rules.PTRACE | {"clone"}:
        assert answer(name, 0, caps=unrelated) in (errno.EPERM, errno.ENOSYS)


@pytest.mark.parametrize("name", ["keyctl", "add_key", "userfaultfd", "io_uring_setup", "swapon"])
def test_some_calls_are_denied_to_everybody(name: str) -> None:
    assert answer(name, caps=rules.WITH_CAPABILITY) == errno.EPERM


@pytest.mark.parametrize("flag", rules.NAMESPACE_FLAGS.values())
@pytest.mark.parametrize(("machine", "at"), [("x86_64", 0), ("aarch64", 0), ("s390x", 1)])
def test_clone_makes_processes_but_no_namespaces(flag: int, machine: str, at: int) -> None:
    flags = [0, 0]
    flags[at] = SIGCHLD
    assert answer("clone", *flags, machine=machine) == ALLOWED
    flags[at] |= flag
    assert answer("clone", *flags, machine=machine) == errno.EPERM
    assert answer("clone", *flags, machine=machine, caps=["CAP_SYS_ADMIN"]) == ALLOWED


def test_clone3_does_not_exist_without_sys_admin() -> None:
    assert answer("clone3") == errno.ENOSYS
    assert answer("clone3", caps=["CAP_SYS_ADMIN"]) == ALLOWED


@pytest.mark.parametrize("family", [12, 38, 40, 46, 2**32 + 2, 2**32 + 40])
def test_sockets_of_other_families_are_denied(family: int) -> None:
    assert answer("socket", family, caps=rules.WITH_CAPABILITY) == errno.EPERM


@pytest.mark.parametrize("family", [1, 2, 10, 11, 16, 17, 39, 44])
def test_sockets_of_known_families_are_allowed(family: int) -> None:
    assert answer("socket", family) == ALLOWED


def test_only_harmless_personalities() -> None:
    assert {answer("personality", value) for value in rules.PERSONALITIES} == {ALLOWED}
    for value in (0x40000, 1, 0x20009, 2**32):
        assert answer("personality", value) != ALLOWED


def test_machine_and_kernel_decide() -> None:
    assert answer("arch_prctl") == ALLOWED
    assert answer("arch_prctl", machine="aarch64") == errno.ENOSYS
    assert answer("set_tls", machine="aarch64") == ALLOWED
    assert answer("ptrace") == ALLOWED
    assert answer("ptrace", kernel=(4, 7)) == errno.EPERM
    assert answer("ptrace", kernel=(4, 7), caps=["CAP_SYS_PTRACE"]) == ALLOWED
    assert seccomp_section(DOCKERS, "x86_64", (6, 1))["architectures"][0] == "SCMP_ARCH_X86_64"
    assert seccomp_section(DOCKERS, "vax", (6, 1))["architectures"] == []


def test_a_call_that_nobody_knows_does_not_exist() -> None:
    assert answer("made_up_in_2040") == errno.ENOSYS


@pytest.mark.parametrize("caps", [(), *((cap,) for cap in rules.WITH_CAPABILITY)])
def test_no_call_is_named_twice_without_a_condition(caps: tuple[str, ...]) -> None:
    section = seccomp_section(DOCKERS.union(caps), "x86_64", (6, 1))
    plain = [rule for rule in section["syscalls"] if not rule.get("args")]
    named = Counter(name for rule in plain for name in rule["names"])
    assert max(named.values()) == 1
    conditional = {
        name for rule in section["syscalls"] if rule.get("args") for name in rule["names"]
    }
    assert not conditional & named.keys()
    assert not rules.NEVER & rules.ALWAYS


@pytest.mark.parametrize("machine", ["x86_64", "s390x"])
def test_arguments_are_numbers_as_every_runtime_reads_them(machine: str) -> None:
    rules_of_clone = [
        rule
        for rule in seccomp_section(DOCKERS, machine, (6, 1))["syscalls"]
        if "clone" in rule["names"] and "args" in rule
    ]
    found = {type(argument["index"]) for rule in rules_of_clone for argument in rule["args"]}
    assert found == {int}
