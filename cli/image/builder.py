"""Builds images with buildah and pushes them to the registry that the fleet pulls from. SHELL.

buildah uses its own storage in the user's cache, so that it shares no mounts, locks or images with
other programs of the host.
"""

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import msgspec

from cli.context.model import Context
from pyswarm_core.docker.reference import DEFAULT_REGISTRY, Reference
from pyswarm_core.errors import PyswarmError, Unavailable, invalid

HOST_POLICY = Path("/etc/containers/policy.json")


class Recipe(msgspec.Struct, frozen=True, kw_only=True):
    """The arguments of `image build`."""

    directory: Path
    file: Path | None = None
    build_args: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    target: str = ""
    no_cache: bool = False
    quiet: bool = False


class Destination(msgspec.Struct, frozen=True):
    """The reference to push to, and how its registry is reached."""

    reference: str
    is_plain: bool
    """Without TLS."""
    netns: str


def destination(reference: Reference, context: Context) -> Destination:
    """Short names are pushed to the fleet's registry, which nodes use as a mirror of Docker Hub.

    Raises InvalidArgument if the name is short and the fleet has no registry.
    """
    if reference.digest:
        raise invalid("--tag", str(reference), "expected a name without a digest")
    if reference.registry not in (DEFAULT_REGISTRY, context.registry):
        return Destination(str(reference), is_plain=False, netns="")
    if not context.registry:
        expected = "the fleet has no registry: expected a name such as registry.example.com/web:1"
        raise invalid("--tag", reference.familiar, expected)
    name = f"{context.registry}/{reference.repository}:{reference.tag}"
    return Destination(name, is_plain=True, netns=context.netns)


def build(recipe: Recipe, references: Sequence[Reference]) -> None:
    """Build an image into buildah's storage and tag it.

    Raises InvalidArgument if the directory or file does not exist, PyswarmError if the build fails.
    """
    # The OCI's format of images has no HEALTHCHECK.
    command = ["build", "--format", "docker", "--isolation", "chroot", "--layers"]
    for reference in references:
        command += ["--tag", str(reference)]
    command += ["--file", str(_file(recipe))]
    for flag, values in (("--build-arg", recipe.build_args), ("--label", recipe.labels)):
        for value in values:
            command += [flag, value]
    command += ["--target", recipe.target] if recipe.target else []
    command += ["--no-cache"] if recipe.no_cache else []
    command += ["--quiet"] if recipe.quiet else []
    _buildah([*command, str(recipe.directory)], (), "the build failed")


def push(reference: Reference, target: Destination, *, quiet: bool) -> None:
    """Push the image. Raises PyswarmError."""
    command = ["push", "--quiet"] if quiet else ["push"]
    command += ["--tls-verify=false"] if target.is_plain else []
    command += [str(reference), f"docker://{target.reference}"]
    enter = ("nsenter", f"--net={target.netns}") if target.netns else ()
    _buildah(command, enter, f"{target.reference} could not be pushed")


def _file(recipe: Recipe) -> Path:
    if not recipe.directory.is_dir():
        raise invalid("PATH", str(recipe.directory), "expected a directory")
    candidates = [recipe.directory / name for name in ("Containerfile", "Dockerfile")]
    if recipe.file is not None:
        candidates = [recipe.file, recipe.directory / recipe.file]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    named = recipe.file or "Containerfile"
    raise invalid("--file", str(named), "expected a file that exists")


def _buildah(arguments: Sequence[str], enter: Sequence[str], failure: str) -> None:
    if shutil.which("buildah") is None:
        raise Unavailable("buildah is not installed: apt-get install buildah")
    policy = ["--signature-policy", str(_policy())] if arguments[0] == "push" else []
    command = [*enter, "buildah", arguments[0], *policy, *arguments[1:]]
    environment = {**os.environ, "CONTAINERS_STORAGE_CONF": str(_storage_conf())}
    done = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, check=False)
    if done.returncode:
        raise PyswarmError(f"{failure}: buildah exited with {done.returncode}")


def _cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    directory = Path(base) / "pyswarm" / "build"
    directory.mkdir(parents=True, exist_ok=True)
    return directory


def _storage_conf() -> Path:
    """The file of buildah's storage settings. Without skip_mount_home every run leaves a mount."""
    cache = _cache()
    path = cache / "storage.conf"
    path.write_text(
        f'[storage]\ndriver = "{_driver(cache)}"\ngraphroot = "{cache}/storage"\n'
        f'runroot = "{cache}/run"\n\n[storage.options.overlay]\nskip_mount_home = "true"\n'
    )
    return path


def _driver(directory: Path) -> str:
    """overlay; vfs, which copies every layer, on a file system that is an overlay itself, as in a
    container, because the kernel does not stack them.
    """
    done = subprocess.run(
        ["stat", "--file-system", "--format=%T", directory],
        capture_output=True,
        text=True,
        check=False,
    )
    return "vfs" if done.stdout.strip() == "overlayfs" else "overlay"


def _policy() -> Path:
    """The host's signature policy, or a permissive one: buildah does not push without one."""
    if HOST_POLICY.exists():
        return HOST_POLICY
    path = _cache() / "policy.json"
    path.write_text('{"default": [{"type": "insecureAcceptAnything"}]}')
    return path
