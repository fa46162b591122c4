"""Puts a built image into the fleet's registry. SHELL.

An image whose configuration the registry has under a tag is there already: the image's id is the
digest of its configuration.
"""

import subprocess
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import click
import msgspec

from cli.image.building.storage import Storage
from pyswarm_core.docker.reference import Reference
from pyswarm_core.errors import PyswarmError, Unavailable
from pyswarm_core.registry.names import repository_of

if TYPE_CHECKING:
    from cli.registry.opening import Answer, Endpoint

_MEDIA = (
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.oci.image.manifest.v1+json",
)
_FOUND, _MADE = 200, 201


class _Config(msgspec.Struct):
    digest: str = ""


class _Manifest(msgspec.Struct):
    config: _Config = msgspec.field(default_factory=_Config)


def push(
    image: str,
    tags: Sequence[Reference],
    registry: "Endpoint",
    copy: Callable[[Reference], None],
) -> None:
    """Put the image under all tags; `copy` pushes it under one. Raises PyswarmError."""
    have: dict[str, Answer] = {}
    """The manifest of the image in each repository, once it is there."""
    for tag in tags:
        repository = repository_of(tag)
        found = _manifest(registry, tag)
        if _is_of(found, image):
            have[repository] = found
        elif repository in have:
            _put(registry, tag, have[repository])
        else:
            copy(tag)
            have[repository] = _manifest(registry, tag)


def _manifest(registry: "Endpoint", tag: Reference) -> "Answer":
    path = f"/v2/{repository_of(tag)}/manifests/{tag.tag}"
    return registry.ask("GET", path, {"Accept": ", ".join(_MEDIA)})


def _is_of(answer: "Answer", image: str) -> bool:
    if answer.status != _FOUND:
        return False
    try:
        return msgspec.json.decode(answer.content, type=_Manifest).config.digest == image
    except msgspec.DecodeError:
        return False


def _put(registry: "Endpoint", tag: Reference, manifest: "Answer") -> None:
    """The same manifest under another tag of its repository."""
    path = f"/v2/{repository_of(tag)}/manifests/{tag.tag}"
    kind = {"Content-Type": manifest.headers.get("content-type", _MEDIA[0])}
    answer = registry.ask("PUT", path, kind, manifest.content)
    if answer.status != _MADE:
        text = " ".join(answer.content.decode(errors="replace").split())
        raise PyswarmError(f"{tag.familiar} could not be pushed: {answer.status} {text}")


def copy(storage: Storage, tag: Reference, registry: "Endpoint", *, quiet: bool) -> None:
    """Push the image that the storage has by this tag."""
    if not quiet:
        click.echo(f"pushing {tag.familiar}", err=True)
    command = ["buildah", "push", "--quiet", "--signature-policy", str(storage.policy())]
    command += ["--tls-verify=false", "--authfile", str(registry.authfile)]
    command += [str(tag), f"docker://{registry.reference(tag)}"]
    with subprocess.Popen(
        command,
        env=storage.environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stderr is not None
        lines = [line.decode(errors="replace").strip() for line in process.stderr]
    if process.returncode:
        reason = next((line for line in reversed(lines) if line), "no reason given")
        raise Unavailable(f"{tag.familiar} could not be pushed: {reason.removeprefix('Error: ')}")
