"""The files of containers: bundles, records and exit files. SHELL over the file system.

    state/writable/<id>/  upper/ work/: what the container writes, and range: its ids, if it has any
    state/layers/<layer>/ the same of a kept writable layer, and holder: its last container
    state/logs/<id>       the log, and .1 (newer) ... .N (oldest) once rotated
    run/bundles/<id>/     config.json rootfs/ files/ record; conmon's pid, ctl, oom
    run/exits/<id>        the exit code, written by conmon when the container ends
    run/consoles/         sockets over which terminals of commands arrive
    run/oci/<id>/         the OCI runtime's own state

What a power loss invalidates is below run, which is in memory on most hosts: there it costs no
inode of a disk, on slow disks the most expensive part of a start. Invariant: at least one directory
of a container, writable or bundle, exists from before its first side effect until after the last
one is undone, so a half-made container is found after a crash or power loss, and removed. A kept
layer is held by one container: as long as the bundle of its holder exists, which is removed after
the layer is unmounted.
"""

import os
from contextlib import suppress
from pathlib import Path

import msgspec

from agent.runtime import cgroups, launch
from agent.runtime.base import ContainerConfig, ContainerExit, LogLimits, RuntimeFailed
from agent.runtime.cgroups import Hierarchies
from agent.runtime.procs import Process
from agent.runtime.program.inspection import explain
from pyswarm_core.aio.trees import remove_tree

UNSEEN_EXIT_CODE = 137


class ContainerRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What a later agent needs to manage a container that this one made."""

    monitor: Process
    container: Process
    log_limits: LogLimits
    layers: tuple[str, ...] = ()
    """Of the image, the uppermost first."""


class Layout:
    """The paths of all containers of one agent."""

    def __init__(self, state: Path, run: Path, cgroup_parent: str) -> None:
        self.state = state
        self.run = run
        self.writables = state / "writable"
        self.layers = state / "layers"
        self.logs = state / "logs"
        self.bundles = run / "bundles"
        self.exits = run / "exits"
        self.consoles = run / "consoles"
        self.oci_root = run / "oci"
        self.filters = run / "seccomp"
        self.cgroup_parent = cgroup_parent.rstrip("/")
        self.monitor_cgroup = f"{self.cgroup_parent}/monitors"
        self._fleeting = self.bundles, self.exits, self.consoles, self.oci_root, self.filters

    def prepare(self) -> None:
        """Make the directories, readable by root alone. Root of a user namespace passes through the
        run directory and that of the bundles to its own bundle.
        """
        lasting = self.writables, self.layers, self.logs
        for directory in (*lasting, *self._fleeting):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        for passed in (self.run, self.bundles):
            passed.chmod(0o711)

    def bundle(self, container_id: str) -> Path:
        """The container's bundle directory."""
        assert container_id.isalnum(), f"container id {container_id!r} is not letters and digits"
        return self.bundles / container_id

    def writable(self, container_id: str) -> Path:
        """The directory of the container's writable layer, unless that is a kept one."""
        return self.writables / container_id

    def layer(self, layer: str) -> Path:
        """The directory of a kept writable layer."""
        assert layer.isalnum(), f"layer {layer!r} is not letters and digits"
        return self.layers / layer

    def cgroup(self, container_id: str) -> str:
        """The container's cgroup, the same path in every hierarchy."""
        assert container_id.isalnum(), f"container id {container_id!r} is not letters and digits"
        return f"{self.cgroup_parent}/{container_id}"

    def log(self, container_id: str) -> Path:
        """The container's current log file."""
        return self.logs / container_id

    def make_bundle(self, config: ContainerConfig) -> Path:
        """Make the bundle with its `files`, and an empty writable layer unless that is a kept one.
        Raises FileExistsError if the id is in use.
        """
        bundle = self.bundle(config.id)
        bundle.mkdir(mode=0o700)
        if config.layer:
            (bundle / "layer").write_text(config.layer)
        for name in ("rootfs", "files"):
            (bundle / name).mkdir(mode=0o755)
        if not config.layer:
            _make_writable(self.writable(config.id))
        for name, content in config.files.items():
            (bundle / "files" / name).write_bytes(content)
        return bundle

    def claim_layer(self, container_id: str, layer: str) -> Path:
        """Make the container, which has a bundle, the holder of a kept layer, which is made if it
        does not exist; return the layer's directory. Raises RuntimeFailed while another holds it.
        """
        if holder := self.holder(layer):
            raise RuntimeFailed(f"its writable layer is in use by container {holder}")
        directory = self.layer(layer)
        _make_writable(directory)
        draft = directory / "holder.draft"
        draft.write_text(container_id)
        draft.replace(directory / "holder")
        return directory

    def holder(self, layer: str) -> str:
        """The container that has the kept layer; empty if none has."""
        try:
            holder = (self.layer(layer) / "holder").read_text()
        except FileNotFoundError:
            return ""
        return holder if holder.isalnum() and self.bundle(holder).exists() else ""

    def holds_layer(self, container_id: str) -> bool:
        """Whether the container was made with a kept layer."""
        return (self.bundle(container_id) / "layer").exists()

    def layer_ids(self) -> tuple[str, ...]:
        """The ids of all kept layers, in order."""
        return tuple(sorted(entry.name for entry in os.scandir(self.layers)))

    def write_record(self, container_id: str, record: ContainerRecord) -> None:
        """Write the record atomically: a crash leaves all of it or none."""
        final = self.bundle(container_id) / "record"
        draft = final.with_suffix(".draft")
        draft.write_bytes(msgspec.json.encode(record))
        draft.replace(final)

    def read_record(self, container_id: str) -> ContainerRecord | None:
        """The record; None if the container does not exist or is half made."""
        try:
            return msgspec.json.decode(
                (self.bundle(container_id) / "record").read_bytes(), type=ContainerRecord
            )
        except (FileNotFoundError, msgspec.DecodeError, UnicodeDecodeError):
            return None

    def is_started(self, container_id: str) -> bool:
        """Whether a created container was started: starting removes the fifo that it waits at."""
        return not (self.oci_root / container_id / "exec.fifo").exists()

    def ids(self) -> tuple[str, ...]:
        """The ids of all containers of which a directory exists, in order."""
        directories = self.bundles, self.writables
        return tuple(sorted({entry.name for each in directories for entry in os.scandir(each)}))

    def ends(self) -> frozenset[tuple[str, int]]:
        """The containers with an exit file, and its time: one may have been made again since."""
        found = set()
        for entry in os.scandir(self.exits):
            if "." in entry.name:
                continue  # conmon has not finished writing it
            with suppress(FileNotFoundError):
                found.add((entry.name, entry.stat().st_mtime_ns))
        return frozenset(found)

    def read_exit(self, container_id: str, hierarchies: Hierarchies) -> ContainerExit | None:
        """How the container ended; None if it has not.

        An exit file that a power loss or a full disk damaged counts as an unobserved exit.
        """
        path = self.exits / container_id
        try:
            content, at_ns = path.read_bytes(), path.stat().st_mtime_ns
        except FileNotFoundError:
            return None
        code = int(content) if content.isdigit() else UNSEEN_EXIT_CODE
        oom = (self.bundle(container_id) / "oom").exists() or cgroups.was_out_of_memory(
            hierarchies, self.cgroup(container_id)
        )
        signal = code - 128 if 128 < code < 128 + 65 else 0
        error = launch.refused_program(self.log(container_id)) if code else ""
        if error:
            error = explain(error, self.bundle(container_id))
        return ContainerExit(
            id=container_id, code=code, signal=signal, oom=oom, at_ns=at_ns, error=error
        )

    def writes_no_more(self, container_id: str) -> bool:
        """Whether nothing is added to the container's log any more: conmon writes the exit file
        last.
        """
        return (self.exits / container_id).exists() or not self.bundle(container_id).exists()

    def write_unseen_exit(self, container_id: str) -> None:
        """Write the exit file of a container whose exit conmon did not record."""
        draft = self.exits / f"{container_id}.draft"
        draft.write_text(str(UNSEEN_EXIT_CODE))
        draft.replace(self.exits / container_id)

    def remove_files(self, container_id: str) -> None:
        """Remove all files but the log. The root file system must be unmounted."""
        ours = self.writable(container_id), self.bundle(container_id)
        for directory in (self.oci_root / container_id, *ours):
            remove_tree(directory)
        for name in (container_id, f"{container_id}.draft"):
            (self.exits / name).unlink(missing_ok=True)


def _make_writable(directory: Path) -> None:
    """Make the directories of a writable layer; those that exist stay as they are."""
    for each in (directory, directory / "upper", directory / "work"):
        each.mkdir(mode=0o755, exist_ok=True)
