"""Image references in Docker's syntax: parse, normalise, print. PURE.

`web` means `docker.io/library/web:latest`, `registry:5000/team/web@sha256:…` exactly that manifest.
The grammar is that of Docker, Podman and every registry, so each of them accepts what parses here,
and it has no character that a command line, a URL or a file name interprets. Invariant:
`parse_reference(str(r)) == r == parse_reference(r.familiar)`.
"""

import re
from typing import NamedTuple

from pyswarm_core.errors import InvalidArgument, invalid

DEFAULT_REGISTRY = "docker.io"
DEFAULT_TAG = "latest"
NAME_LENGTH_MAX = 255
"""Registry and repository together, the limit of every registry."""
INPUT_LENGTH_MAX = NAME_LENGTH_MAX + 1 + 128 + 1 + 7 + 128
"""A full name, a full tag and the longest digest."""
_OFFICIAL = "library/"

_LABEL = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?"
_HOST = rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[0-9a-fA-F:]+\])"
_REGISTRY = re.compile(rf"{_HOST}(?::([0-9]{{1,5}}))?")
_REPOSITORY_PART = re.compile(r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}")
_IMAGE_ID = re.compile(r"(?:sha256:)?[0-9a-f]{64}")


class Reference(NamedTuple):
    """A normalised reference. There is a tag, a digest, or both; with both the digest decides."""

    registry: str
    repository: str
    tag: str = ""
    digest: str = ""

    def __str__(self) -> str:
        return f"{self.name}{self._suffix()}"

    @property
    def name(self) -> str:
        """Registry and repository: `docker.io/library/web`."""
        return f"{self.registry}/{self.repository}"

    @property
    def canonical(self) -> str:
        """The name under which it is pulled and stored: without a tag beside a digest."""
        return f"{self.name}@{self.digest}" if self.digest else f"{self.name}:{self.tag}"

    @property
    def familiar(self) -> str:
        """The shortest text of the same reference: `web:1`, `team/web:1`, `registry:5000/web:1`."""
        short = self.repository.removeprefix(_OFFICIAL)
        text = short + self._suffix()
        same = _split_registry(short) == (self.registry, self.repository)
        return text if same and not _IMAGE_ID.fullmatch(text) else str(self)

    def pinned(self, digest: str) -> "Reference":
        """The same reference, pinned to one manifest; the tag stays for display.

        Raises InvalidArgument if `digest` is not one.
        """
        return Reference(self.registry, self.repository, self.tag, _checked_digest(digest, digest))

    def _suffix(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        return f"{tag}@{self.digest}" if self.digest else tag


def parse_reference(text: str) -> Reference:
    """Parse a reference as Docker does: the default registry is docker.io, the default tag
    `latest`.

    Raises InvalidArgument that names the invalid part and what is expected.
    """
    if not text:
        raise _invalid(text, "expected [REGISTRY/]NAME[:TAG][@DIGEST]")
    if len(text) > INPUT_LENGTH_MAX:
        raise _invalid(text, f"expected at most {INPUT_LENGTH_MAX} characters, got {len(text)}")
    if _IMAGE_ID.fullmatch(text):
        raise _invalid(text, "expected NAME@sha256:…: image ids are valid on one host only")
    rest, at, digest = text.partition("@")
    digest = _checked_digest(text, digest) if at else ""
    name, tag = _split_tag(rest)
    if tag is not None and not _TAG.fullmatch(tag):
        form = "1 to 128 of A-Z a-z 0-9 _ . -, not beginning with . or -"
        raise _invalid(text, f"expected a tag of {form}")
    registry, repository = _split_registry(name)
    _check_name(text, registry, repository)
    return Reference(registry, repository, tag or ("" if digest else DEFAULT_TAG), digest)


def _split_tag(text: str) -> tuple[str, str | None]:
    """A colon begins the tag only after the last slash; before it, it begins a port."""
    slash = text.rfind("/")
    colon = text.find(":", slash + 1)
    return (text, None) if colon < 0 else (text[:colon], text[colon + 1 :])


def _split_registry(name: str) -> tuple[str, str]:
    """The first part is a registry if it has a dot, a port or upper case, or is localhost."""
    first, slash, rest = name.partition("/")
    if slash and (first == "localhost" or "." in first or ":" in first or first != first.lower()):
        registry, repository = first, rest
    else:
        registry, repository = DEFAULT_REGISTRY, name
    if registry == "index.docker.io":
        registry = DEFAULT_REGISTRY
    if registry == DEFAULT_REGISTRY and "/" not in repository:
        repository = _OFFICIAL + repository
    return registry, repository


def _check_name(text: str, registry: str, repository: str) -> None:
    host = _REGISTRY.fullmatch(registry)
    if host is None or not (host[1] is None or 0 < int(host[1]) < 65536):
        raise _invalid(text, "expected a registry HOST[:PORT] with a port of 1 to 65535")
    if repository != repository.lower():
        raise _invalid(text, "expected the repository in lower case")
    if not all(_REPOSITORY_PART.fullmatch(part) for part in repository.split("/")):
        raise _invalid(text, "expected a repository of a-z 0-9, joined by . _ __ - or /")
    if len(registry) + 1 + len(repository) > NAME_LENGTH_MAX:
        raise _invalid(text, f"expected a name of at most {NAME_LENGTH_MAX} characters")


def _checked_digest(text: str, digest: str) -> str:
    if not _DIGEST.fullmatch(digest):
        raise _invalid(text, "expected a digest of sha256: and 64 of 0-9 a-f")
    return digest


def _invalid(text: str, reason: str) -> InvalidArgument:
    return invalid("image", text, reason)
