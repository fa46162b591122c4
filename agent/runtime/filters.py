"""A cache of compiled seccomp filters: each profile is compiled once, not per container. SHELL.

crun leaves the compiled filter in the container's state, and reads one from an annotation instead
of compiling it again (15 ms of CPU). The profile stays in config.json: a crun that does not know
the annotation compiles it.
Invariant: a filter is only reused for the profile, crun version and kernel it was compiled for.
"""

import base64
import hashlib
import os
import threading
from contextlib import suppress
from pathlib import Path

import msgspec

ANNOTATION = "run.oci.seccomp_bpf_data"
_KEPT = 64


class CompiledFilters:
    """A small cache in memory over a directory that only root can write to."""

    def __init__(self, directory: Path, version: str) -> None:
        self._directory = directory
        self._salt = f"{version} {os.uname().release}".encode()
        self._programs: dict[str, str] = {}

    def key(self, section: object) -> str:
        """The cache key of a profile under this crun and kernel."""
        encoded = msgspec.json.encode(section, order="deterministic")
        return hashlib.sha256(self._salt + encoded).hexdigest()

    def program(self, key: str) -> str | None:
        """The annotation's value for a profile, or None if it is not cached."""
        known = self._programs.get(key)
        if known is None:
            with suppress(FileNotFoundError):
                known = base64.b64encode((self._directory / key).read_bytes()).decode()
                self._remember(key, known)
        return known

    def learn(self, key: str, compiled: Path) -> None:
        """Cache the filter that crun compiled for a new container."""
        try:
            content = compiled.read_bytes()
        except FileNotFoundError:
            return
        # A classic BPF program consists of 8-byte instructions.
        if not content or len(content) % 8:
            return
        draft = self._directory / f"{key}.{threading.get_native_id()}"
        draft.write_bytes(content)
        draft.replace(self._directory / key)
        self._remember(key, base64.b64encode(content).decode())

    def _remember(self, key: str, program: str) -> None:
        while len(self._programs) >= _KEPT:
            self._programs.pop(next(iter(self._programs)))
        self._programs[key] = program
