"""Options of a task that agents of an earlier protocol ignore. PURE."""

from typing import Any

import msgspec

from pyswarm_core.specs import ContainerSpec, Limits, NetworkAttachment, Resources, TaskSpec

_KNOWN: dict[type[msgspec.Struct], str] = {
    ContainerSpec: (
        "image labels command args env dir user groups hostname init tty read_only stop_signal"
        " stop_grace_period capability_add capability_drop sysctls ulimits oom_score_adj hosts"
        " dns_config healthcheck readiness"
    ),
    Limits: "nano_cpus memory_bytes pids",
    Resources: "limits reservations swap_bytes memory_swappiness",
    NetworkAttachment: "target aliases ip",
}
"""The fields that agents of every protocol apply."""
_NEW: dict[type[msgspec.Struct], tuple[str, ...]] = {
    kind: tuple(name for name in kind.__struct_fields__ if name not in known.split())
    for kind, known in _KNOWN.items()
}


def sets_new_options(template: TaskSpec) -> bool:
    """Whether the task has options that agents before protocol 7 ignore without a word."""
    resources = template.resources
    parts: tuple[Any, ...] = (template.container_spec, resources, resources.limits)
    return any(
        getattr(part, name) for part in (*parts, *template.networks) for name in _NEW[type(part)]
    )
