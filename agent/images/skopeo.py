"""Access to registries through skopeo.

skopeo gets credentials in an anonymous memory file that only it inherits: they are never on a
command line or on disk. `_folder` removes what a killed copy leaves in its work directory;
containers-storage undoes what it leaves in the storage.
"""

import os
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from platform import machine
from tempfile import mkdtemp

import msgspec

from agent.images.bars import COLUMNS, ROWS, Bars
from agent.images.base import (
    Credentials,
    ImageError,
    InvalidImage,
    PullPhase,
    PullProgress,
    ReportProgress,
)
from agent.images.endpoint import Endpoint
from agent.images.failure import Throttle, failure, reason, silent, throttled, without_debug
from agent.images.manifest import check_manifest, entry_for, parse_manifest
from agent.images.settings import ImageSettings
from agent.images.tool import Output, Timeouts, run_tool
from pyswarm_core.aio.trees import remove_tree
from pyswarm_core.docker.reference import Reference, parse_reference
from pyswarm_core.docker.units import decimal_size
from pyswarm_core.images.platforms import ARCHITECTURES

_POLICY = Path("/etc/containers/policy.json")
_PUSHER = "node"
_MANIFEST_TIMEOUT_S = 60.0
_SAVE = Timeouts(stall_s=600.0, total_s=24 * 3600.0)
"""A user may read slowly."""
_PHASES = (
    ("Getting image", PullPhase.COPYING),
    ("Copying blob", PullPhase.COPYING),
    ("Writing manifest", PullPhase.STORING),
)


