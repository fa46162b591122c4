"""The process of a container: command line, environment, capabilities, rlimits. PURE.

Defaults are Docker's. As in Docker, a service's command replaces the image's entrypoint and its
arguments; arguments alone replace only the image's arguments.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from signal import SIGRTMAX, SIGRTMIN, Signals
from typing import Any

from agent.images.base import ImageConfig
from agent.runtime.program.users import User
from pyswarm_core.docker.isolation import security
from pyswarm_core.errors import InvalidArgument
from pyswarm_core.specs import ContainerSpec

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

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


def environment(
    image: ImageConfig, spec: ContainerSpec, hostname: str, home: str, of_host: Iterable[str] = ()
) -> list[str]:
    """`NAME=value` in the order of first use; later values win, those of the host last; a bare
    `NAME` removes one.
    """
    values = {"PATH": DEFAULT_PATH, "HOSTNAME": hostname}
    if spec.tty:
        values["TERM"] = "xterm"
    for entry in (*image.env, *spec.env, *of_host):
        name, given, value = entry.partition("=")
        if given:
            values[name] = value
        else:
            values.pop(name, None)
    values.setdefault("HOME", home)
    return [f"{name}={value}" for name, value in values.items()]


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
    *,
    bounding: Sequence[str],
) -> dict[str, Any]:
    """The `process` section of a program with those capabilities at most. Only root has them
    effective, as in Docker. Programs of a privileged container may gain privileges unless the spec
    forbids it.
    """
    effective = list(bounding) if user.uid == 0 else []
    options = security.read(spec.security_opt)
    forbidden = options.no_new_privileges
    confined = options.apparmor not in ("", security.UNCONFINED)
    profile = {"apparmorProfile": options.apparmor} if confined else {}
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
        "capabilities": {
            "bounding": list(bounding),
            "effective": effective,
            "permitted": effective,
        },
        "rlimits": [_rlimit(u.name, u.soft, u.hard) for u in spec.ulimits],
        "noNewPrivileges": not spec.privileged if forbidden is None else forbidden,
        "oomScoreAdj": spec.oom_score_adj,
        **profile,
    }


def _rlimit(name: str, soft: int, hard: int) -> Mapping[str, object]:
    unlimited = 2**64 - 1
    return {
        "type": f"RLIMIT_{name.upper()}",
        "soft": soft if soft >= 0 else unlimited,
        "hard": hard if hard >= 0 else unlimited,
    }


def stop_signal_number(stop_signal: str) -> int:
    """The number of the stop signal; SIGTERM if it does not exist: an image may name any text."""
    try:
        return signal_number(stop_signal)
    except InvalidArgument:
        return Signals.SIGTERM
