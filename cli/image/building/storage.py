"""buildah's storage of this user, and how buildah is called with it. SHELL.

It is in the user's cache, so that it shares no mounts, locks or images with other programs of the
host. Builds run side by side in it. One that was killed leaves a container behind: the next build
that runs alone removes it.
"""

import fcntl
import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pyswarm_core.aio.system import home_directory
from pyswarm_core.aio.trees import remove_tree
from pyswarm_core.docker.building.recipe import COLLECTOR
from pyswarm_core.errors import PyswarmError, Unavailable

HOST_POLICY = Path("/etc/containers/policy.json")
_EMPTY = ("", "[]", "null")


class Storage:
    """The storage below one folder of the cache."""

    def __init__(self, folder: Path | None = None) -> None:
        """Raises Unavailable if buildah is not installed."""
        if not _is_installed("buildah"):
            raise Unavailable("buildah is not installed: apt-get install buildah")
        self.folder = folder or _cache()
        self.folder.mkdir(parents=True, exist_ok=True)
        self._conf = self._storage_conf()

    @contextmanager
    def in_use(self) -> Iterator[Path]:
        """A folder for this run's files, removed at its end. Removes what killed builds left."""
        with (self.folder / "lock").open("w") as lock:
            with suppress(BlockingIOError):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                self._remove_leftovers()
            fcntl.flock(lock, fcntl.LOCK_SH)
            work = self.folder / f"run-{os.urandom(8).hex()}"
            work.mkdir(mode=0o700)
            try:
                yield work
            except BaseException:
                remove_tree(work)
                with suppress(BlockingIOError):
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    self._remove_leftovers()
                raise
            remove_tree(work)

    def environment(self, more: Mapping[str, str] | None = None) -> dict[str, str]:
        """The environment of buildah."""
        # buildah keeps what `RUN --mount=type=cache` mounts in TMPDIR.
        temporary = self.folder / "tmp"
        temporary.mkdir(exist_ok=True)
        ours = {"CONTAINERS_STORAGE_CONF": str(self._conf), "TMPDIR": str(temporary)}
        ours |= more or {}
        return {**COLLECTOR, **os.environ, **ours}

    def run(self, *words: str) -> str:
        """What a command of buildah prints. Raises PyswarmError."""
        done = subprocess.run(
            ["buildah", *words],
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
        if done.returncode:
            reason = reason_in(done.stderr.split("\n"))
            raise PyswarmError(f"buildah {words[0]}: {reason}")
        return done.stdout

    def images(self) -> list[dict[str, Any]]:
        """The images as the storage's file has them."""
        import json

        for driver in ("overlay", "vfs"):
            with suppress(FileNotFoundError, ValueError):
                content = (self.folder / "storage" / f"{driver}-images/images.json").read_bytes()
                return list(json.loads(content) or [])
        return []

    def policy(self) -> Path:
        """The host's signature policy, or a permissive one: buildah copies nothing without one."""
        if HOST_POLICY.exists():
            return HOST_POLICY
        path = self.folder / "policy.json"
        if not path.exists():
            path.write_text('{"default": [{"type": "insecureAcceptAnything"}]}')
        return path

    def _remove_leftovers(self) -> None:
        for folder in self.folder.glob("run-*"):
            remove_tree(folder)
        for driver in ("overlay", "vfs"):
            listed = self.folder / "storage" / f"{driver}-containers/containers.json"
            with suppress(FileNotFoundError):
                if listed.read_text().strip() not in _EMPTY:
                    self.run("rm", "--all")

    def _storage_conf(self) -> Path:
        """The file of the settings. Without skip_mount_home every run leaves a mount."""
        path = self.folder / "storage.conf"
        text = (
            f'[storage]\ndriver = "{self._driver()}"\ngraphroot = "{self.folder}/storage"\n'
            f'runroot = "{self.folder}/run"\n\n[storage.options.overlay]\n'
            'skip_mount_home = "true"\n'
        )
        with suppress(FileNotFoundError):
            if path.read_text() == text:
                return path
        draft = path.with_name(f".{path.name}.{os.getpid()}")
        draft.write_text(text)
        draft.replace(path)
        return path

    def _driver(self) -> str:
        """overlay; vfs, which copies every layer, on a file system that is an overlay itself, as in
        a container, because the kernel does not stack them.
        """
        for driver in ("overlay", "vfs"):
            if (self.folder / "storage" / f"{driver}-images").exists():
                return driver
        done = subprocess.run(
            ["stat", "--file-system", "--format=%T", self.folder],
            capture_output=True,
            text=True,
            check=False,
        )
        return "vfs" if done.stdout.strip() == "overlayfs" else "overlay"


def _is_installed(program: str) -> bool:
    """As `shutil.which`, whose module takes longer to import than the rest of this one."""
    paths = (Path(folder, program) for folder in os.get_exec_path())
    return any(path.is_file() and os.access(path, os.X_OK) for path in paths)


def _cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or home_directory() / ".cache"
    return Path(base) / "pyswarm" / "build"


def reason_in(lines: Sequence[str]) -> str:
    """buildah's own error among the lines that it printed last."""
    for line in reversed(lines):
        if line.startswith("Error: "):
            return line.removeprefix("Error: ").strip()
    return next((line.strip() for line in reversed(lines) if line.strip()), "no reason given")
