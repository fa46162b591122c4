"""Flags that set one field of a service spec, for `service create` and `update`. PURE.

Each flag is a row: of NUMBERS with the path of its field, or of SINGLE with that and the function
that parses its text. A flag that is not given leaves the field as it is.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

import msgspec

from cli.errors import parsed
from pyswarm_core.docker import entries
from pyswarm_core.docker.checks import DURATIONS, PROBES
from pyswarm_core.errors import InvalidArgument, as_flag
from pyswarm_core.specs import (
    EndpointMode,
    FailureAction,
    ReplicatedMode,
    RestartCondition,
    ServiceSpec,
    UpdateOrder,
)
from pyswarm_core.validation.ranges import RANGES

S = TypeVar("S", bound=msgspec.Struct)
Read = Callable[[Any], Any]

CONDITIONS = tuple(condition.value for condition in RestartCondition)
ENDPOINT_MODES = tuple(mode.value for mode in EndpointMode)
ORDERS = tuple(order.value for order in UpdateOrder)
UPDATE_ACTIONS = tuple(action.value for action in FailureAction)
ROLLBACK_ACTIONS = tuple(word for word in UPDATE_ACTIONS if word != FailureAction.ROLLBACK)


def _as_given(value: Any) -> Any:
    return value


_CONTAINER = "task_template.container_spec."
_LIMITS = "task_template.resources.limits."
_RESERVED = "task_template.resources.reservations."
_RESTART = "task_template.restart_policy."


def _update(prefix: str, path: str) -> dict[str, tuple[str, Read]]:
    """The rows of the words in the settings of updates or rollbacks."""
    return {
        f"{prefix}_failure_action": (f"{path}.failure_action", FailureAction),
        f"{prefix}_order": (f"{path}.order", UpdateOrder),
    }


def _numbers(prefix: str, path: str, names: Iterable[str]) -> dict[str, str]:
    return {f"{prefix}_{name}": f"{path}.{name}" for name in names}


_CHECK_NUMBERS = (*DURATIONS, "retries")
_UPDATE_NUMBERS = ("parallelism", "delay", "monitor", "max_failure_ratio")

NUMBERS: Mapping[str, str] = {
    "stop_grace_period": _CONTAINER + "stop_grace_period",
    "stop_timeout": _CONTAINER + "stop_grace_period",
    "shm_size": _CONTAINER + "shm_size",
    "oom_score_adj": _CONTAINER + "oom_score_adj",
    "limit_cpu": _LIMITS + "nano_cpus",
    "limit_memory": _LIMITS + "memory_bytes",
    "limit_pids": _LIMITS + "pids",
    "memory_reservation": _LIMITS + "memory_reservation",
    "cpu_shares": _LIMITS + "cpu_shares",
    "cpu_period": _LIMITS + "cpu_period",
    "cpu_quota": _LIMITS + "cpu_quota",
    "blkio_weight": _LIMITS + "blkio_weight",
    "net_egress": _LIMITS + "net_egress",
    "net_ingress": _LIMITS + "net_ingress",
    "reserve_cpu": _RESERVED + "nano_cpus",
    "reserve_memory": _RESERVED + "memory_bytes",
    "memory_swap": "task_template.resources.swap_bytes",
    "memory_swappiness": "task_template.resources.memory_swappiness",
    "replicas_max_per_node": "task_template.placement.max_replicas",
    **_numbers("restart", _RESTART[:-1], ("delay", "max_attempts", "window", "max_delay")),
    **_numbers("health", _CONTAINER + "healthcheck", _CHECK_NUMBERS),
    **_numbers("ready", _CONTAINER + "readiness", _CHECK_NUMBERS),
    **_numbers("update", "update_config", _UPDATE_NUMBERS),
    **_numbers("rollback", "rollback_config", _UPDATE_NUMBERS),
}
"""Parameter -> path of the number in the spec; RANGES reads it."""
SINGLE: Mapping[str, tuple[str, Read]] = {
    "image": (_CONTAINER + "image", _as_given),
    "entrypoint": (_CONTAINER + "command", entries.command),
    "hostname": (_CONTAINER + "hostname", _as_given),
    "workdir": (_CONTAINER + "dir", _as_given),
    "user": (_CONTAINER + "user", _as_given),
    "tty": (_CONTAINER + "tty", _as_given),
    "init": (_CONTAINER + "init", _as_given),
    "read_only": (_CONTAINER + "read_only", _as_given),
    "privileged": (_CONTAINER + "privileged", _as_given),
    **{
        kind: (f"{_CONTAINER}{kind}_mode", _as_given)
        for kind in ("pid", "ipc", "uts", "userns", "cgroupns")
    },
    "cpuset_cpus": (_LIMITS + "cpuset_cpus", _as_given),
    "cpuset_mems": (_LIMITS + "cpuset_mems", _as_given),
    "oom_kill_disable": ("task_template.resources.oom_kill_disable", _as_given),
    "mac_address": (_CONTAINER + "mac_address", str.lower),
    "stop_signal": (_CONTAINER + "stop_signal", _as_given),
    "restart_condition": (_RESTART + "condition", RestartCondition),
    "allow_fleet_api": ("task_template.allow_fleet_api", _as_given),
    "volume_placement": ("task_template.placement.volumes", _as_given),
    "endpoint_mode": ("endpoint_spec.mode", EndpointMode),
    **_update("update", "update_config"),
    **_update("rollback", "rollback_config"),
}
"""Parameter -> path of the field in the spec, parser of its text."""
_TYPED = (
    *NUMBERS,
    *(f"{check}_{kind.lower()}" for check in ("health", "ready") for kind in PROBES),
)


def with_single(spec: ServiceSpec, given: Mapping[str, Any]) -> ServiceSpec:
    """The spec with the flags of NUMBERS and SINGLE that were given. Raises InvalidArgument."""
    for path, value in values(given):
        spec = put(spec, path, value)
    return spec


def values(given: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """The path and the value of each of these flags. Raises InvalidArgument."""
    if given.get("stop_timeout") is not None and given.get("stop_grace_period") is not None:
        text = "--stop-timeout conflicts with --stop-grace-period: expected one of them"
        raise InvalidArgument(text)
    numbers = [
        (path, RANGES[as_flag(name)].read(as_flag(name), given[name]))
        for name, path in NUMBERS.items()
        if given.get(name) is not None
    ]
    others = [
        (path, parsed(as_flag(name), read, given[name]))
        for name, (path, read) in SINGLE.items()
        if given.get(name) is not None
    ]
    return numbers + others


def typed(given: Mapping[str, Any]) -> dict[str, str]:
    """Flag -> its text, of numbers and checks: the spec has them in another form."""
    return {as_flag(name): given[name] for name in _TYPED if given.get(name) is not None}


def replicas(given: Mapping[str, Any]) -> int | None:
    """`--replicas`; None if it was not given. Raises InvalidArgument."""
    text = given["replicas"]
    number: int | None = None if text is None else RANGES["--replicas"].read("--replicas", text)
    return number


def with_replicas(
    spec: ServiceSpec, number: int | None, given_as: str = "--replicas"
) -> ServiceSpec:
    """The spec with that many replicas; None: unchanged. Raises InvalidArgument for other modes."""
    if number is None:
        return spec
    if spec.mode.is_container:
        reason = "a container has one replica, which keeps its writable layer"
        raise InvalidArgument(f"{given_as} can only be used with replicated mode: {reason}")
    if not isinstance(spec.mode, ReplicatedMode):
        raise InvalidArgument(f"{given_as} can only be used with replicated mode")
    return put(spec, "mode.replicas", number)


def put(value: S, path: str, new: Any) -> S:
    """A copy of the struct with the field at `path` (`a.b.c`) replaced."""
    field, _, rest = path.partition(".")
    inner = put(getattr(value, field), rest, new) if rest else new
    return msgspec.structs.replace(value, **{field: inner})
