"""The rows of `system df`. PURE.

The tables have Docker's columns. The first one is of the whole fleet, in which an image counts on
each node that has it.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import msgspec

from cli.image.listing import split
from cli.render.containers import rows as container_rows
from cli.render.listing import Layout, Row
from pyswarm_core.clock import Instant
from pyswarm_core.docker.containers.views import SIZE_UNKNOWN, ContainerView
from pyswarm_core.docker.units import ago, decimal_size, parse_time
from pyswarm_core.errors import InvalidArgument
from pyswarm_core.ids import NodeId
from pyswarm_core.images.names import repository_and_tag
from pyswarm_core.images.views import Image, NodeImages
from pyswarm_core.registry.usage import RegistryUsage
from pyswarm_core.views import NodeView
from pyswarm_core.volumes.volume import Volume

TOTALS = Layout(
    headings={
        "Type": "TYPE",
        "TotalCount": "TOTAL",
        "Active": "ACTIVE",
        "Size": "SIZE",
        "Reclaimable": "RECLAIMABLE",
    },
    columns=("Type", "TotalCount", "Active", "Size", "Reclaimable"),
)
NODES = Layout(
    headings={
        "Node": "NODE",
        "Disk": "DISK USED",
        "Images": "IMAGES",
        "Containers": "CONTAINERS",
        "Volumes": "LOCAL VOLUMES",
        "BuildCache": "BUILD CACHE",
        "Reclaimable": "RECLAIMABLE",
    },
    columns=("Node", "Disk", "Images", "Containers", "Volumes", "BuildCache", "Reclaimable"),
)
IMAGES = Layout(
    headings={
        "Node": "NODE",
        "Repository": "REPOSITORY",
        "Tag": "TAG",
        "ID": "IMAGE ID",
        "CreatedSince": "CREATED",
        "Size": "SIZE",
        "SharedSize": "SHARED SIZE",
        "UniqueSize": "UNIQUE SIZE",
        "Containers": "CONTAINERS",
    },
    columns=(
        *("Node", "Repository", "Tag", "ID", "CreatedSince"),
        *("Size", "SharedSize", "UniqueSize", "Containers"),
    ),
)
CONTAINERS = Layout(
    headings={
        "Node": "NODE",
        "ID": "CONTAINER ID",
        "Image": "IMAGE",
        "Command": "COMMAND",
        "Size": "SIZE",
        "RunningFor": "CREATED",
        "Status": "STATUS",
        "Names": "NAMES",
    },
    columns=("Node", "ID", "Image", "Command", "Size", "RunningFor", "Status", "Names"),
)
VOLUMES = Layout(
    headings={"Node": "NODE", "Name": "VOLUME NAME", "Links": "LINKS", "Size": "SIZE"},
    columns=("Node", "Name", "Links", "Size"),
)
REGISTRY = Layout(
    headings={
        "Registry": "REGISTRY",
        "Disk": "DISK USED",
        "Images": "IMAGES",
        "Quota": "QUOTA",
        "Reclaimable": "RECLAIMABLE",
    },
    columns=("Registry", "Disk", "Images", "Quota", "Reclaimable"),
)
REPOSITORIES = Layout(
    headings={
        "Repository": "REPOSITORY",
        "Tags": "TAGS",
        "Manifests": "MANIFESTS",
        "Size": "SIZE",
        "SharedSize": "SHARED SIZE",
        "UniqueSize": "UNIQUE SIZE",
        "Reclaimable": "RECLAIMABLE",
    },
    columns=(
        *("Repository", "Tags", "Manifests"),
        *("Size", "SharedSize", "UniqueSize", "Reclaimable"),
    ),
)
UNKNOWN = "N/A"


class Held(msgspec.Struct, frozen=True):
    """Images by node, containers, and volumes with the names of those that nothing uses."""

    images: Sequence[NodeImages]
    containers: Sequence[ContainerView]
    volumes: Sequence[Volume]
    unused_volumes: frozenset[str] = frozenset()
    nodes: Sequence[NodeView] = ()
    registry: RegistryUsage = RegistryUsage()


class Sum(NamedTuple):
    """What one type has: the number, how many are used, bytes, and the bytes of the unused."""

    number: int = 0
    active: int = 0
    size: int = 0
    reclaimable: int = 0

    def plus(self, other: "Sum") -> "Sum":
        """Both together."""
        return Sum(*(one + two for one, two in zip(self, other, strict=True)))


def total(sums: Iterable[Sum]) -> Sum:
    """All together."""
    found = Sum()
    for one in sums:
        found = found.plus(one)
    return found


def of_images(node: NodeImages) -> Sum:
    """The images of a node, without layers that no image has."""
    active = sum(bool(image.used_by) for image in node.images)
    size = max(0, node.use.bytes - node.use.loose_bytes)
    return Sum(len(node.images), active, size, node.use.reclaimable)


def of_cache(node: NodeImages) -> Sum:
    """Layers that no image has: of builds, and of pulls that were interrupted."""
    return Sum(node.use.loose, 0, node.use.loose_bytes, node.use.loose_bytes)


def of_containers(containers: Iterable[ContainerView]) -> Sum:
    """Their writable layers."""
    return total(
        Sum(1, int(_runs(one)), size, 0 if _runs(one) else size)
        for one in containers
        for size in (_size(one),)
    )


def of_volumes(volumes: Iterable[tuple[Volume, int]], unused: frozenset[str]) -> Sum:
    """Volumes with their bytes."""
    return total(
        Sum(1, 0, size, size) if volume.spec.name in unused else Sum(1, 1, size)
        for volume, size in volumes
    )


def of_registry(held: Held) -> list[Sum]:
    """What the fleet's registry has; empty if the fleet has none."""
    found = held.registry
    one = Sum(found.images, found.active, found.size, found.reclaimable)
    return [one] if found.address else []


