"""Images in memory, for tests and the simulator: a registry, and a host that pulls from it.

It passes the contract tests of `Images` (one pull per reference, names, removal, errors) without
files or processes. `pulls` counts the requests to the registry.
"""

import asyncio
import os
from collections.abc import Collection
from hashlib import sha256

import msgspec

from agent.images.base import (
    Credentials,
    Image,
    ImageBlob,
    ImageConfig,
    ImageError,
    ImageInUse,
    ImageNotFound,
    PullPhase,
    PullPolicy,
    PullProgress,
    RegistryUnavailable,
    Removed,
    ReportProgress,
    Stored,
    Unauthorized,
)
from agent.images.sharing import SharedPulls
from pyswarm_core.docker.reference import Reference, parse_reference


class FakeRegistry:
    """A registry. `login` is required if set; a `silent` registry never answers."""

    def __init__(self) -> None:
        self.login: Credentials | None = None
        self.silent = False
        self._images: dict[str, Image] = {}

    def push(self, reference: str, config: ImageConfig | None = None) -> Image:
        """Add an image under that name; its ids follow from its content. Returns it as pulled."""
        ref = parse_reference(reference)
        config = config or ImageConfig()
        content = msgspec.json.encode((ref.repository, config), order="deterministic")
        identity = sha256(content).hexdigest()
        digest = f"sha256:{sha256(identity.encode()).hexdigest()}"
        image = Image(
            id=identity, digest=digest, names=(), layers=(f"/layers/{identity}",), config=config
        )
        self._images[ref.canonical] = self._images[f"{ref.name}@{digest}"] = image
        return image

    def tags(self, name: str) -> tuple[str, ...]:
        """The tags of a repository."""
        found = (parse_reference(key) for key in self._images)
        return tuple(sorted(ref.tag for ref in found if ref.name == name and ref.tag))

    async def fetch(self, ref: Reference, credentials: Credentials | None) -> Image:
        """Raises the ImageError that a real registry would cause."""
        await asyncio.sleep(0)
        if self.silent:
            raise RegistryUnavailable(f"registry {ref.registry} did not answer")
        if self.login and credentials != self.login:
            raise Unauthorized(f"not allowed to pull {ref.familiar}")
        try:
            return self._images[ref.canonical]
        except KeyError:
            raise ImageNotFound(f"no such image: {ref.familiar}") from None


