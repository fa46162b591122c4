"""What of a registry's manifest excludes a pull. PURE: bytes in, an ImageError or nothing out.

skopeo would pull manifests of schema 1 and foreign layers in part, and more layers than the kernel
mounts in full. An unknown manifest is left to skopeo, which says what is wrong with it.
"""

import msgspec

from agent.images.base import InvalidImage
from pyswarm_core.images.limits import LAYERS_MAX

_FOREIGN = ("foreign", "nondistributable")


class Platform(msgspec.Struct, frozen=True):
    """For which hosts an entry of an index is."""

    architecture: str = ""
    os: str = ""


class Part(msgspec.Struct, frozen=True, rename="camel"):
    """A layer, or an entry of an index."""

    digest: str = ""
    media_type: str = ""
    platform: Platform = Platform()


class Manifest(msgspec.Struct, frozen=True, rename="camel"):
    """The parts of a manifest or of an index that are looked at."""

    schema_version: int = 0
    manifests: tuple[Part, ...] = ()
    layers: tuple[Part, ...] = ()


def parse_manifest(text: bytes) -> Manifest:
    """Parse it; an empty one if it has another form."""
    try:
        return msgspec.json.decode(text, type=Manifest)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return Manifest()


def entry_for(index: Manifest, architecture: str) -> str:
    """The digest of the manifest that skopeo takes on a host of this architecture; empty if none
    is.
    """
    fit = (
        one.digest
        for one in index.manifests
        if (one.platform.os, one.platform.architecture) == ("linux", architecture)
    )
    return next(fit, "")


def check_manifest(manifest: Manifest, image: str) -> None:
    """Raises InvalidImage if the image cannot run on any host."""
    if manifest.schema_version == 1:
        raise InvalidImage(
            f"unsupported image: {image} has a manifest of schema 1, which registries and Docker no"
            " longer accept: push it again with a current tool"
        )
    for layer in manifest.layers:
        if any(word in layer.media_type for word in _FOREIGN):
            raise InvalidImage(
                f"unsupported image: {image} has the foreign layer {layer.digest}"
                f" ({layer.media_type}), which its registry does not have: push it again with all"
                " its layers"
            )
    if len(manifest.layers) > LAYERS_MAX:
        raise InvalidImage(
            f"unsupported image: {image} has {len(manifest.layers)} layers, and a container mounts"
            f" at most {LAYERS_MAX}: build it with fewer steps"
        )


def check_platform(image: str, found: str, own: str) -> None:
    """Raises InvalidImage if an image of the architecture `found` does not run on a host of
    `own`.
    """
    if found and found not in _RUN_BY.get(own, (own,)):
        raise InvalidImage(
            f"wrong platform: {image} is for linux/{found}, and this host is linux/{own}"
        )


_RUN_BY = {"amd64": ("amd64", "386"), "arm64": ("arm64", "arm")}
"""By a host's architecture those of images that its kernel runs."""
