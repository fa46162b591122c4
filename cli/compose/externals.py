"""Volumes that the files declare `external`: `up` needs them, and never makes them. SHELL."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from pyswarm_core.kinds import VOLUME
from pyswarm_core.specs import ServiceSpec
from pyswarm_core.volumes.mounts import MountType

if TYPE_CHECKING:
    from cli.client import Client
    from compose.mapping.mapped import Mapped


def require(client: "Client", mapped: "Mapped", names: Iterable[str]) -> None:
    """Raise compose.report.Refused with every external volume that these services, named as in the
    file, mount and the fleet lacks. `stack deploy` makes it, as in Docker.
    """
    from compose.report import Refused

    full = [mapped.services[name] for name in names]
    needed = dict.fromkeys(
        name
        for one in mapped.spec.services
        if one.name in full
        for name in _volumes(one)
        if name in mapped.external_volumes
    )
    if not needed:
        return
    known = [one.spec.name for one in client.objects(VOLUME) if not one.removing]
    missing = [name for name in needed if name not in known]
    if missing:
        raise Refused(
            mapped.external_volumes[name]._replace(
                text=f"there is no volume {name}, and up makes no external one:"
                f" `pyswarm volume create {name}` does"
            )
            for name in missing
        )


def _volumes(spec: ServiceSpec) -> Iterable[str]:
    mounts = spec.task_template.container_spec.mounts
    return [one.source for one in mounts if one.type is MountType.VOLUME]
