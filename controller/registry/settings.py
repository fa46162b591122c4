"""The registry's settings, and the configuration of its two processes. PURE."""

import base64
import hashlib
import hmac
import json
from pathlib import Path
from typing import Any

import msgspec

from pyswarm_core.controlplane import split_address
from pyswarm_core.objects import Cluster

NODES_USER = "node"
DRAIN_S = 5


class RegistrySettings(msgspec.Struct, frozen=True):
    """The registry of one controller."""

    folder: Path
    """Configuration and logs of its processes."""
    storage: Path
    listen: str
    """HOST:PORT for nodes."""
    advertised: str
    """Where nodes reach it: HOST:PORT."""
    binary: str = "docker-registry"
    quota: int = 0
    """Bytes of images above which pushes are refused; 0: none."""

    @property
    def socket(self) -> Path:
        """Of the process for users."""
        return self.folder / "users.sock"

    @property
    def names(self) -> tuple[str, ...]:
        """The names and addresses by which nodes verify its certificate."""
        found = split_address(self.advertised)
        return (found[0],) if found is not None and found[0] else ()


class RegistryState(msgspec.Struct, frozen=True):
    """What users are shown of it."""

    address: str = ""
    """Where nodes reach it; empty: this controller has none."""
    problem: str = "this controller was started with --no-registry"
    """Why it does not serve; empty: it does."""


def nodes_password(cluster: Cluster) -> str:
    """What nodes show to the registries: every controller derives the same from the key of the CA,
    and another one after a rotation, and after a node was removed by force.
    """
    phrase = f"pyswarm registry nodes {cluster.nodes_evicted}".encode()
    digest = hmac.new(cluster.ca.key, phrase, hashlib.sha256).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode("ascii")


def for_nodes(settings: RegistrySettings, version: str) -> bytes:
    """The configuration of the process for nodes, which only read. `version`: of its certificate,
    so that a process with an older one is found.
    """
    return _text(
        {
            **_common(settings, read_only=True),
            "auth": {
                "htpasswd": {"realm": "pyswarm", "path": str(settings.folder / "htpasswd")},
            },
            "http": {
                "addr": settings.listen,
                "relativeurls": True,
                "draintimeout": f"{DRAIN_S}s",
                "secret": version,
                "tls": {
                    "certificate": str(settings.folder / "nodes.pem"),
                    "key": str(settings.folder / "nodes.key"),
                    "minimumtls": "tls1.3",
                },
            },
        }
    )


def for_users(settings: RegistrySettings, secret: str) -> bytes:
    """The configuration of the process for users, on a socket that only this user may open."""
    return _text(
        {
            **_common(settings, read_only=False),
            "http": {
                "net": "unix",
                "addr": str(settings.socket),
                "relativeurls": True,
                "draintimeout": f"{DRAIN_S}s",
                "secret": secret,
            },
        }
    )


def _common(settings: RegistrySettings, *, read_only: bool) -> dict[str, Any]:
    return {
        "version": "0.1",
        "log": {"level": "warn", "accesslog": {"disabled": True}},
        "storage": {
            "filesystem": {"rootdirectory": str(settings.storage)},
            "delete": {"enabled": not read_only},
            "maintenance": {
                "uploadpurging": {
                    "enabled": not read_only,
                    "age": "24h",
                    "interval": "6h",
                    "dryrun": False,
                },
                "readonly": {"enabled": read_only},
            },
        },
    }


def _text(configuration: dict[str, Any]) -> bytes:
    """JSON is YAML."""
    return json.dumps(configuration, indent=1).encode()
