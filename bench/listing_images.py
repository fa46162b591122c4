"""Lists of many images: `pyswarm image ls` as a process of its own, of a playground whose agents
have a hundred images each.

The images are written into the storages of the hosts, each with a configuration and a layer of its
own, in the files from which an agent reads them: to pull them would take longer than all else.
"""

import hashlib
import json
import os
import resource
import subprocess
import sys
import time
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from bench.fleet import Fleet, playground
from bench.report import Figure

BOUND_MS = 500


class Listed(NamedTuple):
    """Seconds of one command, and of its processor time."""

    wall_s: float
    own_s: float


def measure(quick: bool) -> Iterator[Figure]:
    """1,000 images on 10 nodes."""
    nodes, each, runs = (2, 5, 2) if quick else (10, 100, 9)
    with playground(nodes) as fleet:
        for host in fleet.plan.hosts:
            _store(host.state_dir / "storage", host.name, each)
        images = nodes * each
        _listed(fleet, images)
        used_s = fleet.cpu_seconds()
        found = [_listed(fleet, images) for _ in range(runs)]
        fleet_ms = 1e3 * (fleet.cpu_seconds() - used_s) / runs
    note = f"at least {1e3 * min(one.wall_s for one in found):.0f} ms; processor time: CLI"
    note += f" {1e3 * median(one.own_s for one in found):.0f} ms, all hosts {fleet_ms:.0f} ms"
    wall_s = median(one.wall_s for one in found)
    yield Figure(f"image ls of {images:,} images on {nodes} nodes", 1e3 * wall_s, "ms", BOUND_MS,
                 note=note)  # fmt: skip


def _store(root: Path, host: str, count: int) -> None:
    """Add images to a host's storage, made from the one that it has."""
    images = json.loads((root / "overlay-images/images.json").read_text())
    layers = json.loads((root / "overlay-layers/layers.json").read_text())
    pattern = images[0]
    (of_layer,) = (layer for layer in layers if layer["id"] == pattern["layer"])
    for number in range(count):
        name = f"docker.io/library/{host}-{number}:1"
        layer = _layer(root, name)
        layers.append({**of_layer, "id": layer, "names": None})
        config = _config(root, pattern["id"], name)
        digest = f"sha256:{hashlib.sha256(layer.encode()).hexdigest()}"
        images.append({**pattern, "id": config, "digest": digest, "layer": layer, "names": [name]})
    _replace(root / "overlay-layers/layers.json", layers)
    _replace(root / "overlay-images/images.json", images)


def _layer(root: Path, name: str) -> str:
    """Make the directory of a layer; returns the layer's id."""
    layer = hashlib.sha256(name.encode()).hexdigest()
    (root / "overlay" / layer / "diff").mkdir(parents=True)
    (root / "overlay" / layer / "link").write_text(layer[:26].upper())
    (root / "overlay/l" / layer[:26].upper()).symlink_to(f"../{layer}/diff")
    return layer


def _config(root: Path, pattern: str, name: str) -> str:
    """Store the configuration of an image; returns the image's id."""
    config: dict[str, Any] = json.loads(_blob(root, pattern).read_bytes())
    config["config"] = {**config["config"], "Labels": {"name": name}}
    content = json.dumps(config).encode()
    image = hashlib.sha256(content).hexdigest()
    _blob(root, image).parent.mkdir()
    _blob(root, image).write_bytes(content)
    return image


def _blob(root: Path, image: str) -> Path:
    name = b64encode(f"sha256:{image}".encode()).decode()
    return root / "overlay-images" / image / f"={name}"


def _replace(path: Path, content: object) -> None:
    draft = path.with_name(f".{path.name}")
    draft.write_text(json.dumps(content))
    draft.replace(path)


def _listed(fleet: Fleet, images: int) -> Listed:
    """Run `image ls` once; its lines are counted."""
    words = ["-P", "-c", "from cli.start import main; main()", "--host"]
    words += [f"unix://{fleet.plan.socket}", "image", "ls"]
    began, own_s = time.perf_counter(), _children_s()
    done = subprocess.run(
        [sys.executable, *words], stdout=subprocess.PIPE, check=True, env=os.environ
    )
    took = Listed(time.perf_counter() - began, _children_s() - own_s)
    assert done.stdout.count(b"-") >= images, done.stdout[-500:]
    assert done.stdout.count(b"\n") == images + 2, "also the heading, and the image of the others"
    return took


def _children_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
