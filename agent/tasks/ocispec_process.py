"""The process of a container: command line, environment, capabilities, rlimits. PURE.

Defaults are Docker's. As in Docker, a service's command replaces the image's entrypoint and its
arguments; arguments alone replace only the image's arguments.
"""

import re
from collections.abc import Iterable, Mapping
from signal import SIGRTMAX, SIGRTMIN, Signals
from typing import Any

from agent.images.base import ImageConfig
from agent.runtime.program.users import User
from pyswarm_core.errors import InvalidArgument
from pyswarm_core.specs import ContainerSpec

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

DEFAULT_CAPABILITIES = (
    "CAP_AUDIT_WRITE",
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_MKNOD",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_RAW",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
)

ALL_CAPABILITIES = (
    *DEFAULT_CAPABILITIES,
    *(
        "CAP_" + name
        for name in (
            "AUDIT_CONTROL AUDIT_READ BLOCK_SUSPEND BPF CHECKPOINT_RESTORE DAC_READ_SEARCH IPC_LOCK"
            " IPC_OWNER LEASE LINUX_IMMUTABLE MAC_ADMIN MAC_OVERRIDE NET_ADMIN NET_BROADCAST"
            " PERFMON SYSLOG SYS_ADMIN SYS_BOOT SYS_MODULE SYS_NICE SYS_PACCT SYS_PTRACE SYS_RAWIO"
            " SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG WAKE_ALARM"
        ).split()
    ),
)


_NUMBERED = re.compile(r"(?P<base>|RTMIN(?=\+)|RTMAX(?=-))(?P<offset>[+-]?[0-9]{1,2})", re.ASCII)
_BASES = {"": 0, "RTMIN": SIGRTMIN, "RTMAX": SIGRTMAX}


def command_line(image: ImageConfig, spec: ContainerSpec) -> tuple[str, ...]:
    """The command line. Raises InvalidArgument if neither image nor service has one."""
    if spec.command:
        words = (*spec.command, *spec.args)
    else:
        words = (*image.entrypoint, *(spec.args or image.cmd or ()))
    if not words:
        raise InvalidArgument(
            f"image {spec.image} has no command: specify one after the image's name"
        )
    return words


def environment(image: ImageConfig, spec: ContainerSpec, hostname: str, home: str) -> list[str]:
    """`NAME=value` in the order of first use; later values win; a bare `NAME` removes one."""
    values = {"PATH": DEFAULT_PATH, "HOSTNAME": hostname}
    if spec.tty:
        values["TERM"] = "xterm"
    for entry in (*image.env, *spec.env):
        name, given, value = entry.partition("=")
        if given:
            values[name] = value
        else:
            values.pop(name, None)
    values.setdefault("HOME", home)
    return [f"{name}={value}" for name, value in values.items()]


def capabilities(add: Iterable[str], drop: Iterable[str]) -> tuple[str, ...]:
    """Docker's default set with changes, sorted. `ALL` means every capability.

    Raises InvalidArgument for an unknown capability.
    """
    added, dropped = _normal(add), _normal(drop)
    kept = set() if "ALL" in dropped else set(DEFAULT_CAPABILITIES) - dropped
    if "ALL" in added:
        kept = set(ALL_CAPABILITIES) - dropped
    return tuple(sorted(kept | (added - {"ALL"})))


def _normal(names: Iterable[str]) -> set[str]:
    normal: set[str] = set()
    for name in names:
        upper = name.upper()
        full = upper if upper == "ALL" or upper.startswith("CAP_") else f"CAP_{upper}"
        if full != "ALL" and full not in ALL_CAPABILITIES:
            raise InvalidArgument(f"capability {name!r} is unknown; one is for example NET_ADMIN")
        normal.add(full)
    return normal


def signal_number(text: str) -> int:
    """`SIGTERM`, `TERM`, `15`, `RTMIN+3` or `RTMAX-3` as a number. Raises InvalidArgument for
    others.
    """
    name = text.upper().removeprefix("SIG")
    if found := _NUMBERED.fullmatch(name):
        number = _BASES[found["base"]] + int(found["offset"])
        if 0 < number <= SIGRTMAX:
            return number
    if f"SIG{name}" in Signals.__members__:
        return Signals[f"SIG{name}"].value
    raise InvalidArgument(f"signal {text!r} is unknown; one is for example SIGTERM or 15")


def process_section(
    words: tuple[str, ...],
    env: list[str],
    user: User,
    image: ImageConfig,
    spec: ContainerSpec,
) -> dict[str, Any]:
    """The `process` section. Only root keeps its capabilities effective, as in Docker."""
    bounding = list(capabilities(spec.capability_add, spec.capability_drop))
    effective = bounding if user.uid == 0 else []
    return {
        "terminal": spec.tty,
        "user": {
            "uid": user.uid,
            "gid": user.gid,
            "additionalGids": list(user.additional_gids),
        },
        "args": list(words),
        "env": env,
        "cwd": spec.dir or image.workdir or "/",
        "capabilities": {"bounding": bounding, "effective": effective, "permitted": effective},
        "rlimits": [_rlimit(u.name, u.soft, u.hard) for u in spec.ulimits],
        "noNewPrivileges": True,
        "oomScoreAdj": spec.oom_score_adj,
    }


def _rlimit(name: str, soft: int, hard: int) -> Mapping[str, object]:
    unlimited = 2**64 - 1
    return {
        "type": f"RLIMIT_{name.upper()}",
        "soft": soft if soft >= 0 else unlimited,
        "hard": hard if hard >= 0 else unlimited,
    }
