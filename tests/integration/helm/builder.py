"""Builds the images of pyswarm itself from nothing but Debian's packages, off the host's storage.

The base, wheels and buildah's layers are kept in a folder of tests/fixtures/debian.py.
"""

import sys
import tempfile
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pyswarm_core.version import version
from tests.fixtures.debian import bootstrap, buildah, cache, output
from tests.fixtures.source import ROOT

PYTHON = "3.11"
"""Of the suite; the host's may be another."""
BASE = "localhost/pyswarm-test-base"
LAYERS_KEPT = 60


class Builder:
    """buildah on a storage of its own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._wheels = folder / "wheels"

    def prepare(self) -> None:
        """Make the base image and fetch the libraries, unless an earlier run has."""
        if not self._has(BASE):
            self._make_base()
        self._fetch_wheels()

    def build(self, component: str) -> str:
        """Build a component's image as docs/kubernetes.md says; returns its name."""
        image = f"localhost/pyswarm-{component}:test"
        self.run(
            "build",
            "--quiet",
            "--isolation=chroot",
            "--network=host",
            "--layers",
            f"--build-arg=BASE={BASE}",
            f"--build-arg=VERSION={version()}",
            "--build-arg=PIP_ARGS=--no-index --find-links /wheels",
            f"--volume={self._wheels}:/wheels:ro",
            f"--tag={image}",
            f"--file={ROOT}/helm/images/{component}.Containerfile",
            str(ROOT),
        )
        self._bound_cache()
        return image

    @contextmanager
    def container(self, image: str) -> Iterator[str]:
        """A container to run programs in."""
        name = self.run("from", image).strip()
        try:
            yield name
        finally:
            self.run("rm", name)

    def run_inside(self, container: str, *words: str) -> str:
        """A program's output, run in the container as the image's user."""
        return self.run("run", "--isolation=chroot", container, "--", *words)

    def run(self, *words: str) -> str:
        """buildah's output; fails with the end of what it said."""
        return buildah(self._folder, *words)

    def _has(self, image: str) -> bool:
        return image in self.run("images", "--format={{.Name}}", f"--filter=reference={image}")

    def _bound_cache(self) -> None:
        """Forget all unnamed layers once there are too many: the next run makes its own again."""
        unnamed = self.run("images", "--quiet", "--filter=dangling=true").split()
        if len(unnamed) > LAYERS_KEPT:
            self.run("rmi", "--prune")

    def _make_base(self) -> None:
        with tempfile.TemporaryDirectory(dir=self._folder) as context:
            bootstrap(Path(context, "base.tar"), "apt")
            Path(context, "Containerfile").write_text("FROM scratch\nADD base.tar /\n")
            self.run("build", "--quiet", "--isolation=chroot", f"--tag={BASE}", context)

    def _fetch_wheels(self) -> None:
        project = tomllib.loads((ROOT / "pyproject.toml").read_text())
        expected = [*project["project"]["dependencies"], *project["build-system"]["requires"]]
        stamp = self._wheels / "fetched"
        if stamp.exists() and stamp.read_text() == repr(expected):
            return
        output(
            *(sys.executable, "-m", "pip", "download", "--quiet", "--only-binary=:all:"),
            f"--python-version={PYTHON}",
            f"--dest={self._wheels}",
            *expected,
        )
        stamp.write_text(repr(expected))


@contextmanager
def builder() -> Iterator[Builder]:
    """A prepared builder."""
    with cache("images") as folder:
        made = Builder(folder)
        made.prepare()
        yield made
