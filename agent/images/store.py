"""The images of the host: found in the storage, pulled by skopeo when missing, removed by name.

`open_images` makes a store. Invariant: one pull per reference at a time, with bounds in all and per
registry, so that a registry that hangs does not delay images of other registries.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeVar

from agent.images.base import (
    Credentials,
    DiskFull,
    Image,
    ImageBlob,
    ImageConfig,
    ImageError,
    ImageInUse,
    ImageNotFound,
    Images,
    InvalidImage,
    PullPhase,
    PullPolicy,
    PullProgress,
    RegistryUnavailable,
    Removed,
    ReportProgress,
    Stored,
)
from agent.images.building.buildah import Base, Builds
from agent.images.endpoint import Endpoint, endpoints
from agent.images.failure import combined
from agent.images.fleet import FleetRegistries
from agent.images.imageconfig import parse_configuration
from agent.images.manifest import check_platform
from agent.images.settings import ImageSettings
from agent.images.sharing import SharedPulls
from agent.images.skopeo import Skopeo, host_architecture
from agent.images.storage import Storage
from agent.images.tool import Timeouts, run_tool
from pyswarm_core.aio.trees import remove_tree
from pyswarm_core.docker.reference import Reference, parse_reference
from pyswarm_core.errors import InvalidArgument
from pyswarm_core.plaintext import split_lines

T = TypeVar("T")

# A removal waits while a pull unpacks a layer, so its timeout is longer than its own work takes.
_STORAGE_TIMEOUTS = Timeouts(stall_s=120.0, total_s=120.0)


@asynccontextmanager
async def open_images(settings: ImageSettings) -> AsyncIterator[Images]:
    """The images under `settings.root`, made if absent; leaving the block cancels pulls.

    Removes what a killed agent left: unfinished downloads, and mounts of the tools. Raises
    InvalidArgument for a malformed mirror.
    """
    endpoints(parse_reference("any"), settings.mirrors, settings.insecure_registries)
    _prepare(settings)
    await _sweep(settings)
    async with asyncio.TaskGroup() as group:
        pulls = SharedPulls(group)
        images = StoredImages(settings, pulls)
        await images.builds.tidy()
        try:
            yield images
        finally:
            pulls.close()


class Places(NamedTuple):
    """The registries to ask for an image, in order."""

    found: tuple[Endpoint, ...]
    passed: list[tuple[Endpoint, ImageError]]
    """Registries of the fleet that do not answer, and why."""
    digest: str
    """Of the image in the fleet's registry; empty if it has none, or does not answer."""


