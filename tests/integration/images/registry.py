"""Real registries on loopback, and images made byte by byte to fill them."""

import gzip
import io
import json
import os
import shutil
import signal
import socket
import subprocess
import tarfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec

from agent.images.base import ImageConfig
from tests.fixtures.ports import free_port

# The password is "right": bcrypt, the only kind docker-registry takes.
_HTPASSWD = "ann:$2b$04$nv7cJTZAPpHKJqIQcE1HUuNZq2aHEtmcx/L3qT6e8JosKjxmAnWaC\n"

Layer = Mapping[str, bytes]


class Registry:
    """One docker-registry. Restarting it with a login or silenced keeps its address."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.address = f"127.0.0.1:{self.port}"
        self.log = folder / "log"
        self._process: subprocess.Popen[bytes] | None = None
        self._silence: socket.socket | None = None

    def start(self, *, login: bool = False) -> None:
        """Serve; with `login` only ann may pull."""
        self.folder.mkdir(exist_ok=True)
        config: dict[str, Any] = {
            "version": "0.1",
            "storage": {"filesystem": {"rootdirectory": str(self.folder / "data")}},
            "http": {"addr": self.address},
        }
        if login:
            (self.folder / "htpasswd").write_text(_HTPASSWD)
            path = str(self.folder / "htpasswd")
            config["auth"] = {"htpasswd": {"realm": "test", "path": path}}
        (self.folder / "config.json").write_text(json.dumps(config))
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                ["docker-registry", "serve", str(self.folder / "config.json")],
                stdout=log,
                stderr=log,
            )
        _until_listening(self.port)

    def stop(self) -> None:
        """End it, or the silence that took its place."""
        if self._process:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
            self._process = None
        if self._silence:
            self._silence.close()
            self._silence = None

    def go_silent(self) -> None:
        """Take connections at the same address, and never answer."""
        self.stop()
        self._silence = socket.create_server(("127.0.0.1", self.port), backlog=64)

    def manifests_served(self) -> int:
        """How many manifests were read by a tag or digest."""
        lines = self.log.read_text(errors="replace").splitlines()
        return sum('"GET /v2/' in line and "/manifests/" in line for line in lines)

    def blob(self, digest: str) -> Path:
        """The file that holds a blob."""
        kind, _, name = digest.partition(":")
        return self.folder / "data/docker/registry/v2/blobs" / kind / name[:2] / name / "data"

    def push(self, rest: str, layers: Sequence[Layer], config: ImageConfig) -> str:
        """Store an image of these layers, the base first; returns its manifest's digest."""
        layout = self.folder / "layout"
        digest = write_layout(layout, layers, config)
        source, target = f"oci:{layout}", f"docker://{self.address}/{rest}"
        command = ["skopeo", "copy", "--quiet", "--preserve-digests", "--dest-tls-verify=false"]
        subprocess.run([*command, source, target], check=True, capture_output=True)
        shutil.rmtree(layout)
        return digest


@contextmanager
def running_registry(folder: Path) -> Iterator[Registry]:
    """A registry for the length of the block."""
    registry = Registry(folder)
    try:
        registry.start()
        yield registry
    finally:
        registry.stop()


def write_layout(folder: Path, layers: Sequence[Layer], config: ImageConfig) -> str:
    """Write an OCI layout with one image; returns the manifest's digest."""
    blobs = folder / "blobs" / "sha256"
    blobs.mkdir(parents=True)

    def blob(content: bytes, kind: str) -> dict[str, Any]:
        name = sha256(content).hexdigest()
        (blobs / name).write_bytes(content)
        media = f"application/vnd.oci.image.{kind}"
        return {"mediaType": media, "digest": f"sha256:{name}", "size": len(content)}

    tars = [_tar(layer) for layer in layers]
    said = {
        "architecture": "amd64",
        "os": "linux",
        "config": _oci(config),
        "rootfs": {
            "type": "layers",
            "diff_ids": [f"sha256:{sha256(tar).hexdigest()}" for tar in tars],
        },
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": blob(json.dumps(said).encode(), "config.v1+json"),
        "layers": [blob(gzip.compress(tar, 1, mtime=0), "layer.v1.tar+gzip") for tar in tars],
    }
    entry = blob(json.dumps(manifest).encode(), "manifest.v1+json")
    (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))
    (folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    return str(entry["digest"])


def _oci(config: ImageConfig) -> dict[str, Any]:
    words = {
        "Entrypoint": config.entrypoint,
        "Cmd": config.cmd,
        "Env": config.env,
        "User": config.user,
        "WorkingDir": config.workdir,
        "Labels": config.labels,
        "ExposedPorts": {port: {} for port in config.exposed_ports},
    }
    plain: dict[str, Any] = msgspec.to_builtins(
        {name: said for name, said in words.items() if said}
    )
    return plain


def _tar(layer: Layer) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for path, content in sorted(layer.items()):
            entry = tarfile.TarInfo(path)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return out.getvalue()


def _until_listening(port: int) -> None:
    deadline = time.monotonic() + 60 * float(os.environ.get("PYSWARM_TIMEOUT_FACTOR", "1"))
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)
