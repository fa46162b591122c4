"""The certificates of the embedded etcd: a CA of its own, in files beside etcd's data. SHELL.

The cluster's CA is stored in etcd, which needs certificates before that CA can be read. Therefore
the controller makes a second CA, whose certificates nobody but etcd and its client accepts.

etcd reads its certificate and key for every handshake, and the CA only when it starts: the file of
the CA has a name of its own, and an etcd that runs with another one is restarted. A renewed
certificate has the same key, so that no handshake finds a certificate with another one's key.
"""

import asyncio
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from controller.identity import ca
from controller.identity.ca import Issuer, Parsed, PrivateKey, Subject, Unit
from controller.store.etcd_tls import NO_TLS, EtcdTls
from pyswarm_core.aio.logs import EventLog
from pyswarm_core.clock import Clock, Instant, seconds
from pyswarm_core.errors import InvalidArgument
from pyswarm_core.identity.certificates import CertificateAuthority
from pyswarm_core.identity.limits import CERT_EXPIRY
from pyswarm_core.identity.trust import ETCD_NAME

_log = EventLog("controller.identity.etcd")

LOOK_PERIOD_S = 60.0
"""Between two looks at the certificates: the clock may be set meanwhile."""
RETRY_S = 5.0
_AUTHORITY = "ca.json"
_SERVER = "server"
_CLIENT = "client"
_OWNER = "embedded etcd"
"""Organisation in the certificates: no cluster has its id yet."""


class EtcdCertificates:
    """Makes and renews the certificates in a directory."""

    def __init__(self, folder: Path, clock: Clock, lifetime: int = CERT_EXPIRY) -> None:
        self._folder = folder.absolute()
        self._clock = clock
        self._lifetime = lifetime
        self._tls = NO_TLS
        self._ca_file = self._folder
        self._renews_at = Instant(0)

    def current(self) -> EtcdTls:
        """What a client of etcd shows and requires, since the last `prepare`."""
        return self._tls

    def prepare(self) -> None:
        """Make what is missing, damaged or half through its life. Raises OSError."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self._locked():
            now = self._clock.now()
            authority = self._authority(now)
            self._ca_file = self._publish(authority)
            ends = [self._renewal(holder, authority, now) for holder in (_SERVER, _CLIENT)]
        self._renews_at = min(ends)
        tls = EtcdTls(
            ca_pem=authority.certificate.encode(),
            cert_pem=(self._folder / f"{_CLIENT}.pem").read_bytes(),
            key_pem=(self._folder / f"{_CLIENT}.key").read_bytes(),
            server_name=ETCD_NAME,
        )
        self._tls = self._tls if tls == self._tls else tls

    async def keep(self) -> None:
        """Renew certificates in time, until cancelled. Call after `prepare`."""
        while True:
            left_s = seconds(self._renews_at - self._clock.now())
            await asyncio.sleep(min(max(left_s, 0.05), LOOK_PERIOD_S))
            try:
                self.prepare()
            except OSError as error:
                _log.warning("certificate.renew_failed", folder=self._folder, error=error)
                await asyncio.sleep(RETRY_S)

    def arguments(self) -> list[str]:
        """The flags of an etcd with these certificates. Call after `prepare`."""
        words = []
        for kind in ("", "peer-"):
            words += [
                f"--{kind}client-cert-auth",
                f"--{kind}trusted-ca-file={self._ca_file}",
                f"--{kind}cert-file={self._folder / _SERVER}.pem",
                f"--{kind}key-file={self._folder / _SERVER}.key",
            ]
        return words

    def _authority(self, now: Instant) -> CertificateAuthority:
        """The stored CA; a new one if there is none, or it cannot issue certificates now."""
        try:
            stored = (self._folder / _AUTHORITY).read_bytes()
            found = msgspec.json.decode(stored, type=CertificateAuthority)
            root = ca.parse(found.certificate.encode())
            if root.starts_at <= now < root.expires_at - self._lifetime:
                return found
        except FileNotFoundError:
            pass
        except (msgspec.DecodeError, InvalidArgument) as error:
            _log.warning("authority.unreadable", folder=self._folder, error=error)
        made = ca.new_authority(_OWNER, now)
        self._write(_AUTHORITY, msgspec.json.encode(made))
        _log.info("authority.created", folder=self._folder)
        return made

    def _publish(self, authority: CertificateAuthority) -> Path:
        """The file from which etcd reads the CA."""
        file = self._folder / f"ca-{ca.identifier_of(authority).hex()[:16]}.pem"
        if not file.exists():
            for former in self._folder.glob("ca-*.pem"):
                former.unlink()
            self._write(file.name, authority.certificate.encode())
        return file

    def _renewal(self, holder: str, authority: CertificateAuthority, now: Instant) -> Instant:
        """When the holder's certificate has to be renewed next, after doing so if it is time."""
        key = self._key(holder)
        found = self._certificate(holder)
        if found is not None:
            is_own = found.key_digest == ca.key_digest(key.public_key())
            is_issued = found.issuer_key == ca.identifier_of(authority)
            renews_at = Instant(found.expires_at - self._lifetime // 2)
            if is_own and is_issued and found.starts_at <= now < renews_at:
                return renews_at
        subject = Subject(Unit.ETCD, holder, _OWNER)
        # etcd uses the server's certificate also as a client of itself, for its gateway.
        serves = ETCD_NAME if holder == _SERVER else ""
        issued = Issuer(authority).certify(
            key.public_key(), subject, self._lifetime, now, serves=serves
        )
        self._write(f"{holder}.pem", issued.pem)
        _log.info("certificate.issued", holder=holder, ends_at=issued.expires_at)
        return Instant(issued.expires_at - self._lifetime // 2)

    def _key(self, holder: str) -> PrivateKey:
        """The holder's key, which stays the same."""
        try:
            return ca.private_key((self._folder / f"{holder}.key").read_bytes())
        except (FileNotFoundError, InvalidArgument):
            key = ca.new_key()
            self._write(f"{holder}.key", ca.key_pem(key))
            return key

    def _certificate(self, holder: str) -> Parsed | None:
        try:
            return ca.parse((self._folder / f"{holder}.pem").read_bytes())
        except (FileNotFoundError, InvalidArgument):
            return None

    def _write(self, name: str, content: bytes) -> None:
        """Replace a file as a whole; only this user may read it."""
        fresh = self._folder / f"{name}.new"
        fresh.unlink(missing_ok=True)
        fresh.touch(mode=0o600, exist_ok=False)
        with fresh.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self._folder / name)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Only one controller at a time may make certificates."""
        handle = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)
