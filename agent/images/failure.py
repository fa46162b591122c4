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
from agent.images.endpoint import Endpoint

_SHOWN = 1000
_PRUNE = "to remove unused images: pyswarm system prune --all"
_MESSAGE = re.compile(r'level=(?:fatal|error) msg="((?:[^"\\]|\\.)*)"')
_NOISE = re.compile(
    r"^(?:(?:initializing (?:image from )?source|Error parsing image name"
    r"|choosing an image from manifest list|parsing manifest for image) ?[^ ]*:? "
    r"|pinging container registry [^ ]+: |reading manifest [^ ]+ in [^ ]+: |writing blob: "
    r'|Get "[^"]*": )+'
)

_OWN_END = re.compile(r"\b((?:dial|read|write) (?:tcp|udp)[46]?) \S+:\d+->")
"""This host's end of a connection: a port that says nothing, and differs in each pull."""

_RETRY_AFTER = re.compile(rb"Detected 'Retry-After' header \\\"([^\\\"]{0,64})\\\"")

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
            r"|not found: manifest|status code from registry 404",
        ),
        (
            RegistryUnavailable,
            "the registry's address answers with a page of HTML, as a proxy or a login page does:",
            r"invalid character '<'",
        ),
        (
            RegistryUnavailable,
            "the registry's address does not answer as a registry (/v2/), perhaps a proxy does:",
            r"can't talk to a V1 container registry",
        ),
        (
            InvalidImage,
            "wrong platform:",
            r"no image found in (?:manifest|image index)",
        ),
        (
            InvalidImage,
            "broken image:",
            r"digest did not match|does not match|unsupported (?:docker|manifest|media)|invalid tar"
            r"|no FSLayers in manifest|image-specific operation on artifact|invalid character"
            r"|gzip: |unexpected EOF"
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
            left = f"; {room}; {_PRUNE}" if room and error is DiskFull else ""
            return error(f"{says} {image} ({_short(cause)}){left}")
    return RegistryUnavailable(f"cannot pull {image} from {registry}: {_short(cause)}")


def throttled(image: str, registry: str, retry_after: str) -> RegistryUnavailable:
    """The error of a registry that requires a longer wait than a pull may make."""
    return RegistryUnavailable(
        f"registry limits the rate of pulls: {image} ({registry} answered 429 Too Many Requests,"
        f" Retry-After: {retry_after})"
    )


class Throttle:
    """Reads in skopeo's debug output what a registry that limits the rate requires."""

    retry_after = ""
    """The header's value as the registry sent it; empty: it limits nothing."""

    def line(self, line: bytes) -> None:
        """A line of stderr."""
        if found := _RETRY_AFTER.search(line):
            self.retry_after = found[1].decode("ascii", "replace")
        elif not self.retry_after and b'msg="Too many requests to ' in line:
            self.retry_after = "not given"


def without_debug(text: str) -> str:
    """skopeo's output without its debug lines, which name requests."""
    return "\n".join(line for line in text.split("\n") if " level=debug " not in line)


def reason(text: str) -> str:
    """What skopeo's output says, on one line."""
    return _short(_cause(text))


def silent(image: str, registry: str, seconds: float) -> RegistryUnavailable:
    """The error of a registry that accepted the connection and sent nothing for `seconds`."""
    return RegistryUnavailable(
        f"cannot pull {image}: registry {registry} did not answer for {seconds:g} s"
    )


def combined(errors: list[tuple[Endpoint, ImageError]]) -> ImageError:
    """The last error, which is the registry's own, followed by those of the registries before it.
    An image that a registry of the fleet may have, which does not answer, is not missing for good.
    """
    last = errors[-1][1]
    if len(errors) == 1:
        return last
    before = "; ".join(
        str(error) if place.fleet else f"mirror {place.registry}: {error}"
        for place, error in errors[:-1]
    )
    found_out = (ImageNotFound, InvalidImage)
    is_silent = any(place.fleet and not isinstance(error, found_out) for place, error in errors)
    kind = RegistryUnavailable if is_silent else type(last)
    return kind(f"{last}; {before}")


def _cause(text: str) -> str:
    found = _MESSAGE.findall(text)
    return re.sub(r"\\(.)", r"\1", found[-1]) if found else text.strip()


def _short(cause: str) -> str:
    line = _OWN_END.sub(r"\1 ", _NOISE.sub("", " ".join(cause.split())))
    printable = "".join(letter if letter.isprintable() else "?" for letter in line)
    return printable[:_SHOWN] or "skopeo failed without a message"
