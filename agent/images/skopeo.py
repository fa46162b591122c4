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
from tempfile import mkdtemp

import msgspec

from agent.images.base import Credentials, PullPhase, PullProgress, ReportProgress
from agent.images.endpoint import Endpoint
from agent.images.failure import failure, silent
from agent.images.settings import ImageSettings
from agent.images.tool import Output, Timeouts, run_tool
from pyswarm_core.aio.trees import remove_tree
from pyswarm_core.docker.reference import Reference
from pyswarm_core.docker.units import decimal_size

_POLICY = Path("/etc/containers/policy.json")
_MANIFEST_TIMEOUT_S = 60.0
_PHASES = (
    (b"Getting image", PullPhase.COPYING),
    (b"Copying blob", PullPhase.COPYING),
    (b"Writing manifest", PullPhase.STORING),
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
    ) -> None:
        """Pull what is missing from `endpoint` and store it as `reference`. Raises ImageError."""
        settings = self._settings
        timeouts = Timeouts(settings.stall_s, settings.pull_limit_s)
        with (
            _folder(settings.work) as work,
            _login(endpoint, credentials, self._settings.auth_file) as login,
        ):
            meter = _Meter(reference.familiar, work, report)
            command = (
                *self._base(),
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
                    on_tick=meter.tick,
                )
            except TimeoutError:
                raise silent(reference.familiar, endpoint.registry, timeouts.stall_s) from None
        self._check(output, endpoint, reference)

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

    async def _inspect(
        self,
        endpoint: Endpoint,
        reference: Reference,
        credentials: Credentials | None,
        *what: str,
    ) -> bytes:
        timeouts = Timeouts(self._settings.stall_s, _MANIFEST_TIMEOUT_S)
        with _login(endpoint, credentials, self._settings.auth_file) as login:
            command = (
                *(*self._base(), "inspect", *what, *login.flags("")),
                f"--tls-verify={str(endpoint.verify_tls).lower()}",
                f"docker://{endpoint.source}",
            )
            try:
                output = await run_tool(command, {}, timeouts, secret_fds=login.fds)
            except TimeoutError:
                raise silent(reference.familiar, endpoint.registry, timeouts.stall_s) from None
        self._check(output, endpoint, reference)
        return output.out

    def _check(self, output: Output, endpoint: Endpoint, reference: Reference) -> None:
        if output.code:
            room = _room(self._settings.name, self._settings.root, self._settings.work)
            raise failure(output.err, reference.familiar, endpoint.registry, room)

    def _base(self) -> tuple[str, ...]:
        # A host's own signature policy applies; without one skopeo refuses to run.
        return ("skopeo",) if _POLICY.exists() else ("skopeo", "--insecure-policy")


class _Login(msgspec.Struct, frozen=True):
    path: str = ""
    fds: tuple[int, ...] = ()

    def flags(self, prefix: str) -> tuple[str, ...]:
        if not self.path:
            return (f"--{prefix}no-creds",)
        path = self.path
        return ("--src-authfile", path) if prefix else ("--authfile", path)


class _Meter:
    """Reports progress from skopeo's output lines and the size of its work directory."""

    def __init__(self, image: str, work: Path, report: ReportProgress) -> None:
        self._work = work
        self._report = report
        self._last = PullProgress(reference=image, phase=PullPhase.CONNECTING)
        report(self._last)

    def line(self, line: bytes) -> None:
        for start, phase in _PHASES:
            if line.startswith(start):
                blobs = self._last.blobs + (start == b"Copying blob")
                self._say(msgspec.structs.replace(self._last, phase=phase, blobs=blobs))

    def tick(self) -> None:
        size = _size(self._work)
        self._say(msgspec.structs.replace(self._last, bytes=max(size, self._last.bytes)))

    def _say(self, progress: PullProgress) -> None:
        if progress != self._last:
            self._last = progress
            self._report(progress)


def _size(folder: Path) -> int:
    """The bytes of the files beneath it. skopeo removes files and folders meanwhile."""
    size = 0
    for place, _, names in os.walk(folder):  # leaves out folders that are gone
        for name in names:
            with suppress(FileNotFoundError):
                size += Path(place, name).lstat().st_size
    return size


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
    """The credentials for the image's own registry; mirrors never get them.

    Without credentials, skopeo uses the host's file of logins, which has one per registry.
    """
    if credentials is None and auth_file is not None and auth_file.exists():
        yield _Login(str(auth_file))
        return
    if credentials is None or not endpoint.own:
        yield _Login()
        return
    pair = b64encode(f"{credentials.username}:{credentials.password}".encode()).decode("ascii")
    descriptor = os.memfd_create("registry-login")
    try:
        os.write(descriptor, msgspec.json.encode({"auths": {endpoint.registry: {"auth": pair}}}))
        yield _Login(f"/proc/self/fd/{descriptor}", (descriptor,))
    finally:
        os.close(descriptor)
