"""`pyswarm run --rm IMAGE true` beside `podman run --rm`, in turns: whole commands.

Both have the image, and give the container an address on a bridge of its host with address
translation: pyswarm's for tasks without a network, podman's default network.
"""

import subprocess
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import median

from bench import image
from bench.fleet import Fleet, playground
from bench.podman import Podman, podman
from bench.report import Figure
from bench.streams import pyswarm_words
from cli.registry.opening import opened
from pyswarm_core.docker.reference import parse_reference

_TRUE = ("/bin/busybox", "true")


def measure(quick: bool) -> Iterable[Figure]:
    """The median of each, of as many turns."""
    times = 3 if quick else 30
    with playground(1) as fleet, podman(Path(fleet.rootfs.parent.parent) / "podman") as peer:
        yield _compared(fleet, peer, times)


def _compared(fleet: Fleet, peer: Podman | None, times: int) -> Figure:
    ours = pyswarm_words(fleet, "run", "--rm", "--entrypoint", _TRUE[0], image.NAME, *_TRUE[1:])
    theirs = _words(fleet, peer) if peer else []
    took: list[tuple[float, float]] = []
    used_s = 0.0
    for number in range(times + 1):
        before_s = fleet.cpu_seconds()
        pair = _wall_ms(ours), _wall_ms(theirs)
        if number:  # the first ones fill caches
            took.append(pair)
            used_s += fleet.cpu_seconds() - before_s
    own, other = (median(column) for column in zip(*took, strict=True))
    least = [min(column) for column in zip(*took, strict=True)]
    note = f"at least {least[0]:.0f} ms; processor time of the host {1e3 * used_s / times:.0f} ms"
    name = "run --rm of a command that ends at once"
    if peer is None:
        note += "; podman is not installed: `scripts/setup peer`"
        return Figure(name, own, "ms", note=note)
    note = f"{own:.0f} ms, {note}; {peer.version} {other:.0f} ms, at least {least[1]:.0f} ms"
    return Figure(f"{name}, over podman's", own / other, "x", 1.4, note=note)


def _words(fleet: Fleet, peer: Podman) -> list[str]:
    name = str(parse_reference(image.NAME))
    with opened(fleet.client) as registry:
        peer.pull(name, registry)
    return peer.run(name, *_TRUE)


def _wall_ms(words: Sequence[str]) -> float:
    if not words:
        return 0.0
    began = time.perf_counter()
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
    return 1e3 * (time.perf_counter() - began)
