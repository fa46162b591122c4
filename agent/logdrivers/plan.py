"""A task's log driver -> the limits of its files, and where its lines are sent. PURE."""

import msgspec

from agent.images.base import ImageConfig
from agent.runtime.base import LogLimits
from agent.tasks.ocispec_process import command_line
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

ATTRIBUTES_BYTES_MAX = 32 * 1024
"""Of the names and values of a container's attributes. They are in each message of the journal, and
with a line of 16 KiB the kernel's limit of a datagram, 208 KiB by default, must hold it.
"""


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


def forwarding(record: Record, image_id: str, image: ImageConfig) -> Forwarding | None:
    """Where the task's lines are sent; None: nowhere. Labels and variables of the spec replace
    those of the image.
    """
    spec = record.spec
    settings = settings_of(spec.log_driver)
    if settings.driver not in FORWARDED:
        return None
    container = spec.container_spec
    name = record.service_name if record.layer else f"{record.name}.{record.task_id}"
    origin = Origin(
        full_id=record.task_id,
        name=name,
        image_name=container.image.partition("@")[0],
        image_id=image_id,
        command=" ".join(command_line(image, container)),
    )
    labels = {**image.labels, **container.labels, **_swarm_labels(record, name)}
    return Forwarding(
        settings=settings,
        tag=rendered_tag(settings.tag, origin),
        full_id=record.task_id,
        name=name,
        image=origin.image_name,
        attributes=_fitting(
            attributes(spec.log_driver, labels, (*image.env, *container.env), origin)
        ),
    )


def _fitting(found: dict[str, str]) -> dict[str, str]:
    """As many of the attributes as fit, in their order, without those that are too long."""
    kept, left = {}, ATTRIBUTES_BYTES_MAX
    for key, value in found.items():
        size = len(key.encode()) + len(value.encode())
        if size <= left:
            kept[key] = value
            left -= size
    return kept


def _swarm_labels(record: Record, name: str) -> dict[str, str]:
    """The labels that Docker Swarm adds to the containers of services."""
    if record.layer:
        return {}
    labels = {
        "node.id": record.node_id,
        "service.id": record.service_id,
        "service.name": record.service_name,
        "task.id": record.task_id,
        "task.name": name,
    }
    return {f"com.docker.swarm.{key}": value for key, value in labels.items()}
