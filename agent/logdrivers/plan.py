"""A task's log driver -> the limits of its files, and where its lines are sent. PURE."""

import msgspec

from agent.runtime.base import LogLimits
from agent.tasks.record import Record
from pyswarm_core.docker.logdrivers import (
    FORWARDED,
    NONE,
    LogSettings,
    Origin,
    attributes,
    rendered_tag,
    settings_of,
)
from pyswarm_core.specs import LogDriver


class Forwarding(msgspec.Struct, frozen=True, kw_only=True):
    """Where the lines of one container are sent, and what they say of it. It is kept on disk beside
    the log, so that a restarted agent goes on.
    """

    settings: LogSettings
    tag: str
    full_id: str
    name: str
    image: str
    attributes: dict[str, str] = {}


def log_limits(driver: LogDriver, default: LogLimits) -> LogLimits:
    """The limits of the container's files; `default` are the agent's own."""
    settings = settings_of(driver)
    return LogLimits(
        max_size=settings.max_size or default.max_size,
        max_file=settings.max_file or default.max_file,
        stored=settings.driver != NONE,
    )


def forwarding(
    record: Record,
    *,
    image_id: str,
    labels: dict[str, str],
    env: tuple[str, ...],
    command: str,
) -> Forwarding | None:
    """Where the task's lines are sent; None: nowhere. `labels` and `env` are those of the image,
    which the spec's replace.
    """
    spec = record.spec
    settings = settings_of(spec.log_driver)
    if settings.driver not in FORWARDED:
        return None
    container = spec.container_spec
    name = record.service_name if record.layer else f"{record.name}.{record.task_id}"
    image = container.image.partition("@")[0]
    origin = Origin(
        full_id=record.task_id, name=name, image_name=image, image_id=image_id, command=command
    )
    return Forwarding(
        settings=settings,
        tag=rendered_tag(settings.tag, origin),
        full_id=record.task_id,
        name=name,
        image=image,
        attributes=attributes(
            spec.log_driver, {**labels, **container.labels}, (*env, *container.env), origin
        ),
    )
