"""Builds of an unchanged image: `pyswarm build` in turns with buildah's own command line.

Nothing is pushed: an image that the fleet's registry has costs one request in place of a push.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from statistics import median

from bench import image
from bench.report import Figure
from cli.image.building.storage import Storage

STEPS = 12
RUNS = 5


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
        took: dict[str, list[float]] = {"pyswarm": [], "buildah": []}
        for _ in range(runs):
            took["buildah"].append(_run(plain, storage.environment()))
            took["pyswarm"].append(_run(ours, environment))
    own, whole = median(took["buildah"]), median(took["pyswarm"])
    name = f"an unchanged build of {STEPS + 2} steps, {files} files"
    yield Figure(f"{name}: buildah", own * 1e3, "ms")
    yield Figure(
        f"{name}: pyswarm build", whole * 1e3, "ms", bound=own * 1.1e3, against="buildah + 10 %"
    )


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


def _run(command: list[str], environment: Mapping[str, str]) -> float:
    began = time.perf_counter()
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began