class Skopeo:
    """Copies images into the agent's storage and reads manifests."""

    def __init__(self, settings: ImageSettings) -> None:
        self._settings = settings

    async def copy(
        self,
        endpoint: Endpoint,
        reference: Reference,
        credentials: Credentials | None,
        report: ReportProgress,
        platform: str = "",
    ) -> None:
        """Pull what is missing from `endpoint` and store it as `reference`. Raises ImageError."""
        settings = self._settings
        timeouts = Timeouts(settings.stall_s, settings.pull_limit_s)
        with (
            _folder(settings.work) as work,
            _login(endpoint, credentials, self._settings.auth_file) as login,
        ):
            meter, throttle = _Meter(reference.familiar, report), Throttle()
            await self._examine(endpoint, reference, credentials, platform)
            command = (
                *(*self._base(), "--debug"),
                *platform_flags(platform),
                *("--tmpdir", str(work), "copy", *login.flags("src-")),
                f"--src-tls-verify={str(endpoint.verify_tls).lower()}",
                *(f"docker://{endpoint.source}", f"containers-storage:{reference.canonical}"),
            )
            env = {"CONTAINERS_STORAGE_CONF": str(settings.storage_conf), "TMPDIR": str(work)}
            try:
                output = await run_tool(
                    command,
                    env,
                    timeouts,
                    secret_fds=login.fds,
                    on_line=meter.line,
                    terminal=(ROWS, COLUMNS),
                    on_error=throttle.line,
                )
            except TimeoutError:
                raise self._late(throttle, endpoint, reference) from None
        self._check(output, endpoint, reference)

    async def save(self, image_id: str, names: tuple[str, ...], descriptor: int) -> None:
        """Write the image's archive to the descriptor. Raises ImageError."""
        first, more = next(iter(names), ""), names[1:]
        place = f"docker-archive:/proc/self/fd/{descriptor}"
        with _folder(self._settings.work) as work:
            command = (
                *(*self._base(), "--tmpdir", str(work), "copy", "--quiet"),
                *(word for name in more for word in ("--additional-tag", name)),
                *(f"containers-storage:@{image_id}", f"{place}:{first}" if first else place),
            )
            env = {
                "CONTAINERS_STORAGE_CONF": str(self._settings.storage_conf),
                "TMPDIR": str(work),
            }
            try:
                output = await run_tool(command, env, _SAVE, secret_fds=(descriptor,))
            except TimeoutError:
                raise ImageError(f"nothing was read for {_SAVE.stall_s:g} s") from None
        if output.code:
            raise ImageError(f"image {image_id[:12]} cannot be saved: {reason(output.err)}")

    async def push(self, image_id: str, to: str, password: str) -> None:
        """Push the image to `to` (HOST:PORT/REPOSITORY:TAG) without TLS, with the password. Raises
        ImageError.
        """
        registry = to.partition("/")[0]
        login = Credentials(username=_PUSHER, password=password)
        with _folder(self._settings.work) as work, _memory(registry, login) as file:
            command = (
                *(*self._base(), "--tmpdir", str(work), "copy", "--quiet"),
                *("--dest-tls-verify=false", "--dest-authfile", f"/proc/self/fd/{file}"),
                *(f"containers-storage:@{image_id}", f"docker://{to}"),
            )
            env = {
                "CONTAINERS_STORAGE_CONF": str(self._settings.storage_conf),
                "TMPDIR": str(work),
            }
            try:
                output = await run_tool(command, env, _SAVE, secret_fds=(file,))
            except TimeoutError:
                raise ImageError(f"nothing was pushed for {_SAVE.stall_s:g} s") from None
        if output.code:
            raise ImageError(reason(output.err))

    async def digest(
        self, endpoint: Endpoint, reference: Reference, credentials: Credentials | None
    ) -> str:
        """The digest of the manifest, or of the list of manifests. Raises ImageError."""
        manifest = await self._inspect(endpoint, reference, credentials, "--raw")
        return f"sha256:{sha256(manifest).hexdigest()}"

    async def configuration(
        self, endpoint: Endpoint, reference: Reference, credentials: Credentials | None
    ) -> bytes:
        """The configuration of the image for this host's platform. Raises ImageError."""
        return await self._inspect(endpoint, reference, credentials, "--config", "--raw")

    async def _examine(
        self,
        endpoint: Endpoint,
        reference: Reference,
        credentials: Credentials | None,
        platform: str,
    ) -> None:
        """Raises InvalidImage for an image that cannot run, before a layer is pulled."""
        architecture = next(iter(platform.split("/")[1:2]), host_architecture())
        found = parse_manifest(await self._inspect(endpoint, reference, credentials, "--raw"))
        if digest := entry_for(found, architecture):
            place = msgspec.structs.replace(endpoint, source=f"{_name(endpoint)}@{digest}")
            found = parse_manifest(await self._inspect(place, reference, credentials, "--raw"))
        check_manifest(found, reference.familiar)

    async def tags(
        self, endpoint: Endpoint, reference: Reference, credentials: Credentials | None
    ) -> tuple[str, ...]:
        """The tags of the reference's repository. Raises ImageError."""
        place = msgspec.structs.replace(endpoint, source=endpoint.repository)
        text = await self._asked(place, reference, credentials, "list-tags")
        try:
            return msgspec.json.decode(text, type=_Tags).tags
        except msgspec.MsgspecError as error:
            raise InvalidImage(f"{endpoint.registry} lists no tags ({error})") from None

    async def _inspect(
        self,
        endpoint: Endpoint,
        reference: Reference,
        credentials: Credentials | None,
        *what: str,
    ) -> bytes:
        return await self._asked(endpoint, reference, credentials, "inspect", *what)

    async def _asked(
        self,
        endpoint: Endpoint,
        reference: Reference,
        credentials: Credentials | None,
        *what: str,
    ) -> bytes:
        timeouts = Timeouts(self._settings.stall_s, _MANIFEST_TIMEOUT_S)
        with _login(endpoint, credentials, self._settings.auth_file) as login:
            throttle = Throttle()
            command = (
                *(*self._base(), "--debug", *what, *login.flags("")),
                f"--tls-verify={str(endpoint.verify_tls).lower()}",
                f"docker://{endpoint.source}",
            )
            try:
                output = await run_tool(
                    command, {}, timeouts, secret_fds=login.fds, on_error=throttle.line
                )
            except TimeoutError:
                raise self._late(throttle, endpoint, reference) from None
        self._check(output, endpoint, reference)
        return output.out

    def _late(self, throttle: Throttle, endpoint: Endpoint, reference: Reference) -> ImageError:
        """The error of a copy that made no progress."""
        if throttle.retry_after:
            return throttled(reference.familiar, endpoint.registry, throttle.retry_after)
        return silent(reference.familiar, endpoint.registry, self._settings.stall_s)

    def _check(self, output: Output, endpoint: Endpoint, reference: Reference) -> None:
        if output.code:
            room = _room(self._settings.name, self._settings.root, self._settings.work)
            text = without_debug(output.err)
            raise failure(text, reference.familiar, endpoint.registry, room)

    def _base(self) -> tuple[str, ...]:
        # A host's own signature policy applies; without one skopeo refuses to run.
        return ("skopeo",) if _POLICY.exists() else ("skopeo", "--insecure-policy")


