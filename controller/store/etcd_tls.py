"""What the controller shows to etcd's members, and requires of them. SHELL over files.

A channel's credentials are fixed. The client compares what `EtcdTls` the settings return now with
the one that a channel was made with, and makes another channel when they differ.
"""

import time
from collections.abc import Callable
from pathlib import Path

import msgspec

FILES_PERIOD_S = 5.0
"""Between two looks at the files of an external etcd's certificates."""


class EtcdTls(msgspec.Struct, frozen=True):
    """Credentials for etcd. PEM; without any, endpoints without a scheme are not encrypted."""

    ca_pem: bytes = b""
    cert_pem: bytes = b""
    key_pem: bytes = b""
    server_name: str = ""
    """The name in the members' certificates; empty: the host of their address."""

    def __repr__(self) -> str:
        return "EtcdTls(...)"


NO_TLS = EtcdTls()


def no_tls() -> EtcdTls:
    """For members without TLS."""
    return NO_TLS


class TlsFiles:
    """The content of certificate files, which somebody may renew: read again when they change.

    Called from several threads, which may read a file twice and never see half of a change of one
    file.
    """

    def __init__(
        self,
        ca_file: Path | None,
        cert_file: Path | None,
        key_file: Path | None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._files = (ca_file, cert_file, key_file)
        self._now = now
        self._seen = self._signature()
        self._tls = self._read()
        self._looked_at = now()

    def current(self) -> EtcdTls:
        """The newest content; the last readable one while a file cannot be read."""
        if self._now() - self._looked_at < FILES_PERIOD_S:
            return self._tls
        self._looked_at = self._now()
        try:
            if (seen := self._signature()) != self._seen:
                self._tls, self._seen = self._read(), seen
        except OSError:
            pass  # the file is being replaced, or was removed: the next look may find it
        return self._tls

    def _signature(self) -> tuple[tuple[int, int, int], ...]:
        found = (file.stat() for file in self._files if file)
        return tuple((one.st_ino, one.st_mtime_ns, one.st_size) for one in found)

    def _read(self) -> EtcdTls:
        ca, cert, key = (file.read_bytes() if file else b"" for file in self._files)
        return EtcdTls(ca, cert, key)
