"""Conditions of a seccomp profile are decided before the OCI runtime sees it."""

import json
from typing import Any

import pytest

from agent.tasks.ocispec_seccomp import seccomp_section


def rule(name: str, **conditions: Any) -> dict[str, Any]:
    return {"names": [name], "action": "SCMP_ACT_ALLOW", "args": None, **conditions}


PROFILE = json.dumps(
    {
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": 38,
        "archMap": [
            {"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]},
            {"architecture": "SCMP_ARCH_AARCH64", "subArchitectures": []},
        ],
        "syscalls": [
            rule("always"),
            rule("admin", includes={"caps": ["CAP_SYS_ADMIN"]}),
            rule("not_admin", excludes={"caps": ["CAP_SYS_ADMIN"]}),
            rule("arm", includes={"arches": ["arm64"]}),
            rule("new", includes={"minKernel": "4.8"}),
            rule("old", excludes={"minKernel": "4.8"}),
            {**rule("refused"), "action": "SCMP_ACT_ERRNO", "errnoRet": 1},
        ],
    }
).encode()


def names(section: dict[str, Any]) -> list[str]:
    return [name for written in section["syscalls"] for name in written["names"]]


@pytest.mark.parametrize(
    ("caps", "machine", "kernel", "allowed"),
    [
        ((), "x86_64", (6, 1), ["always", "not_admin", "new", "refused"]),
        (("CAP_SYS_ADMIN",), "x86_64", (6, 1), ["always", "admin", "new", "refused"]),
        ((), "aarch64", (4, 7), ["always", "not_admin", "arm", "old", "refused"]),
    ],
)
def test_rules_hold_by_capability_machine_and_kernel(
    caps: tuple[str, ...], machine: str, kernel: tuple[int, int], allowed: list[str]
) -> None:
    assert names(seccomp_section(PROFILE, frozenset(caps), machine, kernel)) == allowed


def test_architectures_and_error_numbers_are_kept() -> None:
    section = seccomp_section(PROFILE, frozenset(), "x86_64", (6, 1))
    assert section["architectures"] == ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"]
    assert section["defaultErrnoRet"] == 38
    assert section["syscalls"][-1]["errnoRet"] == 1