class StoredImages:
    """`Images` over containers-storage and skopeo."""

    def __init__(self, settings: ImageSettings, pulls: SharedPulls) -> None:
        self._settings = settings
        self._pulls = pulls
        self._storage = Storage(settings.root)
        self._skopeo = Skopeo(settings)
        self.builds: Builds = Builds(settings, self._base)
        self._deleting: set[str] = set()
        """Images that no task may begin to use any more."""
        self._fleet = FleetRegistries(settings.work / "fleet")
        self._slots = asyncio.Semaphore(settings.parallel_pulls)
        self._registry_slots: defaultdict[str, asyncio.Semaphore] = defaultdict(
            lambda: asyncio.Semaphore(settings.parallel_per_registry)
        )

    async def resolve(
        self,
        reference: str,
        credentials: Credentials | None = None,
        progress: ReportProgress | None = None,
        policy: PullPolicy = PullPolicy.MISSING,
    ) -> Image:
        """See `Images.resolve`."""
        ref = parse_reference(reference)
        image = await self._resolve(ref, credentials, progress, policy)
        if not _emulates():
            check_platform(ref.familiar, image.architecture, host_architecture())
        return image

    async def _resolve(
        self,
        ref: Reference,
        credentials: Credentials | None,
        progress: ReportProgress | None,
        policy: PullPolicy,
        platform: str = "",
    ) -> Image:
        use_local = policy is PullPolicy.MISSING or bool(ref.digest)
        if use_local and (image := self._here(ref)):
            return image
        await self._pulls.join(
            ref.canonical,
            (credentials, platform),
            lambda report: self._fetch(_Pull(ref, credentials, policy, platform), report),
            progress,
        )
        if image := self._storage.find(ref):
            _require_platform(image, ref, platform)
            return image
        raise InvalidImage(f"broken image: {ref.familiar} was pulled but cannot be read back")

    async def pull(
        self,
        reference: str,
        credentials: Credentials | None = None,
        progress: ReportProgress | None = None,
        platform: str = "",
    ) -> Image:
        """See `Images.pull`."""
        ref = parse_reference(reference)
        return await self._resolve(ref, credentials, progress, PullPolicy.ALWAYS, platform)

    async def tags(self, reference: str, credentials: Credentials | None = None) -> tuple[str, ...]:
        """See `Images.tags`."""
        ref = parse_reference(reference)
        found: set[str] = set()
        for place in self._fleet.places(ref):
            with suppress(ImageError):  # it has none, or does not answer
                found.update(await self._skopeo.tags(place, ref, credentials))
        settings = self._settings
        places = Places(endpoints(ref, settings.mirrors, settings.insecure_registries), [], "")
        try:
            found.update(await self._asked(places, partial(self._tags, ref, credentials)))
        except ImageError:
            if not found:
                raise
        return tuple(sorted(found))

    async def _tags(
        self, ref: Reference, credentials: Credentials | None, place: Endpoint
    ) -> Collection[str]:
        return await self._skopeo.tags(place, ref, credentials)

    async def resolve_digest(self, reference: str, credentials: Credentials | None = None) -> str:
        """See `Images.resolve_digest`."""
        ref = parse_reference(reference)
        places = await self._places(ref)
        if places.digest:
            return places.digest
        return await self._asked(places, lambda place: self._skopeo.digest(place, ref, credentials))

    async def configuration(
        self, reference: str, credentials: Credentials | None = None
    ) -> ImageConfig:
        """See `Images.configuration`."""
        ref = parse_reference(reference)
        if image := self._storage.find(ref):
            return image.config
        places = await self._places(ref)
        blob = await self._asked(
            places, lambda place: self._skopeo.configuration(place, ref, credentials)
        )
        return parse_configuration(blob).run

    def fleet_changed(self, registries: tuple[str, ...], password: str, roots: str) -> None:
        """See `Images.fleet_changed`."""
        self._fleet.changed(registries, password, roots)

    async def stored(self) -> Stored:
        """See `Images.stored`."""
        return self._storage.stored()

    @property
    def pulling(self) -> bool:
        """See `Images.pulling`."""
        return self._pulls.running or self.builds.running > 0

    async def _base(self, base: Base, report: ReportProgress) -> Image:
        """A base image of a build."""
        ref, login, policy, platform = base
        here = self._here(ref) if policy is PullPolicy.MISSING else None
        if here and f"{here.platform}/".startswith(f"{platform}/" if platform else ""):
            return here
        policy = PullPolicy.ALWAYS if platform else policy
        return await self._resolve(ref, login, report, policy, platform)

    async def delete_layer(self, layer_id: str) -> None:
        """See `Images.delete_layer`."""
        await self._change("delete-layer", layer_id)

    def _here(self, ref: Reference) -> Image | None:
        """The local image, unless it is being deleted."""
        image = self._storage.find(ref)
        return None if image is None or image.id in self._deleting else image

    async def blob(self, image_id: str) -> ImageBlob:
        """See `Images.blob`."""
        found = self._storage.blob(image_id)
        if not found.config:
            raise ImageNotFound(f"no such image here: {image_id[:12]}")
        return found

    async def save(self, image_id: str, names: Collection[str], descriptor: int) -> None:
        """See `Images.save`."""
        image = self._storage.by_id(image_id)
        if image is None:
            raise ImageNotFound(f"no such image here: {image_id[:12]}")
        await self._skopeo.save(image.id, tuple(names), descriptor)

    async def push(self, image_id: str, to: str, password: str) -> None:
        """See `Images.push`."""
        image = self._storage.by_id(image_id)
        if image is None:
            raise ImageNotFound(f"no such image here: {image_id[:12]}")
        await self._skopeo.push(image.id, to, password)

    async def delete(
        self, image_id: str, names: Collection[str] = (), in_use: Collection[str] = ()
    ) -> Removed:
        """See `Images.delete`."""
        stored = self._storage.stored().images
        image = next((one for one in stored if one.id == image_id), None)
        if image is None:
            raise ImageNotFound(f"no such image here: {image_id[:12]}")
        left = tuple(name for name in image.names if names and name not in names)
        if left:
            await self._change("set-names", *_flagged(left), image.id)
            return Removed(untagged=tuple(name for name in image.names if name in names))
        if image.id in in_use:
            raise ImageInUse(f"image {_shown(image)} is used by a task on this host")
        self._deleting.add(image.id)
        try:
            await self._change("delete-image", image.id)
        finally:
            self._deleting.discard(image.id)
        return Removed(untagged=image.names, deleted=True, reclaimed_bytes=image.unique_bytes)

    async def _asked(self, places: Places, ask: Callable[[Endpoint], Awaitable[T]]) -> T:
        """The answer of the first registry that has one. Raises ImageError."""
        errors = list(places.passed)
        for place in places.found:
            try:
                return await ask(place)
            except ImageError as error:
                errors.append((place, error))
        raise combined(errors)

    async def _places(self, ref: Reference) -> Places:
        """Where to look for an image: the fleet's registry if it has it, mirrors, its own one."""
        having, passed = await self._fleet.having(ref)
        settings = self._settings
        others = endpoints(ref, settings.mirrors, settings.insecure_registries)
        digest = having[0][1] if having else ""
        return Places((*(place for place, _ in having), *others), passed, digest)

    async def _fetch(self, pull: "_Pull", report: ReportProgress) -> None:
        ref = pull.reference
        # A pull of another caller, with other credentials, may have just ended.
        if pull.policy is PullPolicy.MISSING and self._here(ref):
            return
        places = await self._places(ref)
        errors = list(places.passed)
        for place in places.found:
            report(PullProgress(reference=ref.familiar, phase=PullPhase.WAITING))
            try:
                async with self._registry_slots[place.registry], self._slots:
                    copy = self._skopeo.copy
                    await copy(place, ref, pull.credentials, report, pull.platform)
                    return
            except DiskFull:
                raise  # no other registry has a smaller image
            except ImageError as error:
                errors.append((place, error))
        raise combined(errors)

    async def _change(self, *arguments: str) -> None:
        env = {"CONTAINERS_STORAGE_CONF": str(self._settings.storage_conf)}
        try:
            output = await run_tool(("containers-storage", *arguments), env, _STORAGE_TIMEOUTS)
        except TimeoutError:
            raise RegistryUnavailable("the image storage is busy: try again later") from None
        if output.code:
            why = " ".join(output.err.split())[:300]
            raise ImageError(f"cannot change the image storage: {why}")


