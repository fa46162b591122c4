"""The check that a task has: its spec's over its image's, over the engine's defaults. PURE.

As in Docker: a field of the spec that is 0 or empty has the image's value, otherwise the default.
"""

from pyswarm_core.clock import MILLISECOND
from pyswarm_core.limits import (
    HEALTH_INTERVAL,
    HEALTH_RETRIES,
    HEALTH_START_INTERVAL,
    HEALTH_TIMEOUT,
    READY_START_INTERVAL,
    READY_START_PERIOD,
)
from pyswarm_core.specs import HealthConfig

NO_CHECK = HealthConfig()
READINESS = HealthConfig(start_period=READY_START_PERIOD, start_interval=READY_START_INTERVAL)
"""In place of an image's check, for readiness: images have none."""
_OF_IMAGES = ("CMD", "CMD-SHELL")
_KINDS = (*_OF_IMAGES, "HTTP", "TCP", "GRPC")
_LEAST = MILLISECOND
"""Docker's least duration; an image may name any number."""


def effective(spec: HealthConfig, image: HealthConfig = NO_CHECK) -> HealthConfig | None:
    """The check with all fields set; None if there is none (no test, or `NONE`)."""
    test = spec.test or _of_image(image)
    if len(test) < 2 or test[0] not in _KINDS:
        return None
    return HealthConfig(
        test=test,
        interval=_first(spec.interval, image.interval, HEALTH_INTERVAL),
        timeout=_first(spec.timeout, image.timeout, HEALTH_TIMEOUT),
        start_period=max(0, spec.start_period or image.start_period),
        start_interval=_first(spec.start_interval, image.start_interval, HEALTH_START_INTERVAL),
        retries=next(n for n in (spec.retries, image.retries, HEALTH_RETRIES) if n > 0),
    )


def _of_image(image: HealthConfig) -> tuple[str, ...]:
    return image.test if image.test[:1] and image.test[0] in _OF_IMAGES else ()


def _first(*durations: int) -> int:
    """The first that is set."""
    return max(_LEAST, next(duration for duration in durations if duration > 0))
