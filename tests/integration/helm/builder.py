"""Builds the images of pyswarm itself from nothing but Debian's packages, off the host's storage.

Everything lives in one cache folder (PYSWARM_TEST_CACHE, else below the temporary directory): the
base's archive, wheels, and buildah's own storage with its layers. Every buildah runs in a mount
namespace of its own, so that no mount of it ever appears on the host.
"""

import fcntl
import os
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pyswarm_core.version import version
from tests.fixtures.netns import on_the_machine
from tests.fixtures.source import ROOT

SUITE = "bookworm"
PYTHON = "3.11"
"""Of the suite; the host's may be another."""
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
MIRROR = os.environ.get("PYSWARM_TEST_MIRROR", "")
"""Empty: the one that mmdebstrap takes by itself."""
BASE = "localhost/pyswarm-test-base"
STEP_TIMEOUT_S = 400.0
LAYERS_KEPT = 60
PRIVATE_MOUNTS = ("unshare", "--mount", "--propagation", "private")


def cache_folder() -> Path:
    """Where everything is kept between runs; ours alone."""
    named = os.environ.get("PYSWARM_TEST_CACHE")
    folder = Path(named or Path(tempfile.gettempdir()) / f"pyswarm-test-cache-{os.getuid()}")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    assert folder.stat().st_uid == os.getuid(), f"{folder} belongs to somebody else"
    return folder / "images"


class Builder:
    """buildah on a storage of its own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._wheels = folder / "wheels"

    def prepare(self) -> None:
        """Make the base image and fetch the libraries, unless an earlier run has."""
        self._folder.mkdir(exist_ok=True)
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
        storage = (f"--root={self._folder}/root", f"--runroot={self._folder}/run")
        return _output(*PRIVATE_MOUNTS, "buildah", *storage, "--storage-driver=overlay", *words)

    def _has(self, image: str) -> bool:
        return image in self.run("images", "--format={{.Name}}", f"--filter=reference={image}")

    def _bound_cache(self) -> None:
        """Forget all unnamed layers once there are too many: the next run makes its own again."""
        unnamed = self.run("images", "--quiet", "--filter=dangling=true").split()
        if len(unnamed) > LAYERS_KEPT:
            self.run("rmi", "--prune")

    def _make_base(self) -> None:
        with tempfile.TemporaryDirectory(dir=self._folder) as context:
            archive = Path(context, "base.tar")
            _output(
                *PRIVATE_MOUNTS,
                "mmdebstrap",
                "--mode=root",
                "--variant=apt",
                "--components=main",
                f"--keyring={KEYRING}",
                SUITE,
                str(archive),
                *filter(None, (MIRROR,)),
            )
            Path(context, "Containerfile").write_text("FROM scratch\nADD base.tar /\n")
            self.run("build", "--quiet", "--isolation=chroot", f"--tag={BASE}", context)

    def _fetch_wheels(self) -> None:
        project = tomllib.loads((ROOT / "pyproject.toml").read_text())
        expected = [*project["project"]["dependencies"], *project["build-system"]["requires"]]
        stamp = self._wheels / "fetched"
        if stamp.exists() and stamp.read_text() == repr(expected):
            return
        _output(
            *(sys.executable, "-m", "pip", "download", "--quiet", "--only-binary=:all:"),
            f"--python-version={PYTHON}",
            f"--dest={self._wheels}",
            *expected,
        )
        stamp.write_text(repr(expected))


@contextmanager
def builder() -> Iterator[Builder]:
    """A prepared builder; runs at the same time wait for each other."""
    folder = cache_folder()
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        made = Builder(folder)
        made.prepare()
        yield made


def _output(*words: str) -> str:
    """What a command prints that may fetch packages."""
    command = (*on_the_machine(), *words)
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=STEP_TIMEOUT_S
    )
    if done.returncode:
        said = "\n".join((done.stdout + done.stderr).splitlines()[-25:])
        raise AssertionError(f"{' '.join(command)} ended with {done.returncode}:\n{said}")
    return done.stdout
