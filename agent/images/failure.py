"""Classifies failures of skopeo. PURE: its output in, an ImageError with one readable line out.

The patterns match texts of registries and of containers/image. An unknown text is reported as it
is, as a temporary error: a needless retry costs less than a wrong permanent failure.
"""

import re

from agent.images.base import (
    DiskFull,
    ImageError,
    ImageNotFound,
    InvalidImage,
    RegistryUnavailable,
    Unauthorized,
)

_SHOWN = 300
_MESSAGE = re.compile(r'level=(?:fatal|error) msg="((?:[^"\\]|\\.)*)"')
_NOISE = re.compile(
    r"^(?:(?:initializing source|Error parsing image name|parsing manifest for image) ?[^ ]*:? "
    r"|pinging container registry [^ ]+: |reading manifest [^ ]+ in [^ ]+: |writing blob: "
    r'|Get "[^"]*": )+'
)

# The first match counts: the text of a digest mismatch may also mention a closed connection.
_PATTERNS: tuple[tuple[type[ImageError], str, re.Pattern[str]], ...] = tuple(
    (error, says, re.compile(pattern, re.IGNORECASE))
    for error, says, pattern in (
        (
            DiskFull,
            "no space left on this host for",
            r"no space left on device|disk quota exceeded",
        ),
        (
            Unauthorized,
            "not allowed to pull",
            r"unauthorized|authentication required|access to the resource is denied|denied:"
            r"|invalid username/password|status: 40[13]",
        ),
        (
            ImageNotFound,
            "no such image:",
            r"manifest unknown|name unknown|repository name not known|status: 404"
            r"|not found: manifest",
        ),
        (
            InvalidImage,
            "broken image:",
            r"digest did not match|does not match|unsupported (?:docker|manifest|media)|invalid tar"
            r"|no image found in (?:manifest|image index)|invalid character|gzip: |unexpected EOF"
            r"|unknown (?:image )?media type|archive/tar|missing signature key|invalid checksum"
            r"|processing tar file|unmarshal|signature|invalid (?:config|mani)",
        ),
        (
            RegistryUnavailable,
            "registry uses plain HTTP (to allow it, start the agent with --insecure-registry):",
            r"server gave HTTP response to HTTPS client",
        ),
        (
            RegistryUnavailable,
            "registry's certificate is not trusted:",
            r"x509: |certificate",
        ),
        (RegistryUnavailable, "registry limits the rate of pulls:", r"toomanyrequests|status: 429"),
    )
)


def failure(text: str, image: str, registry: str, room: str = "") -> ImageError:
    """The error for skopeo's output `text`, of a pull of `image` from `registry`.

    `room` is the free space of the host, for the error of a full disk.
    """
    cause = _cause(text)
    for error, says, pattern in _PATTERNS:
        if pattern.search(cause):
            left = f"; {room}" if room and error is DiskFull else ""
            return error(f"{says} {image} ({_short(cause)}){left}")
    return RegistryUnavailable(f"cannot pull {image} from {registry}: {_short(cause)}")


def silent(image: str, registry: str, seconds: float) -> RegistryUnavailable:
    """The error of a registry that accepted the connection and sent nothing for `seconds`."""
    return RegistryUnavailable(
        f"cannot pull {image}: registry {registry} did not answer for {seconds:g} s"
    )


def combined(errors: list[ImageError], registries: list[str]) -> ImageError:
    """The last error, which is the registry's own, followed by those of its mirrors."""
    if len(errors) == 1:
        return errors[0]
    before = "; ".join(
        f"mirror {registry}: {error}"
        for registry, error in zip(registries, errors[:-1], strict=False)
    )
    return type(errors[-1])(f"{errors[-1]}; {before}")


def _cause(text: str) -> str:
    found = _MESSAGE.findall(text)
    return re.sub(r"\\(.)", r"\1", found[-1]) if found else text.strip()


def _short(cause: str) -> str:
    line = _NOISE.sub("", " ".join(cause.split()))
    printable = "".join(letter if letter.isprintable() else "?" for letter in line)
    return printable[:_SHOWN] or "skopeo failed without a message"