def totals(held: Held) -> list[Row]:
    """The table of the whole fleet."""
    volumes = [(volume, volume.size or 0) for volume in held.volumes]
    return [
        _row("Images", total(map(of_images, held.images))),
        _row("Containers", of_containers(held.containers)),
        _row("Local Volumes", of_volumes(volumes, held.unused_volumes)),
        _row("Build Cache", total(map(of_cache, held.images))),
        *(_row("Registry", one) for one in of_registry(held)),
    ]


def by_node(held: Held) -> list[Row]:
    """The table by node."""
    names = {view.node.id: view.node.description.hostname for view in held.nodes}
    rows: list[Row] = []
    for node in held.images:
        own = [one for one in held.containers if one.node_name == node.node_name]
        volumes = [
            (volume, usage.bytes)
            for volume in held.volumes
            for usage in volume.usage
            if names.get(usage.node_id) == node.node_name
        ]
        parts = {
            "Images": of_images(node),
            "Containers": of_containers(own),
            "Volumes": of_volumes(volumes, held.unused_volumes),
            "BuildCache": of_cache(node),
        }
        cells = {name: f"{one.number} ({decimal_size(one.size)})" for name, one in parts.items()}
        reclaimable = decimal_size(total(parts.values()).reclaimable)
        disk = _disk(node.use.disk_bytes, node.use.disk_free)
        if node.error:
            cells = dict.fromkeys(parts, UNKNOWN)
            reclaimable = disk = UNKNOWN
        cells |= {"Node": node.node_name, "Disk": disk, "Reclaimable": reclaimable}
        rows.append(cells)
    return rows


def registry(held: Held) -> list[Row]:
    """The table of the fleet's registry; empty if the fleet has none."""
    found = held.registry
    quota = "none"
    if found.quota:
        quota = f"{decimal_size(found.quota)} ({100 * found.size // found.quota}% used)"
    return [
        {
            "Registry": found.address,
            "Disk": _disk(found.disk_bytes, found.disk_free),
            "Images": f"{one.number} ({decimal_size(one.size)})",
            "Quota": quota,
            "Reclaimable": decimal_size(one.reclaimable),
        }
        for one in of_registry(held)
    ]


def repositories(held: Held) -> Iterator[Row]:
    """A row per repository of the fleet's registry, the largest first."""
    for one in held.registry.repositories:
        yield {
            "Repository": split(one.name)[0],
            "Tags": one.tags,
            "Manifests": one.manifests,
            "Size": decimal_size(one.size),
            "SharedSize": decimal_size(one.size - one.unique_bytes),
            "UniqueSize": decimal_size(one.unique_bytes),
            "Reclaimable": decimal_size(one.reclaimable),
        }


def images(held: Held, now: Instant) -> Iterator[Row]:
    """A row per name of each image of each node."""
    for node in held.images:
        for image in sorted(node.images, key=lambda image: (image.names, image.id)):
            for name in image.names or ("",):
                yield _image(node.node_name, image, name, now)


def containers(held: Held, now: Instant) -> Iterator[Row]:
    """A row per container."""
    shown = container_rows(held.containers, now, truncate=True)
    for one, row in zip(held.containers, shown, strict=True):
        size = UNKNOWN if one.size_rw == SIZE_UNKNOWN else decimal_size(one.size_rw)
        yield {**row, "Size": size}


def volumes(held: Held, users: Callable[[Volume], Sequence[str]]) -> Iterator[Row]:
    """A row per copy of a volume. `users`: the services and containers that mount one."""
    names = {view.node.id: view.node.description.hostname for view in held.nodes}
    for volume in held.volumes:
        sizes = {usage.node_id: usage.bytes for usage in volume.usage}
        links = len(users(volume))
        for copy in volume.copies or (NodeId(""),):
            size = sizes.get(copy)
            yield {
                "Node": names.get(copy, copy),
                "Name": volume.spec.name,
                "Links": links,
                "Size": UNKNOWN if size is None else decimal_size(size),
            }


def created_at(image: Image, now: Instant) -> Instant:
    """When it was made; 0 if it does not say."""
    try:
        return parse_time(image.created, now) if image.created else Instant(0)
    except InvalidArgument:
        return Instant(0)


def _image(node: str, image: Image, name: str, now: Instant) -> Row:
    repository, tag = repository_and_tag(name)
    created = created_at(image, now)
    return {
        "Node": node,
        "Repository": repository,
        "Tag": tag,
        "ID": image.id.removeprefix("sha256:")[:12],
        "CreatedSince": ago(created, now) if created else UNKNOWN,
        "Size": decimal_size(image.size_bytes),
        "SharedSize": decimal_size(max(0, image.size_bytes - image.unique_bytes)),
        "UniqueSize": decimal_size(image.unique_bytes),
        "Containers": len(image.used_by),
    }


def _row(kind: str, found: Sum) -> Row:
    share = f" ({100 * found.reclaimable // found.size}%)" if found.size else ""
    return {
        "Type": kind,
        "TotalCount": found.number,
        "Active": found.active,
        "Size": decimal_size(found.size),
        "Reclaimable": f"{decimal_size(found.reclaimable)}{share}",
    }


def _disk(size: int, free: int) -> str:
    if not size:
        return UNKNOWN
    used = size - free
    return f"{decimal_size(used)} of {decimal_size(size)} ({100 * used // size}%)"


def _runs(container: ContainerView) -> bool:
    return container.state.value in ("running", "paused", "restarting")


def _size(container: ContainerView) -> int:
    return max(0, container.size_rw) if container.size_rw != SIZE_UNKNOWN else 0
