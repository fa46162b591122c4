"""Builds of an unchanged image: `pyswarm build` in turns with buildah's own command line.

Nothing is pushed: an image that the fleet's registry has costs one request in place of a push.
buildah is run as typed, and with the setting of its garbage collector that pyswarm gives it.
"""

import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from statistics import median
from typing import NamedTuple

from bench import image
from bench.report import Figure
from cli.image.building.storage import Storage
from pyswarm_core.docker.building.recipe import COLLECTOR

STEPS = 12
RUNS = 9


class Took(NamedTuple):
    """Seconds of one command."""

    wall_s: float
    cpu_s: float


def measure(quick: bool) -> Iterator[Figure]:
    """A context of 400 files and a Dockerfile of 14 steps."""
    files, runs = (20, 2) if quick else (400, RUNS)
    with tempfile.TemporaryDirectory(prefix="pyswarm-bench-") as folder:
        context = _context(Path(folder), files)
        storage = Storage(Path(folder) / "pyswarm/build")
        environment = {**os.environ, "XDG_CACHE_HOME": folder}
        ours = [str(Path(sys.executable).with_name("pyswarm")), "build", "-q", str(context)]
        plain = ["buildah", "build", "--quiet", "--format=docker", "--layers", "--isolation=chroot"]
        plain += ["--pull=false", f"--signature-policy={storage.policy()}", str(context)]
        _run(ours, environment)
        tuned = storage.environment()
        typed = {name: value for name, value in tuned.items() if name not in COLLECTOR}
        commands = {
            "buildah": (plain, typed),
            "buildah with pyswarm's GOGC": (plain, tuned),
            "pyswarm build": (ours, environment),
        }
        took: dict[str, list[Took]] = {name: [] for name in commands}
        for _ in range(runs):
            for name, (command, given) in commands.items():
                took[name].append(_run(command, given))
    yield from _figures(took, f"an unchanged build of {STEPS + 2} steps, {files} files")


def _figures(took: Mapping[str, list[Took]], build: str) -> Iterator[Figure]:
    bound = 1.1e3 * median(one.wall_s for one in took["buildah"])
    for name, runs in took.items():
        wall_s = median(one.wall_s for one in runs)
        note = f"processor time {1e3 * median(one.cpu_s for one in runs):.0f} ms"
        limit = {"bound": bound, "against": "buildah + 10 %"} if name == "pyswarm build" else {}
        yield Figure(f"{build}: {name}", wall_s * 1e3, "ms", note=note, **limit)  # type: ignore[arg-type]


def _context(folder: Path, files: int) -> Path:
    context = folder / "context"
    image.make_context(context)
    (context / "src").mkdir()
    for number in range(files):
        (context / "src" / f"{number}.txt").write_text(f"{number}\n" * 200)
    steps = [f"ENV STEP{number}={number}" for number in range(STEPS // 2)]
    steps += [f"LABEL step{number}={number}" for number in range(STEPS // 2)]
    (context / "Containerfile").unlink()
    lines = ["FROM scratch", "COPY rootfs/ /", "COPY src/ /src/", *steps]
    (context / "Dockerfile").write_text("\n".join(lines) + "\n")
    return context


def _run(command: list[str], environment: Mapping[str, str]) -> Took:
    began, used_s = time.perf_counter(), _children_s()
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
    return Took(time.perf_counter() - began, _children_s() - used_s)


def _children_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