class _Login(msgspec.Struct, frozen=True):
    path: str = ""
    fds: tuple[int, ...] = ()
    certificates: str = ""

    def flags(self, prefix: str) -> tuple[str, ...]:
        trust = (f"--{prefix}cert-dir", self.certificates) if self.certificates else ()
        if not self.path:
            return (f"--{prefix}no-creds", *trust)
        path = self.path
        return ("--src-authfile" if prefix else "--authfile", path, *trust)


class _Tags(msgspec.Struct, rename="pascal"):
    tags: tuple[str, ...] = ()


def platform_flags(platform: str) -> tuple[str, ...]:
    """skopeo's flags for OS[/ARCH[/VARIANT]]."""
    flags = ("--override-os", "--override-arch", "--override-variant")
    parts = platform.split("/") if platform else []
    return tuple(word for pair in zip(flags, parts, strict=False) for word in pair)


class _Meter:
    """Reports progress from skopeo's output lines."""

    def __init__(self, image: str, report: ReportProgress) -> None:
        self._report = report
        self._bars = Bars()
        self._last = PullProgress(reference=image, phase=PullPhase.CONNECTING)
        report(self._last)

    def line(self, line: bytes) -> None:
        text = line.decode("utf-8", "replace")
        self._bars.line(text)
        phase = next((phase for start, phase in _PHASES if start in text), self._last.phase)
        layers = self._bars.layers
        progress = msgspec.structs.replace(
            self._last,
            phase=phase,
            blobs=len(layers),
            bytes=sum(layer.done_bytes for layer in layers),
            layers=layers,
        )
        if progress != self._last:
            self._last = progress
            self._report(progress)


def host_architecture() -> str:
    """Of this host, in the words of images."""
    return ARCHITECTURES.get(machine(), machine())


def _name(endpoint: Endpoint) -> str:
    """The repository of the endpoint's source, without tag and digest."""
    return parse_reference(endpoint.source).name


def _room(host: str, *folders: Path) -> str:
    """The free space for images on this host, once per disk."""
    found: dict[int, tuple[Path, os.statvfs_result]] = {}
    for folder in folders:
        with suppress(FileNotFoundError):
            found.setdefault(folder.stat().st_dev, (folder, os.statvfs(folder)))
    disks = (
        f"{decimal_size(disk.f_bavail * disk.f_frsize)} of"
        f" {decimal_size(disk.f_blocks * disk.f_frsize)} free in {folder}"
        for folder, disk in found.values()
    )
    return f"{host} has {' and '.join(disks)}"


@contextmanager
def _folder(work: Path) -> Iterator[Path]:
    folder = Path(mkdtemp(prefix="pull-", dir=work))
    try:
        yield folder
    finally:
        with suppress(OSError):
            remove_tree(folder)


@contextmanager
def _login(
    endpoint: Endpoint, credentials: Credentials | None, auth_file: Path | None
) -> Iterator[_Login]:
    """The credentials for the image's own registry; mirrors never get them. The fleet's
    registry gets those of nodes.

    Without credentials, skopeo uses the host's file of logins, which has one per registry.
    """
    fleet = endpoint.fleet
    if fleet is not None:
        credentials = fleet.login
    elif credentials is None and auth_file is not None and auth_file.exists():
        yield _Login(str(auth_file))
        return
    if credentials is None or not (endpoint.own or fleet):
        yield _Login()
        return
    with _memory(endpoint.registry, credentials) as descriptor:
        path = f"/proc/self/fd/{descriptor}"
        yield _Login(path, (descriptor,), fleet.certificates if fleet else "")


@contextmanager
def _memory(registry: str, credentials: Credentials) -> Iterator[int]:
    """An anonymous file in memory with the login."""
    pair = b64encode(f"{credentials.username}:{credentials.password}".encode()).decode("ascii")
    descriptor = os.memfd_create("registry-login")
    try:
        os.write(descriptor, msgspec.json.encode({"auths": {registry: {"auth": pair}}}))
        yield descriptor
    finally:
        os.close(descriptor)
