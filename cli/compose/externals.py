"""What the files declare `external`: an apply needs it, and never makes it. SHELL."""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from pyswarm_core.kinds import CONFIG, NETWORK, SECRET, VOLUME, Kind
from pyswarm_core.specs import PREDEFINED_NETWORKS, ServiceSpec
from pyswarm_core.volumes.mounts import MountType

if TYPE_CHECKING:
    from cli.client import Client
    from compose.mapping.mapped import Mapped

_KINDS: tuple[Kind[Any, Any], ...] = (NETWORK, VOLUME, SECRET, CONFIG)
_DATA = {SECRET.name: " FILE", CONFIG.name: " FILE"}
"""What the command that creates one needs beside its name."""


def require(
    client: "Client",
    mapped: "Mapped",
    names: Iterable[str] | None = None,
    *,
    makes_volumes: bool = False,
) -> None:
    """Raise compose.report.Refused with every external object that these services, named as in the
    file, use and the fleet lacks. `makes_volumes`: as `stack deploy` makes them.
    """
    from compose.report import Refused

    full = [mapped.services[name] for name in (mapped.services if names is None else names)]
    needed = dict.fromkeys(
        used
        for one in mapped.spec.services
        if one.name in full
        for used in _used(one)
        if used in mapped.externals
    )
    missing = []
    for kind in _KINDS:
        wanted = [name for kind_name, name in needed if kind_name == kind.name]
        if wanted and not (kind is VOLUME and makes_volumes):
            missing += [(kind.name, name) for name in _missing(client, kind, wanted)]
    if missing:
        raise Refused(
            mapped.externals[kind, name]._replace(
                text=f"there is no {kind} {name}, and no apply makes an external one:"
                f" `pyswarm {kind} create {name}{_DATA.get(kind, '')}` does"
            )
            for kind, name in missing
        )


def _missing(client: "Client", kind: Kind[Any, Any], names: Iterable[str]) -> list[str]:
    """Those that are neither a name nor the beginning of an id."""
    found = [one for one in client.objects(kind) if not getattr(one, "removing", False)]
    known = {text for one in found for text in (one.spec.name, kind.title(one))}
    known |= {*PREDEFINED_NETWORKS} if kind is NETWORK else set()
    return [
        name
        for name in names
        if name not in known and not any(one.id.startswith(name) for one in found)
    ]


def _used(spec: ServiceSpec) -> Iterator[tuple[str, str]]:
    """The kinds and names of what a service uses."""
    template = spec.task_template
    container = template.container_spec
    yield from ((NETWORK.name, one.target) for one in template.networks)
    for mount in container.mounts:
        if mount.type is MountType.VOLUME:
            yield VOLUME.name, mount.source
    yield from ((SECRET.name, one.source) for one in container.secrets)
    yield from ((CONFIG.name, one.source) for one in container.configs)
