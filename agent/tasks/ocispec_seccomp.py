"""The seccomp section of an OCI config: Docker's default profile for one set of capabilities. PURE.

Calls that Docker denies fail with EPERM, as in Docker. A call that neither the profile nor the
host's libseccomp knows fails with ENOSYS, as in Docker, so that programs built for newer kernels
fall back to older calls. So the default action is ENOSYS, and denied calls are listed: by name, and
calls that are denied by their arguments with those arguments. `personality` alone, whose denied
values cannot be written as conditions, fails with ENOSYS.
"""

import errno
import functools
from collections.abc import Iterator
from typing import Any

from agent.tasks.isolation import seccomp_rules as rules

ADMIN = "CAP_SYS_ADMIN"
_ALLOW = "SCMP_ACT_ALLOW"
_ERRNO = "SCMP_ACT_ERRNO"
_BY_ARGUMENT = frozenset({"socket", "personality", "clone", "clone3"})


@functools.lru_cache(maxsize=64)
def seccomp_section(
    capabilities: frozenset[str], machine: str, kernel: tuple[int, int]
) -> dict[str, Any]:
    """The `linux.seccomp` section for a process bounded by `capabilities`.

    `machine` is uname's, `kernel` its major and minor version. Callers share the result and must
    not change it.
    """
    allowed = rules.ALWAYS | rules.ON_MACHINE.get(machine, frozenset())
    for capability, names in rules.WITH_CAPABILITY.items():
        allowed |= names if capability in capabilities else frozenset()
    if kernel >= rules.PTRACE_KERNEL:
        allowed |= rules.PTRACE
    denied = rules.NEVER.union(rules.PTRACE, *rules.WITH_CAPABILITY.values())
    return {
        "defaultAction": _ERRNO,
        "defaultErrnoRet": errno.ENOSYS,
        "architectures": list(rules.ARCHITECTURES.get(machine, ())),
        "syscalls": [
            {"names": sorted(allowed), "action": _ALLOW},
            {
                "names": sorted(denied - allowed - _BY_ARGUMENT),
                "action": _ERRNO,
                "errnoRet": errno.EPERM,
            },
            *_socket(),
            *(_when("personality", "EQ", value) for value in rules.PERSONALITIES),
            *(() if ADMIN in capabilities else _clone(flags_at=int(machine == "s390x"))),
        ],
    }


def _socket() -> Iterator[dict[str, Any]]:
    below, known = rules.SOCKET_FAMILIES_BELOW, rules.SOCKET_FAMILIES
    yield _when("socket", "LT", below)
    for family in range(below, max(known) + 1):
        yield _when("socket", "EQ", family, allow=family in known)
    yield _when("socket", "GT", max(known), allow=False)


def _clone(*, flags_at: int) -> Iterator[dict[str, Any]]:
    """The rules of clone; `flags_at` is the index of the argument that holds the flags."""
    flags = rules.NAMESPACE_FLAGS.values()
    yield _masked(flags_at, sum(flags), 0, allow=True)
    for flag in flags:
        yield _masked(flags_at, flag, flag, allow=False)


def _masked(index: int, mask: int, value: int, *, allow: bool) -> dict[str, Any]:
    found = _when("clone", "MASKED_EQ", mask, allow=allow)
    found["args"][0] |= {"index": index, "valueTwo": value}
    return found


def _when(name: str, operator: str, value: int, *, allow: bool = True) -> dict[str, Any]:
    """A rule for a call with a condition on its first argument."""
    argument = {"index": 0, "value": value, "op": f"SCMP_CMP_{operator}"}
    rule: dict[str, Any] = {"names": [name], "action": _ALLOW, "args": [argument]}
    return rule if allow else {**rule, "action": _ERRNO, "errnoRet": errno.EPERM}