def _emulates() -> bool:
    """Whether this host runs programs of other architectures (binfmt_misc with QEMU)."""
    return any(Path("/proc/sys/fs/binfmt_misc").glob("qemu-*"))


class _Pull(NamedTuple):
    """What is pulled."""

    reference: Reference
    credentials: Credentials | None
    policy: PullPolicy
    platform: str


def _require_platform(image: Image, ref: Reference, platform: str) -> None:
    """Raise InvalidImage for an image of another platform: a registry that has a single one sends
    that.
    """
    if platform and not f"{image.platform}/".startswith(f"{platform}/"):
        raise InvalidImage(
            f"image {ref.familiar} is there for {image.platform or 'no platform'} alone, not for"
            f" {platform}"
        )


def _flagged(names: Collection[str]) -> tuple[str, ...]:
    return tuple(argument for name in names for argument in ("--name", name))


def _shown(image: Image) -> str:
    """The image's name, without one its id."""
    name = next(iter(image.names), image.id[:12])
    try:
        return parse_reference(name).familiar
    except InvalidArgument:
        return name


def _prepare(settings: ImageSettings) -> None:
    """Make what does not exist. It writes nothing on later starts, so an agent starts on a full
    disk.
    """
    for folder in (settings.root, settings.run_root, settings.work):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for left in settings.work.iterdir():
        with suppress(OSError):
            remove_tree(left)
    conf, text = settings.storage_conf, settings.storage_conf_text
    if not conf.exists() or conf.read_text(encoding="utf-8") != text:
        fresh = conf.with_suffix(".new")
        fresh.write_text(text, encoding="utf-8")
        fresh.replace(conf)


async def _sweep(settings: ImageSettings) -> None:
    """Undo the trial mounts of a tool that was killed while it probed the kernel's features."""
    trials = settings.root / "overlay" / "compat"
    # Not by Path.is_mount: it does not detect a mount from the same file system.
    lines = split_lines(Path("/proc/self/mountinfo").read_text(encoding="utf-8"))
    mounts = [line.split(" ")[4] for line in lines]
    for mount in reversed([mount for mount in mounts if mount.startswith(str(trials))]):
        await run_tool(("umount", "--lazy", mount), {}, _STORAGE_TIMEOUTS)
    for trial in trials.parent.glob("compat*"):
        with suppress(OSError):
            remove_tree(trial)
