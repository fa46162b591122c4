"""Seccomp profiles in Docker's format: JSON, checked, and reduced to one container. PURE.

The format is that of the OCI's `linux.seccomp` with conditions on architecture, kernel and
capabilities (`includes`, `excludes`) and with `archMap`, as `docker run --security-opt
seccomp=FILE` reads it.
"""

from typing import Any

import msgspec

from pyswarm_core.errors import unfit

PROFILE_BYTES_MAX = 64 * 1024
"""Docker's own profile, the longest in common use, has 15 KiB."""

_ACTIONS = frozenset("KILL KILL_PROCESS KILL_THREAD TRAP ERRNO TRACE ALLOW LOG".split())
_OPERATORS = frozenset("NE LT LE EQ GE GT MASKED_EQ".split())
_FLAGS = frozenset(f"SECCOMP_FILTER_FLAG_{name}" for name in ("TSYNC", "LOG", "SPEC_ALLOW"))
_NAMES = {
    "x86_64": "amd64",
    "aarch64": "arm64",
    "i686": "x86",
    "armv7l": "arm",
}
"""The names of `includes.arches` that are not uname's."""


class Condition(msgspec.Struct, frozen=True, rename="camel"):
    """When a rule counts, or does not."""

    caps: tuple[str, ...] = ()
    arches: tuple[str, ...] = ()
    min_kernel: str = ""


class Argument(msgspec.Struct, frozen=True, rename="camel", omit_defaults=False):
    """A comparison of one argument of a call."""

    index: int
    op: str
    value: int = 0
    value_two: int = 0


class Rule(msgspec.Struct, frozen=True, rename="camel"):
    """What happens to some calls."""

    action: str
    name: str = ""
    names: tuple[str, ...] = ()
    errno_ret: int | None = None
    args: tuple[Argument, ...] | None = None
    includes: Condition = Condition()
    excludes: Condition = Condition()


class Architecture(msgspec.Struct, frozen=True, rename="camel"):
    """An architecture with those whose programs it also runs."""

    architecture: str
    sub_architectures: tuple[str, ...] | None = None


class Profile(msgspec.Struct, frozen=True, rename="camel"):
    """A profile; other fields of the JSON are comments."""

    default_action: str
    default_errno_ret: int | None = None
    architectures: tuple[str, ...] = ()
    arch_map: tuple[Architecture, ...] = ()
    syscalls: tuple[Rule, ...] | None = None
    flags: tuple[str, ...] = ()
    listener_path: str = ""


def parse(text: str) -> Profile:
    """The profile of the JSON. Raises InvalidArgument saying what is wrong with it."""
    if len(text.encode()) > PROFILE_BYTES_MAX:
        raise unfit(f"expected a seccomp profile of at most {PROFILE_BYTES_MAX >> 10} KiB")
    try:
        profile = msgspec.json.decode(text, type=Profile)
    except (msgspec.DecodeError, RecursionError) as error:
        raise unfit(f"expected the JSON of a seccomp profile: {error}") from None
    if problem := _problem(profile):
        raise unfit(f"expected the JSON of a seccomp profile: {problem}")
    return profile


def _problem(profile: Profile) -> str:
    rules = profile.syscalls or ()
    if profile.listener_path:
        return "listenerPath is not supported"
    if profile.architectures and profile.arch_map:
        return "it has both architectures and archMap"
    if unknown := [flag for flag in profile.flags if flag not in _FLAGS]:
        return f"flag {unknown[0][:40]!r} is not one of {', '.join(sorted(_FLAGS))}"
    for action in (profile.default_action, *(rule.action for rule in rules)):
        if action.removeprefix("SCMP_ACT_") not in _ACTIONS:
            return f"action {action[:40]!r} is not one of SCMP_ACT_{', '.join(sorted(_ACTIONS))}"
    return next(filter(None, map(_rule_problem, rules)), "")


def _rule_problem(rule: Rule) -> str:
    if bool(rule.name) == bool(rule.names):
        return "each of syscalls has a name or names"
    for argument in rule.args or ():
        if argument.op.removeprefix("SCMP_CMP_") not in _OPERATORS:
            return f"op {argument.op[:40]!r} is not one of SCMP_CMP_{', '.join(sorted(_OPERATORS))}"
        if not 0 <= argument.index <= 5:
            return "an argument's index is 0 to 5"
        if not all(0 <= value < 2**64 for value in (argument.value, argument.value_two)):
            return "an argument's value is 0 to 2^64 - 1"
    for condition in (rule.includes, rule.excludes):
        if condition.min_kernel and _version(condition.min_kernel) is None:
            return f"minKernel {condition.min_kernel[:40]!r} is no version such as 4.8"
    return ""


def section(
    profile: Profile, capabilities: frozenset[str], machine: str, kernel: tuple[int, int]
) -> dict[str, Any]:
    """The OCI's `linux.seccomp` for a process bounded by `capabilities`. `machine` is uname's,
    `kernel` its major and minor version.
    """
    native = f"SCMP_ARCH_{machine.upper()}"
    mapped = [
        name
        for each in profile.arch_map
        if each.architecture == native
        for name in (native, *(each.sub_architectures or ()))
    ]
    found: dict[str, Any] = {
        "defaultAction": profile.default_action,
        "architectures": list(profile.architectures) or mapped,
        "syscalls": [
            _call(rule)
            for rule in profile.syscalls or ()
            if _counts(rule, capabilities, _NAMES.get(machine, machine), kernel)
        ],
    }
    if profile.default_errno_ret is not None:
        found["defaultErrnoRet"] = profile.default_errno_ret
    if profile.flags:
        found["flags"] = list(profile.flags)
    return found


def _counts(
    rule: Rule, capabilities: frozenset[str], machine: str, kernel: tuple[int, int]
) -> bool:
    wanted, not_wanted = rule.includes, rule.excludes
    if wanted.arches and machine not in wanted.arches:
        return False
    if machine in not_wanted.arches:
        return False
    if not capabilities.issuperset(wanted.caps) or capabilities.intersection(not_wanted.caps):
        return False
    least, below = _version(wanted.min_kernel), _version(not_wanted.min_kernel)
    return (least is None or kernel >= least) and (below is None or kernel < below)


def _version(text: str) -> tuple[int, int] | None:
    major, dot, minor = text.partition(".")
    if not dot or not (major.isascii() and major.isdigit() and minor.isascii()):
        return None
    return (int(major), int(minor)) if minor.isdigit() else None


def _call(rule: Rule) -> dict[str, Any]:
    found: dict[str, Any] = {"names": list(rule.names or (rule.name,)), "action": rule.action}
    if rule.errno_ret is not None:
        found["errnoRet"] = rule.errno_ret
    if rule.args:
        found["args"] = [msgspec.to_builtins(argument) for argument in rule.args]
    return found
