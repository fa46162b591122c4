"""`deploy`, `restart`, `scale`, `platform`: mode, placement, restarts, updates. PURE."""

from collections.abc import Mapping
from typing import Any

from compose.mapping.scope import Service
from compose.tree import Path
from pyswarm_core.constraints import parse_preference
from pyswarm_core.docker import entries
from pyswarm_core.docker.containers import restarts
from pyswarm_core.docker.units import parse_duration
from pyswarm_core.specs import (
    FailureAction,
    GlobalMode,
    Placement,
    ReplicatedMode,
    RestartCondition,
    RestartPolicy,
    ServiceMode,
    UpdateConfig,
    UpdateOrder,
)

_RESTART: Path = ("deploy", "restart_policy")


def mode(service: Service) -> ServiceMode:
    """The mode, with the number of replicas of `--scale`, `deploy.replicas` or `scale`."""
    scaled = service.scope.options.scales.get(service.short)
    if service.value("deploy", "mode") == "global":
        if scaled is not None:
            text = "a service of mode global has no number of replicas: expected no --scale of it"
            service.fault(service.get("deploy", "mode"), ("deploy", "mode"), text)
        return GlobalMode()
    return ReplicatedMode(replicas=written_replicas(service) if scaled is None else scaled)


def written_replicas(service: Service) -> int:
    """The number of replicas that the file gives."""
    for keys in (("deploy", "replicas"), ("scale",)):
        if (node := service.get(*keys)) is not None:
            return int(node.value)
    return 1


def placement(service: Service) -> Placement:
    """Constraints, also that of `platform`, and preferences."""
    below = ("deploy", "placement")
    found = service.parsed(("platform",), entries.platform) or ()
    preferences = []
    for number, entry in enumerate(service.node.list(*below, "preferences")):
        if (spread := entry.get("spread")) is None:
            continue
        at = service.at(*below, "preferences", number, "spread")
        read = service.scope.parsed(spread, at, parse_preference, spread.value)
        preferences += [read] if read is not None else []
    return Placement(
        constraints=(*service.texts(*below, "constraints"), *found),
        preferences=tuple(preferences),
        max_replicas=service.value(*below, "max_replicas_per_node") or 0,
    )


def restart_policy(service: Service) -> RestartPolicy:
    """`deploy.restart_policy`, else `restart`. Without both, Docker's stacks restart every task,
    and Compose none; a task whose node is lost is replaced in any case.
    """
    if service.get(*map(str, _RESTART)) is not None:
        condition = service.value("deploy", "restart_policy", "condition")
        return RestartPolicy(
            condition=RestartCondition(condition or RestartCondition.ANY),
            max_attempts=service.value("deploy", "restart_policy", "max_attempts") or 0,
            **_durations(service, _RESTART, "delay", "window"),
        )
    policy = service.parsed(("restart",), restarts.policy)
    if policy is None:
        return RestartPolicy() if service.scope.options.is_stack else restarts.policy("no")
    if service.scope.options.is_stack:
        return RestartPolicy(condition=policy.condition, max_attempts=policy.max_attempts)
    return policy


def _durations(service: Service, keys: Path, *names: str) -> dict[str, Any]:
    found = {name: service.parsed((*keys, name), parse_duration) for name in names}
    return {name: value for name, value in found.items() if value is not None}


_WORDS: Mapping[str, type[FailureAction] | type[UpdateOrder]] = {
    "failure_action": FailureAction,
    "order": UpdateOrder,
}


def changes(service: Service, key: str) -> UpdateConfig:
    """`deploy.update_config` or `deploy.rollback_config`."""
    keys = ("deploy", key)
    found = _durations(service, keys, "delay", "monitor")
    for name in ("parallelism", "max_failure_ratio"):
        if (value := service.value(*keys, name)) is not None:
            found[name] = value
    for name, words in _WORDS.items():
        if (value := service.value(*keys, name)) is not None:
            found[name] = words(value)
    return UpdateConfig(**found)
