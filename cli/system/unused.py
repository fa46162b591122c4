"""What `system prune` removes. PURE."""

from collections.abc import Collection, Iterator, Mapping, Sequence

import msgspec

from cli.image.listing import split
from cli.image.unneeded import Choice, unneeded
from cli.system.usage import Held
from pyswarm_core.clock import Instant
from pyswarm_core.docker.containers.views import ContainerState, ContainerView
from pyswarm_core.docker.units import decimal_size
from pyswarm_core.images.names import NONE, repository_and_tag
from pyswarm_core.images.views import Image
from pyswarm_core.objects import Network
from pyswarm_core.registry.usage import RegistryUsage
from pyswarm_core.volumes.volume import Volume

_ENDED = (ContainerState.CREATED, ContainerState.EXITED, ContainerState.DEAD)
NAMED = 8
"""Objects of a kind that are named before the question; of further ones, the number."""


class What(msgspec.Struct, frozen=True, kw_only=True):
    """What the flags request."""

    all_images: bool = False
    volumes: bool = False
    filters: tuple[str, ...] = ()

    @property
    def collects(self) -> bool:
        """Whether the registry's garbage is meant, of which filters choose no part."""
        return self.all_images and not self.filters


class Unused(msgspec.Struct, frozen=True, kw_only=True):
    """What is removed: images by the names of their nodes."""

    containers: Sequence[ContainerView] = ()
    networks: Sequence[Network] = ()
    volumes: Sequence[Volume] = ()
    images: Mapping[str, Sequence[Image]] = {}
    cache: Mapping[str, int] = {}
    """Bytes of layers without an image, by node."""
    registry: RegistryUsage = RegistryUsage()
    """The fleet's registry, if it is to be collected."""

    @property
    def bytes(self) -> int:
        """What becomes free at least: layers that several images share may, too."""
        images = sum(image.unique_bytes for own in self.images.values() for image in own)
        containers = sum(max(0, one.size_rw) for one in self.containers)
        volumes = sum(volume.size or 0 for volume in self.volumes)
        cache = sum(self.cache.values())
        return images + containers + volumes + cache + self.registry.reclaimable


def unused(
    held: Held, networks: Sequence[Network], what: What, choose: Choice, now: Instant
) -> Unused:
    """What nothing uses, and passes the filters. An image that only removed containers need is
    unused; one that a service needs on any node is not. `networks`: those that nothing uses.
    """
    containers = [
        one
        for one in held.containers
        if not one.service_name and one.state in _ENDED and choose(one.created_at, one.labels)
    ]
    gone = frozenset(one.name for one in containers)
    images = {
        node.node_name: unneeded(node.images, choose, now, every=what.all_images, gone=gone)
        for node in held.images
    }
    return Unused(
        containers=containers,
        networks=[one for one in networks if choose(one.created_at, one.spec.labels)],
        volumes=[
            one
            for one in held.volumes
            if what.volumes
            and one.is_anonymous
            and one.spec.name in held.unused_volumes
            and choose(one.created_at, one.spec.labels)
        ],
        images={node: found for node, found in images.items() if found},
        cache={
            node.node_name: node.use.loose_bytes
            for node in held.images
            if node.use.loose and not what.filters
        },
        registry=held.registry if what.collects else RegistryUsage(),
    )


def warning(what: What) -> list[str]:
    """The lines before the question, in Docker's words."""
    lines = [
        "WARNING! This will remove:",
        "  - all stopped containers",
        "  - all networks not used by at least one container",
    ]
    if what.volumes:
        lines.append("  - all anonymous volumes not used by at least one container")
    if what.all_images:
        lines.append("  - all images without at least one container associated to them")
    else:
        lines.append("  - all dangling images")
    lines.append(f"  - {'all' if what.all_images else 'unused'} build cache")
    if what.collects:
        lines.append("  - all images of the fleet's registry without a tag that no service needs")
    if what.filters:
        lines += ["", "  Items to be pruned will be filtered with:"]
        lines += [f"  - {text}" for text in what.filters]
    return lines


def listed(found: Unused) -> Iterator[str]:
    """What will be removed, by name, and what becomes free."""
    if found.containers:
        yield f"  containers: {_names([one.name for one in found.containers])}"
    if found.networks:
        yield f"  networks: {_names([one.spec.name for one in found.networks])}"
    if found.volumes:
        yield f"  volumes: {_names([one.spec.name for one in found.volumes])}"
    for node, images in sorted(found.images.items()):
        yield f"  images on {node}: {_names([shown(image) for image in images])}"
    for node, size in sorted(found.cache.items()):
        yield f"  build cache on {node}: {decimal_size(size)}"
    if found.registry.reclaimable:
        yield f"  images of the registry: {_names(list(_collected(found.registry)))}"


def _collected(registry: RegistryUsage) -> Iterator[str]:
    """What a collection frees, by repository."""
    for one in registry.repositories:
        if one.reclaimable:
            yield f"{split(one.name)[0]} ({decimal_size(one.reclaimable)})"
    if registry.loose_bytes:
        yield f"layers without an image ({decimal_size(registry.loose_bytes)})"


def shown(image: Image) -> str:
    """An image by its tags, or by its id, with its size."""
    tags = [f"{repository}:{tag}" for repository, tag in map(repository_and_tag, image.names)]
    named = [tag for tag in tags if not tag.endswith(NONE)]
    return f"{' '.join(named) or image.id[:12]} ({decimal_size(image.unique_bytes)})"


def _names(names: Collection[str]) -> str:
    first = list(names)[:NAMED]
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return f"{', '.join(first)}{more}"
