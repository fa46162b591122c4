"""Pulls of a host's agent beside `skopeo copy` of the same image in the same run, and ten hosts
that pull at once beside one.

The registry is the distribution's, on loopback; its own processor time is not counted. The layers
are random bytes, so a disk and a decompressor have their worst case.
"""

import asyncio
import gzip
import io
import json
import os
import resource
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from socket import create_connection, create_server
from statistics import median

from agent.images.settings import ImageSettings
from agent.images.store import open_images
from bench.report import Figure
from pyswarm_core.aio.trees import remove_tree

MB = 1_000_000
LAYERS = 5
HOSTS = 10
FOLDER = Path("/var/tmp")  # /tmp may be in memory


def measure(quick: bool) -> Iterable[Figure]:
    """Pull in turns; yields the best of each."""
    size, rounds = (20, 1) if quick else (500, 3)
    small = 5 if quick else 50
    with tempfile.TemporaryDirectory(dir=FOLDER, prefix="bench-pulls-") as name:
        folder = Path(name)
        with _registry(folder / "registry") as address:
            _push(folder / "layout", address, "large", size)
            _push(folder / "layout", address, "small", small)
            ours, theirs = [], []
            for _ in range(rounds):
                theirs.append(_timed(lambda: _skopeo(folder, f"{address}/large:1"))[0])
                ours.append(_timed(lambda: _agents(folder, f"{address}/large:1", 1))[0])
            yield Figure(
                f"pull of {size} MB: `skopeo copy`'s time over the agent's",
                min(theirs) / min(ours),
                "x",
                0.9,
                at_least=True,
                against="skopeo",
                note=f"{min(ours):.2f} s; skopeo {min(theirs):.2f} s; best of {rounds}",
            )
            one = median(
                _timed(lambda: _agents(folder, f"{address}/small:1", 1))[1] for _ in range(3)
            )
            _, ten = _timed(lambda: _agents(folder, f"{address}/small:1", HOSTS))
            yield Figure(
                f"{HOSTS} hosts pull {small} MB at once: processor time",
                ten,
                "s",
                1.1 * HOSTS * one,
                against="floor",
                note=f"one host {one:.2f} s, the median of 3",
            )


def _timed(work: Callable[[], None]) -> tuple[float, float]:
    """Seconds, and seconds of processor time of this process and its ended children."""
    before, begun = _cpu(), time.perf_counter()
    work()
    return time.perf_counter() - begun, _cpu() - before


def _cpu() -> float:
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(one.ru_utime + one.ru_stime for one in used)


def _settings(folder: Path) -> ImageSettings:
    return ImageSettings(root=folder / "root", run_root=folder / "run", work=folder / "work")


def _agents(folder: Path, image: str, count: int) -> None:
    """Pull on so many hosts at once, each with a storage of its own."""
    homes = [folder / f"host{number}" for number in range(count)]
    asyncio.run(_resolve(homes, image))
    for home in homes:
        remove_tree(home)


async def _resolve(homes: Sequence[Path], image: str) -> None:
    async def on(home: Path) -> None:
        async with open_images(_settings(home)) as images:
            await images.resolve(image)

    async with asyncio.TaskGroup() as group:
        for home in homes:
            group.create_task(on(home))


def _skopeo(folder: Path, image: str) -> None:
    home = folder / "skopeo"
    settings = _settings(home)
    settings.work.mkdir(parents=True)
    settings.storage_conf.write_text(settings.storage_conf_text)
    env = {"CONTAINERS_STORAGE_CONF": str(settings.storage_conf), "TMPDIR": str(settings.work)}
    words = ["skopeo", "--insecure-policy", "copy", "--quiet", "--src-tls-verify=false"]
    command = [*words, f"docker://{image}", f"containers-storage:{image}"]
    subprocess.run(command, env={**os.environ, **env}, check=True)
    remove_tree(home)


@contextmanager
def _registry(folder: Path) -> Iterator[str]:
    """A registry on a free port of loopback; yields its address."""
    folder.mkdir()
    with create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    address = f"127.0.0.1:{port}"
    config = {
        "version": "0.1",
        "storage": {"filesystem": {"rootdirectory": str(folder / "data")}},
        "http": {"addr": address},
    }
    (folder / "config.json").write_text(json.dumps(config))
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    command = ["docker-registry", "serve", str(folder / "config.json")]
    with subprocess.Popen(command, **quiet) as process:  # type: ignore[call-overload]
        try:
            _await(port)
            yield address
        finally:
            process.kill()


def _await(port: int) -> None:
    for _ in range(400):
        try:
            create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.05)
    raise TimeoutError("the registry does not listen")


def _push(layout: Path, address: str, name: str, size: int) -> None:
    """Store an image of LAYERS layers, so many MB in all."""
    blobs = layout / "blobs" / "sha256"
    blobs.mkdir(parents=True)

    def blob(content: bytes, kind: str) -> dict[str, object]:
        digest = sha256(content).hexdigest()
        (blobs / digest).write_bytes(content)
        media = f"application/vnd.oci.image.{kind}"
        return {"mediaType": media, "digest": f"sha256:{digest}", "size": len(content)}

    layers, ids = [], []
    for number in range(LAYERS):
        tar = _tar(f"file{number}", os.urandom(size * MB // LAYERS))
        ids.append(f"sha256:{sha256(tar).hexdigest()}")
        layers.append(blob(gzip.compress(tar, 1, mtime=0), "layer.v1.tar+gzip"))
    said = {
        "architecture": "amd64",
        "os": "linux",
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": ids},
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": blob(json.dumps(said).encode(), "config.v1+json"),
        "layers": layers,
    }
    entry = blob(json.dumps(manifest).encode(), "manifest.v1+json")
    (layout / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))
    (layout / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    words = ["skopeo", "--insecure-policy", "copy", "--quiet", "--dest-tls-verify=false"]
    subprocess.run([*words, f"oci:{layout}", f"docker://{address}/{name}:1"], check=True)
    remove_tree(layout)


def _tar(name: str, content: bytes) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        entry = tarfile.TarInfo(name)
        entry.size = len(content)
        archive.addfile(entry, io.BytesIO(content))
    return out.getvalue()
