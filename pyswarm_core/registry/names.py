"""Where the fleet's registry keeps an image: `REGISTRY[:PORT]/PATH` as the repository
`REGISTRY[__PORT]/PATH`. PURE.

The grammar of repositories has no colon, no bracket and no upper case. Host names are the same in
either case; `__` is in no host name, so the port is what follows it; an IPv6 address is written in
full behind `ip6-`. Invariant: `name_of(repository_of(r)) == r.name`, but for the case of the
registry and the spelling of its address.
"""

import re
from ipaddress import IPv6Address

from pyswarm_core.docker.reference import NAME_LENGTH_MAX, Reference, parse_reference
from pyswarm_core.errors import InvalidArgument, invalid

_HOST = re.compile(r"([a-z0-9.-]+?)(?:__([0-9]{1,5}))?")
_NO_PORT = "0"
_IPV6 = "ip6-"
_IPV6_TEXT = re.compile(rf"{_IPV6}((?:[0-9a-f]{{4}}-){{7}}[0-9a-f]{{4}})")


def repository_of(reference: Reference) -> str:
    """The repository of the fleet's registry that has the image. Raises InvalidArgument if its name
    is too long, or its registry no host.
    """
    repository = f"{_first(reference)}/{reference.repository}"
    if len(repository) > NAME_LENGTH_MAX:
        expected = f"expected a name of at most {NAME_LENGTH_MAX - 1} characters"
        raise invalid("image", reference.familiar, f"{expected} in the fleet's registry")
    return repository


def name_of(repository: str) -> str:
    """The name of the images in a repository of the fleet's registry, as `Reference.name`. Raises
    InvalidArgument for one in which `repository_of` puts none.
    """
    first, slash, path = repository.partition("/")
    found = _HOST.fullmatch(first)
    if not slash or found is None:
        raise _foreign(repository)
    host, port = found.groups()
    if written := _IPV6_TEXT.fullmatch(host):
        host = f"[{IPv6Address(written[1].replace('-', ':')).compressed}]"
    if port == _NO_PORT:
        host, port = host.upper(), ""
    reference = parse_reference(f"{host}:{port}/{path}" if port else f"{host}/{path}")
    if repository_of(reference) != repository:
        raise _foreign(repository)
    return reference.name


def _first(reference: Reference) -> str:
    """The registry as the first part of a repository."""
    host, port = reference.registry.lower(), ""
    if not host.endswith("]"):
        name, colon, digits = host.rpartition(":")
        host, port = (name, digits) if colon else (host, "")
    if host.startswith("["):
        try:
            host = _IPV6 + IPv6Address(host.strip("[]")).exploded.replace(":", "-")
        except ValueError:
            text = "expected a registry with a valid IPv6 address"
            raise invalid("image", reference.familiar, text) from None
    if not port and "." not in host and host != "localhost" and not host.startswith(_IPV6):
        port = _NO_PORT  # only its upper case makes it a registry
    return f"{host}__{int(port)}" if port else host


def _foreign(repository: str) -> InvalidArgument:
    return invalid("repository", repository, "expected REGISTRY[__PORT]/PATH")
