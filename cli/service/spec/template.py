"""Flags that set one field of a service spec, for `service create` and `update`. PURE.

Each flag is a row of SINGLE: the path of its field and the function that parses its text. A flag
that is not given leaves the field as it is.
"""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import msgspec

from cli.errors import parsed
from pyswarm_core.docker import entries
from pyswarm_core.docker.units import parse_cpus, parse_duration, parse_size
from pyswarm_core.errors import InvalidArgument
from pyswarm_core.specs import (
    EndpointMode,
    FailureAction,
    ReplicatedMode,
    RestartCondition,
    ServiceSpec,
    UpdateOrder,
)

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


def _check(prefix: str, path: str) -> dict[str, tuple[str, Read]]:
    """The rows of a check's settings; its test is set in `checks.py`."""
    durations = ("interval", "timeout", "start_period", "start_interval")
    rows = {f"{prefix}_{name}": (f"{path}.{name}", parse_duration) for name in durations}
    return {**rows, f"{prefix}_retries": (f"{path}.retries", _as_given)}


def _update(prefix: str, path: str) -> dict[str, tuple[str, Read]]:
    """The rows of the settings of updates or rollbacks."""
    return {
        f"{prefix}_parallelism": (f"{path}.parallelism", _as_given),
        f"{prefix}_delay": (f"{path}.delay", parse_duration),
        f"{prefix}_monitor": (f"{path}.monitor", parse_duration),
        f"{prefix}_failure_action": (f"{path}.failure_action", FailureAction),
        f"{prefix}_max_failure_ratio": (f"{path}.max_failure_ratio", entries.ratio),
        f"{prefix}_order": (f"{path}.order", UpdateOrder),
    }


SINGLE: Mapping[str, tuple[str, Read]] = {
    "image": (_CONTAINER + "image", _as_given),
    "entrypoint": (_CONTAINER + "command", entries.command),
    "hostname": (_CONTAINER + "hostname", _as_given),
    "workdir": (_CONTAINER + "dir", _as_given),
    "user": (_CONTAINER + "user", _as_given),
    "tty": (_CONTAINER + "tty", _as_given),
    "init": (_CONTAINER + "init", _as_given),
    "read_only": (_CONTAINER + "read_only", _as_given),
    "stop_signal": (_CONTAINER + "stop_signal", _as_given),
    "stop_grace_period": (_CONTAINER + "stop_grace_period", parse_duration),
    "oom_score_adj": (_CONTAINER + "oom_score_adj", _as_given),
    "limit_cpu": (_LIMITS + "nano_cpus", parse_cpus),
    "limit_memory": (_LIMITS + "memory_bytes", parse_size),
    "limit_pids": (_LIMITS + "pids", _as_given),
    "reserve_cpu": (_RESERVED + "nano_cpus", parse_cpus),
    "reserve_memory": (_RESERVED + "memory_bytes", parse_size),
    "memory_swap": ("task_template.resources.swap_bytes", entries.swap),
    "memory_swappiness": ("task_template.resources.memory_swappiness", _as_given),
    "restart_condition": (_RESTART + "condition", RestartCondition),
    "restart_delay": (_RESTART + "delay", parse_duration),
    "restart_max_attempts": (_RESTART + "max_attempts", _as_given),
    "restart_window": (_RESTART + "window", parse_duration),
    "restart_max_delay": (_RESTART + "max_delay", parse_duration),
    "endpoint_mode": ("endpoint_spec.mode", EndpointMode),
    "replicas_max_per_node": ("task_template.placement.max_replicas", _as_given),
    **_check("health", _CONTAINER + "healthcheck"),
    **_check("ready", _CONTAINER + "readiness"),
    **_update("update", "update_config"),
    **_update("rollback", "rollback_config"),
}
"""Parameter -> path of the field in the spec, parser of its text."""


def with_single(spec: ServiceSpec, given: Mapping[str, Any]) -> ServiceSpec:
    """The spec with the flags of SINGLE that were given. Raises InvalidArgument."""
    for name, (path, read) in SINGLE.items():
        value = given.get(name)
        if value is None:
            continue
        spec = put(spec, path, parsed(f"--{name.replace('_', '-')}", read, value))
    return spec


def with_replicas(
    spec: ServiceSpec, replicas: int | None, given_as: str = "--replicas"
) -> ServiceSpec:
    """The spec with that many replicas; None: unchanged. Raises InvalidArgument for other modes."""
    if replicas is None:
        return spec
    if not isinstance(spec.mode, ReplicatedMode):
        raise InvalidArgument(f"{given_as} can only be used with replicated mode")
    return put(spec, "mode.replicas", replicas)


def put(value: S, path: str, new: Any) -> S:
    """A copy of the struct with the field at `path` (`a.b.c`) replaced."""
    field, _, rest = path.partition(".")
    inner = put(getattr(value, field), rest, new) if rest else new
    return msgspec.structs.replace(value, **{field: inner})
