"""From the distribution's seccomp profile to the section of an OCI config. PURE.

The profile (containers/common's seccomp.json) says for whom a rule holds: `includes` and `excludes`
by capability, architecture and kernel. The OCI section knows no conditions, so they are decided
here. Invariant: what the profile does not allow under these capabilities stays forbidden.
"""

import functools
from typing import Any

import msgspec

# Go's and the kernel's names of a machine, and the profile's `archMap` entry.
_ARCHITECTURES = {
    "x86_64": ("amd64", "SCMP_ARCH_X86_64"),
    "aarch64": ("arm64", "SCMP_ARCH_AARCH64"),
    "s390x": ("s390x", "SCMP_ARCH_S390X"),
    "ppc64le": ("ppc64le", "SCMP_ARCH_PPC64LE"),
    "riscv64": ("riscv64", "SCMP_ARCH_RISCV64"),
}


class _Condition(msgspec.Struct, frozen=True, rename="camel"):
    caps: tuple[str, ...] = ()
    arches: tuple[str, ...] = ()
    min_kernel: str = ""


class _Rule(msgspec.Struct, frozen=True, rename="camel"):
    action: str
    names: tuple[str, ...] = ()
    args: tuple[dict[str, Any], ...] | None = None
    errno_ret: int | None = None
    includes: _Condition | None = None
    excludes: _Condition | None = None


class _Architecture(msgspec.Struct, frozen=True, rename="camel"):
    architecture: str
    sub_architectures: tuple[str, ...] = ()


class _Profile(msgspec.Struct, frozen=True, rename="camel"):
    default_action: str
    default_errno_ret: int | None = None
    arch_map: tuple[_Architecture, ...] = ()
    syscalls: tuple[_Rule, ...] = ()


@functools.lru_cache(maxsize=64)
def seccomp_section(
    profile: bytes, capabilities: frozenset[str], machine: str, kernel: tuple[int, int]
) -> dict[str, Any]:
    """The `linux.seccomp` section for a process bounded by `capabilities`.

    `machine` is uname's. Callers share the result and must not change it. Raises
    msgspec.DecodeError if the profile is not one.
    """
    parsed = msgspec.json.decode(profile, type=_Profile)
    go_name, scmp_name = _ARCHITECTURES.get(machine, (machine, ""))
    known = [entry for entry in parsed.arch_map if entry.architecture == scmp_name]
    section: dict[str, Any] = {
        "defaultAction": parsed.default_action,
        "architectures": [
            name for entry in known for name in (entry.architecture, *entry.sub_architectures)
        ],
        "syscalls": [
            _oci_rule(rule)
            for rule in parsed.syscalls
            if _holds(rule, capabilities, go_name, kernel)
        ],
    }
    if parsed.default_errno_ret is not None:
        section["defaultErrnoRet"] = parsed.default_errno_ret
    return section


def _holds(
    rule: _Rule, capabilities: frozenset[str], architecture: str, kernel: tuple[int, int]
) -> bool:
    includes, excludes = rule.includes or _Condition(), rule.excludes or _Condition()
    return (
        capabilities.issuperset(includes.caps)
        and (not includes.arches or architecture in includes.arches)
        and (not includes.min_kernel or kernel >= _version(includes.min_kernel))
        and capabilities.isdisjoint(excludes.caps)
        and architecture not in excludes.arches
        and (not excludes.min_kernel or kernel < _version(excludes.min_kernel))
    )


def _version(text: str) -> tuple[int, int]:
    major, _, minor = text.partition(".")
    return int(major), int(minor or 0)


def _oci_rule(rule: _Rule) -> dict[str, Any]:
    written: dict[str, Any] = {"names": list(rule.names), "action": rule.action}
    if rule.args:
        written["args"] = [dict(argument) for argument in rule.args]
    if rule.errno_ret is not None:
        written["errnoRet"] = rule.errno_ret
    return written
