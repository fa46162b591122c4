"""The files of the registry's process for nodes: its certificate, and the password that nodes show.
SHELL.

They stay as they are while they are valid, so that a restarted controller adopts the process.
"""

import ctypes
import hashlib
import secrets

from controller.identity import ca
from controller.identity.cluster import issuer_key_of, registry_identity
from controller.registry.settings import NODES_USER, RegistrySettings, nodes_password
from pyswarm_core.aio.logs import EventLog
from pyswarm_core.clock import Instant
from pyswarm_core.errors import InvalidArgument
from pyswarm_core.objects import Cluster

_log = EventLog("controller.registry")

_COST = "$2b$04$"
"""bcrypt's least: the password has 256 random bits, and each request of a node is checked."""
_SALT = "./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"


class NodesFiles:
    """The files in the registry's directory."""

    def __init__(self, settings: RegistrySettings) -> None:
        self._settings = settings
        self._folder = settings.folder
        self.renews_at = Instant(0)

    def prepare(self, cluster: Cluster, now: Instant) -> str:
        """Make what is missing or outdated; return what changes with the certificate. Raises
        OSError.
        """
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._settings.storage.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not self._is_current(cluster, now):
            identity = registry_identity(cluster, self._settings.names, now)
            self._write("nodes.key", identity.key)
            self._write("nodes.pem", identity.chain)
            self.renews_at = identity.renews_at
            _log.info("certificate.issued", holder="registry", ends_at=identity.ends_at)
        password = nodes_password(cluster)
        if not self._has_password(password):
            self._write("htpasswd", f"{NODES_USER}:{_hashed(password)}\n".encode())
        return hashlib.sha256((self._folder / "nodes.pem").read_bytes()).hexdigest()

    def secret(self) -> str:
        """That of uploads, which stays the same. Raises OSError."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = self._folder / "uploads.secret"
        if not file.exists():
            self._write(file.name, secrets.token_hex(32).encode())
        return file.read_text()

    def _is_current(self, cluster: Cluster, now: Instant) -> bool:
        try:
            pem = (self._folder / "nodes.pem").read_bytes()
            found = ca.parse(pem)
            key = ca.private_key((self._folder / "nodes.key").read_bytes())
        except (FileNotFoundError, InvalidArgument):
            return False
        self.renews_at = Instant((found.starts_at + ca.BACKDATED + found.expires_at) // 2)
        return (
            found.key_digest == ca.key_digest(key.public_key())
            and found.issuer_key == issuer_key_of(cluster.ca)
            and found.subject.id == self._settings.names[0]
            and pem.endswith(cluster.cross_certificate.encode())
            and found.starts_at <= now < self.renews_at
        )

    def _has_password(self, password: str) -> bool:
        try:
            stored = (self._folder / "htpasswd").read_text().strip().partition(":")[2]
        except FileNotFoundError:
            return False
        return bool(stored) and _crypt(password, stored) == stored

    def _write(self, name: str, content: bytes) -> None:
        """Replace a file as a whole; only this user may read it."""
        fresh = self._folder / f"{name}.new"
        fresh.unlink(missing_ok=True)
        fresh.touch(mode=0o600)
        fresh.write_bytes(content)
        fresh.replace(self._folder / name)


def _hashed(password: str) -> str:
    return _crypt(password, _COST + "".join(secrets.choice(_SALT) for _ in range(22)))


def _crypt(password: str, setting: str) -> str:
    """crypt(3) of the C library, of which the registry accepts bcrypt alone."""
    function = ctypes.CDLL("libcrypt.so.1").crypt
    function.restype = ctypes.c_char_p
    found = function(password.encode(), setting.encode())
    if not found or not found.startswith(b"$2"):
        raise OSError("libcrypt.so.1 has no bcrypt")
    return str(found.decode("ascii"))
