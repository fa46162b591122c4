"""Images in memory, for tests and the simulator: a registry, and a host that pulls from it.

It passes the contract tests of `Images` (one pull per reference, names, removal, errors) without
files or processes. `pulls` counts the requests to the registry.
"""

import asyncio
from collections.abc import Collection
from hashlib import sha256

import msgspec

from agent.images.base import (
    Credentials,
    Image,
    ImageConfig,
    ImageInUse,
    ImageNotFound,
    PullPhase,
    PullPolicy,
    PullProgress,
    RegistryUnavailable,
    ReportProgress,
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
        self._registry = registry
        self._shared = SharedPulls(group)
        self._local: dict[str, Image] = {}

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
    ) -> Image:
        """See `Images.pull`."""
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

    async def list(self) -> tuple[Image, ...]:
        """See `Images.list`."""
        return tuple(sorted(_each_once(self._local), key=lambda image: image.id))

    async def remove(self, reference: str, in_use: Collection[str] = ()) -> None:
        """See `Images.remove`."""
        ref = parse_reference(reference)
        image = self._find(ref)
        if image is None:
            raise ImageNotFound(f"no such image here: {ref.familiar}")
        left = set(image.names) - {ref.canonical}
        if not left or ref.canonical not in image.names:
            if image.id in in_use:
                raise ImageInUse(f"image {ref.familiar} is used by a task on this host")
            left = set()
        self._store(image, left)

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
            self._store(moved, set(moved.names) - {ref.canonical})
        here = next((local for local in self._local.values() if local.id == image.id), image)
        self._store(here, {*here.names, ref.canonical})

    def _store(self, image: Image, names: set[str]) -> None:
        for name in image.names:
            self._local.pop(name, None)
        named = msgspec.structs.replace(image, names=tuple(sorted(names)))
        self._local.update(dict.fromkeys(named.names, named))


def _each_once(local: dict[str, Image]) -> tuple[Image, ...]:
    """Each image once."""
    return tuple({image.id: image for image in local.values()}.values())
