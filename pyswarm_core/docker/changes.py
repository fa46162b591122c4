"""How numbers of fields are written where two versions of a spec are compared. PURE."""

from collections.abc import Callable, Mapping

from pyswarm_core.docker.units import format_cpus, format_duration, human_size

DOCUMENT_PARTS = ("TaskTemplate", "ContainerSpec", "Resources", "Mode", "Replicated")
"""Parts of a field's path that say nothing more about it."""
_DURATIONS = (
    "StopGracePeriod Interval Timeout StartPeriod StartInterval Delay Window MaxDelay Monitor"
    " CertExpiry HeartbeatPeriod AgentGrace"
)
NUMBERS: Mapping[str, Callable[[int], str]] = {
    **dict.fromkeys(_DURATIONS.split(), format_duration),
    "NanoCPUs": format_cpus,
    "MemoryBytes": human_size,
}
"""By the last part of the path."""
