"""The record of one task as it is prepared: with the templates of its spec expanded, and with the
volumes that its image declares. PURE.

The record on disk has neither: what templates name, and the image, do not change while the task
exists.
"""

import shlex
from collections.abc import Iterable

from msgspec.structs import replace

from agent.tasks.record import Record
from pyswarm_core.images.platforms import ARCHITECTURES
from pyswarm_core.limits import DETAIL_LENGTH_MAX
from pyswarm_core.templates.context import Context, task_context
from pyswarm_core.templates.specs import expanded, has_templates
from pyswarm_core.validation import require
from pyswarm_core.validation.templates.problems import expanded_problems
from pyswarm_core.validation.volumes import MOUNTS_MAX, is_mountable
from pyswarm_core.volumes.mounts import Mount


def context_of(record: Record, hostname: str, machine: str) -> Context:
    """What the task's templates may name. `hostname`: the node's; `machine`: uname's word."""
    return task_context(
        service_id=record.service_id,
        service_name=record.service_name,
        service_labels=record.service_labels,
        task_id=record.task_id,
        slot=record.slot,
        is_global=record.global_service,
        node_id=record.node_id,
        hostname=hostname,
        os="linux",
        architecture=ARCHITECTURES.get(machine, machine),
    )


def with_templates_expanded(record: Record, hostname: str, machine: str) -> Record:
    """The record as the task is prepared from it. A container has no templates.

    Raises InvalidArgument: an expanded value is not valid.
    """
    container = record.spec.container_spec
    if record.layer or not has_templates(container):
        return record
    container = expanded(container, context_of(record, hostname, machine))
    require(list(expanded_problems(container)))
    return replace(record, spec=replace(record.spec, container_spec=container))


def with_image_volumes(record: Record, paths: Iterable[str]) -> Record:
    """The record with a volume of the task's own at each path of the image's VOLUME that has no
    other mount.
    """
    container = record.spec.container_spec
    taken = {mount.target.rstrip("/") for mount in container.mounts}
    taken.update(path.rstrip("/") for path in container.tmpfs)
    wanted = dict.fromkeys(path.rstrip("/") for path in paths if is_mountable(path))
    added = [Mount(target=path) for path in wanted if path not in taken]
    if not added:
        return record
    mounts = (*container.mounts, *added[: MOUNTS_MAX - len(container.mounts)])
    container = replace(container, mounts=mounts)
    return replace(record, spec=replace(record.spec, container_spec=container))


def paths_as_words(mounts: Iterable[Mount]) -> str:
    """The targets as shell words, those that fit into the details of a task."""
    shown = ""
    for mount in mounts:
        longer = f"{shown} {shlex.quote(mount.target)}".lstrip()
        if len(longer.encode(errors="replace")) > DETAIL_LENGTH_MAX:
            return shown
        shown = longer
    return shown
