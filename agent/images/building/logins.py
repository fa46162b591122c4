"""The logins of a build, in an anonymous file in memory that only buildah inherits. SHELL."""

import os
from base64 import b64encode
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import msgspec

from pyswarm_core.specs import RegistryLogin


class Login(NamedTuple):
    """The file, for `--authfile`."""

    descriptor: int
    path: str


@contextmanager
def authfile(given: Iterable[RegistryLogin]) -> Iterator[Login]:
    """A file with these logins, until the end of the block."""
    auths = {
        one.registry: {"auth": b64encode(f"{one.username}:{one.password}".encode()).decode()}
        for one in given
    }
    descriptor = os.memfd_create("build-logins")
    try:
        written(descriptor, msgspec.json.encode({"auths": auths}))
        yield Login(descriptor, f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)


def written(descriptor: int, data: bytes) -> None:
    """Write all of it."""
    left = memoryview(data)
    while left:
        left = left[os.write(descriptor, left) :]