class FakeImages:
    """`Images` of one host."""

    def __init__(self, registry: FakeRegistry, group: asyncio.TaskGroup) -> None:
        self.pulls = 0
        self.builds = None
        self._registry = registry
        self._shared = SharedPulls(group)
        self._local: dict[str, Image] = {}
        self._nameless: dict[str, Image] = {}

    async def resolve(
        self,
        reference: str,
        credentials: Credentials | None = None,
        progress: ReportProgress | None = None,
        policy: PullPolicy = PullPolicy.MISSING,
    ) -> Image:
        """See `Images.resolve`."""
        ref = parse_reference(reference)
        here = self._find(ref)
        if here and (policy is PullPolicy.MISSING or ref.digest):
            return here

        async def work(report: ReportProgress) -> None:
            await self._fetch(ref, credentials, report)

        await self._shared.join(ref.canonical, credentials, work, progress)
        return self._local[ref.canonical]

    async def pull(
        self,
        reference: str,
        credentials: Credentials | None = None,
        progress: ReportProgress | None = None,
        platform: str = "",
    ) -> Image:
        """See `Images.pull`."""
        del platform  # images in memory have none
        return await self.resolve(reference, credentials, progress, PullPolicy.ALWAYS)

    async def resolve_digest(self, reference: str, credentials: Credentials | None = None) -> str:
        """See `Images.resolve_digest`."""
        return (await self._registry.fetch(parse_reference(reference), credentials)).digest

    async def configuration(
        self, reference: str, credentials: Credentials | None = None
    ) -> ImageConfig:
        """See `Images.configuration`."""
        ref = parse_reference(reference)
        return (self._find(ref) or await self._registry.fetch(ref, credentials)).config

    async def tags(self, reference: str, credentials: Credentials | None = None) -> tuple[str, ...]:
        """See `Images.tags`."""
        ref = parse_reference(reference)
        found = self._registry.tags(ref.name)
        if not found:
            raise ImageNotFound(f"no such image: {ref.familiar}")
        return found

    def fleet_changed(self, registries: tuple[str, ...], password: str, roots: str) -> None:
        """See `Images.fleet_changed`."""

    async def blob(self, image_id: str) -> ImageBlob:
        """See `Images.blob`."""
        image = await self._by_id(image_id)
        return ImageBlob(config=msgspec.json.encode({"config": image.config}), layer_sizes=(1,))

    async def save(self, image_id: str, names: Collection[str], descriptor: int) -> None:
        """See `Images.save`; the archive is no real one."""
        await self._by_id(image_id)
        os.write(descriptor, " ".join((image_id, *names)).encode())

    async def push(self, image_id: str, to: str, password: str) -> None:
        """See `Images.push`. There is no such registry."""
        raise RegistryUnavailable(f"{to} is not reachable")

    async def delete(
        self, image_id: str, names: Collection[str] = (), in_use: Collection[str] = ()
    ) -> Removed:
        """See `Images.delete`."""
        image = await self._by_id(image_id)
        left = {name for name in image.names if names and name not in names}
        if not left and image.id in in_use:
            raise ImageInUse(f"image {min(image.names, default=image.id)} is used by a task")
        self._store(image, left)
        if not left:
            self._nameless.pop(image.id, None)
        untagged = tuple(name for name in image.names if name not in left)
        reclaimed = 0 if left else image.size_bytes
        return Removed(untagged=untagged, deleted=not left, reclaimed_bytes=reclaimed)

    async def _by_id(self, image_id: str) -> Image:
        if (image := self._images().get(image_id)) is None:
            raise ImageNotFound(f"no such image here: {image_id}")
        return image

    async def stored(self) -> Stored:
        """See `Images.stored`. No two images share a layer here."""
        images = tuple(
            msgspec.structs.replace(image, unique_bytes=image.size_bytes)
            for _, image in sorted(self._images().items())
        )
        return Stored(images, bytes=sum(image.size_bytes for image in images))

    @property
    def pulling(self) -> bool:
        """See `Images.pulling`."""
        return self._shared.running

    async def delete_layer(self, layer_id: str) -> None:
        """See `Images.delete_layer`. No layer is loose here."""
        raise ImageError(f"no such layer here: {layer_id}")

    def _images(self) -> dict[str, Image]:
        return {image.id: image for image in (*self._nameless.values(), *self._local.values())}

    def _find(self, ref: Reference) -> Image | None:
        if image := self._local.get(ref.canonical):
            return image
        same = (image for image in self._local.values() if image.digest == ref.digest)
        return next(same, None) if ref.digest else None

    async def _fetch(
        self, ref: Reference, credentials: Credentials | None, report: ReportProgress
    ) -> None:
        self.pulls += 1
        report(PullProgress(reference=ref.familiar, phase=PullPhase.CONNECTING))
        image = await self._registry.fetch(ref, credentials)
        report(PullProgress(reference=ref.familiar, phase=PullPhase.STORING, blobs=1))
        if (moved := self._local.get(ref.canonical)) and moved.id != image.id:
            left = set(moved.names) - {ref.canonical}
            self._store(moved, left)
            if not left:
                self._nameless[moved.id] = msgspec.structs.replace(moved, names=())
        here = self._images().get(image.id, image)
        self._nameless.pop(here.id, None)
        self._store(here, {*here.names, ref.canonical})

    def _store(self, image: Image, names: set[str]) -> None:
        for name in image.names:
            self._local.pop(name, None)
        named = msgspec.structs.replace(image, names=tuple(sorted(names)))
        self._local.update(dict.fromkeys(named.names, named))
