"""Starts of containers with a named volume, a bind and a tmpfs, beside starts without, in turns.

SHELL over a playground of one host. Ten replicas start at once; the volume exists and has its copy,
as at every start but the first.
"""

from collections.abc import Iterable

from msgspec.structs import replace

from bench.fleet import playground
from bench.report import Figure
from bench.starts import in_turns, ratio
from pyswarm_core.specs import ServiceSpec
from pyswarm_core.volumes.mounts import Mount, MountType, TmpfsOptions

BOUND = 1.15
_MIB = 1 << 20
MOUNTS = (
    Mount(source="bench-data", target="/data"),
    Mount(type=MountType.BIND, source="/usr/share", target="/share", read_only=True),
    Mount(
        type=MountType.TMPFS, target="/scratch", tmpfs_options=TmpfsOptions(size_bytes=16 * _MIB)
    ),
)


def measure(quick: bool) -> Iterable[Figure]:
    """The ratio of the medians, of processor time and of time."""
    with playground(1) as fleet:
        plain, mounted = in_turns(fleet, 2 if quick else 25, _mounted)
    yield ratio(
        "processor time of a start with three mounts, over one without", plain, mounted, BOUND
    )
    name = "time until ten with three mounts run, over ten without"
    yield ratio(name, plain, mounted, BOUND, wall=True)


def _mounted(spec: ServiceSpec) -> ServiceSpec:
    container = replace(spec.task_template.container_spec, mounts=MOUNTS)
    return replace(spec, task_template=replace(spec.task_template, container_spec=container))
