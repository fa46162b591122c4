"""The blocking operations of the runtime on a container. SHELL; runs in `crun.py`'s threads.

Operations on one container never overlap. Memory holds nothing that is on disk, in /proc or in
cgroupfs. Starting and removing save a process each: crun waits at a fifo that the agent opens as
`crun start` would, and `crun delete` only empties a cgroup and removes two directories.
"""

import ctypes
import os
import signal as signals
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import msgspec
from msgspec.structs import replace

from agent.fitness import is_host_error, is_host_message
from agent.runtime import cgroups, conmon, launch, logrotate, mounts, procs
from agent.runtime.base import (
    CgroupLimits,
    Command,
    ContainerConfig,
    ContainerExit,
    ContainerState,
    FoundContainer,
    HostFailed,
    LogLimits,
    NotRunning,
    ProcessTable,
    Rootfs,
    RuntimeFailed,
)
from agent.runtime.cgroups import Hierarchies, MonitorGroup
from agent.runtime.conmon import Binaries, MonitorCall
from agent.runtime.filters import ANNOTATION, CompiledFilters
from agent.runtime.isolation import binds, idmaps
from agent.runtime.layout import UNSEEN_EXIT_CODE, ContainerRecord, Layout
from agent.runtime.procs import Process
from agent.runtime.program.inspection import explain
from agent.runtime.room import shortage
from agent.runtime.running import freezer, limits, rootfs
from agent.runtime.running.execs import Execs, Running
from agent.runtime.running.top import top
from pyswarm_core.aio.trees import remove_tree
from pyswarm_core.errors import reason_of

_CREATE_TIMEOUT_S = 60.0
_DEATH_TIMEOUT_S = 10.0
_MONITOR_TIMEOUT_S = 5.0
_CLONE_FS = 0x200
_LOG_TIMEOUT_S = 0.01
_COPY_TIMEOUT_S = 30.0
"""How long a start or removal waits for a copy into the kept layer of a stopped container."""

WatchMonitor = Callable[[str, Process], None]


class Steps:
    """The blocking half of `ConmonRuntime`; it calls `watch` with every monitor that runs."""

    def __init__(
        self,
        binaries: Binaries,
        layout: Layout,
        hierarchies: Hierarchies,
        watch: WatchMonitor,
    ) -> None:
        layout.prepare()
        self.execs = Execs(binaries, layout, hierarchies)
        self._binaries = binaries
        self._layout = layout
        self._hierarchies = hierarchies
        self._watch = watch
        self._group = MonitorGroup(hierarchies, layout.monitor_cgroup)
        self._filters = CompiledFilters(layout.filters, f"{binaries.kind} {binaries.version}")
        self._locks = WeakValueDictionary[str, threading.Lock]()
        self._locks_guard = threading.Lock()
        self._choosing = threading.Lock()
        self._limits: dict[str, LogLimits] = {}

    def enter_thread(self) -> None:
        """Give the thread a working directory of its own, which conmon inherits, and a cgroup."""
        ctypes.CDLL(None, use_errno=True).unshare(_CLONE_FS)
        self._group.enter_thread()

    def settle(self, container_id: str) -> None:
        """Handle the end of a container's monitor, which may not have written an exit file."""
        with self._alone(container_id):
            record = self._layout.read_record(container_id)
            if record:
                self._settle(container_id, record)

    def rotate_logs(self) -> None:
        """Keep the log files that conmon replaced since the last call."""
        self._limits = {
            container_id: limits
            for container_id in self._layout.ids()
            if (limits := self._limits_of(container_id)) is not None
        }
        for container_id, limits in self._limits.items():
            log = self._layout.log(container_id)
            if not logrotate.is_kept(limits):
                continue
            if logrotate.is_due(log):
                # An operation that takes long must not delay the logs of other containers.
                # On a full disk the next call tries again.
                with suppress(OSError, RuntimeFailed), self._alone(container_id, _LOG_TIMEOUT_S):
                    logrotate.keep(log, limits)
            if logrotate.exceeds(log, limits):
                conmon.reopen_log(self._layout.bundle(container_id))

    def _limits_of(self, container_id: str) -> LogLimits | None:
        """The log limits of a container; None while it has no record. They never change, so each
        record is read once.
        """
        if container_id in self._limits:
            return self._limits[container_id]
        record = self._layout.read_record(container_id)
        return record.log_limits if record else None

    @contextmanager
    def _alone(self, container_id: str, timeout_s: float = -1.0) -> Iterator[None]:
        """Hold the lock of a container: a cancelled caller's operation may still be running. Raises
        RuntimeFailed after the timeout, if there is one.
        """
        with self._locks_guard:
            lock = self._locks.setdefault(container_id, threading.Lock())
        if not lock.acquire(timeout=timeout_s):
            raise RuntimeFailed("files are being copied into its writable layer: try again later")
        try:
            yield
        finally:
            lock.release()

    def create(self, config: ContainerConfig) -> int:
        """See `Runtime.create`."""
        with self._alone(config.id):
            try:
                bundle = self._layout.make_bundle(config)
            except FileExistsError:
                raise RuntimeFailed(f"container {config.id} exists already") from None
            except OSError as error:
                raise self._failed(config.id, error) from error
            try:
                record = self._make(config, bundle)
            except (OSError, RuntimeFailed) as error:
                raise self._failed(config.id, error) from error
            except BaseException:
                self._undo(config.id)
                raise
        self._watch(config.id, record.monitor)
        return record.container.pid

    def _failed(self, container_id: str, error: OSError | RuntimeFailed) -> RuntimeFailed:
        """The error of a container that could not be made, with the resource that is used up, if
        any. Removes what was made of the container.
        """
        text = reason_of(error) if isinstance(error, OSError) else str(error)
        # Checked before removing what was made, which frees space.
        short = shortage((self._layout.run, self._layout.state))
        # What cannot be removed now is removed when the worker cleans the ended task.
        with suppress(OSError, RuntimeFailed):
            self._undo(container_id)
        if short:
            return HostFailed(short if short.startswith(text) else f"{text} ({short})")
        of_host = is_host_error(error) if isinstance(error, OSError) else is_host_message(text)
        return HostFailed(text) if of_host else RuntimeFailed(text)

    def _make(self, config: ContainerConfig, bundle: Path) -> ContainerRecord:
        ids = self._mount_root(config, bundle)
        key, compiled = self._write_config(config, bundle, ids)
        if config.layer:
            written = (bundle / "config.json").read_bytes()
            rootfs.remember(self._layout, config.layer, config.layers, written)
        call = MonitorCall(
            container_id=config.id,
            bundle=str(bundle),
            root=str(self._layout.oci_root),
            exits=str(self._layout.exits),
            log_path=str(self._layout.log(config.id)),
            log_limits=config.log_limits,
            terminal=config.terminal,
            stdin=config.stdin,
            stdin_once=config.stdin_once,
        )
        os.chdir(bundle)  # conmon writes its `oom` file to its working directory
        started = conmon.start(conmon.arguments(self._binaries, call), self._group)
        monitor = procs.identify(started.pid)
        try:
            container = conmon.read_report(started, _CREATE_TIMEOUT_S)
            binds.verify(config.binds, container, binds.expected_over_proc(config.oci))
            if config.limits is not None:
                limits.change(self._hierarchies, self._layout.cgroup(config.id), config.limits)
        except BaseException as error:
            self._end_monitor(Process(started.pid, monitor.started))
            if isinstance(error, RuntimeFailed):
                raise RuntimeFailed(explain(str(error), bundle)) from error
            raise
        record = ContainerRecord(
            monitor=monitor,
            container=procs.identify(container),
            log_limits=config.log_limits,
            layers=config.layers,
        )
        if logrotate.is_kept(config.log_limits):
            logrotate.keep(self._layout.log(config.id), config.log_limits)
        self._layout.write_record(config.id, record)
        if key and not compiled:
            self._filters.learn(key, self._layout.oci_root / config.id / "seccomp.bpf")
        return record

    def _mount_root(self, config: ContainerConfig, bundle: Path) -> dict[str, Any]:
        """Mount the root file system; return the id mappings if it has a user namespace."""
        writable, rootfs = self._writable(config), bundle / "rootfs"
        linux: Any = config.oci.get("linux", {})
        if not any(each["type"] == "user" for each in linux.get("namespaces", ())):
            mounts.mount_overlay(config.layers, writable, rootfs, volatile=config.volatile)
            return {}
        with self._choosing:
            # A kept layer keeps the ids of its files.
            taken = idmaps.taken(self._layout.writables, self._layout.layers)
            start = idmaps.start_of(writable)
            if not start:
                start = idmaps.choose(config.layer or config.id, taken)
                idmaps.assign(writable, start)
        if not (writable / "upper").stat().st_uid:  # root of the container may have changed it
            os.chown(writable / "upper", start, start)
        os.chown(bundle, 0, start)
        bundle.chmod(0o710)  # root of the container passes through, and changes nothing
        for owned in (writable / "work", *(bundle / "files").iterdir()):
            os.chown(owned, start, start)
        with idmaps.shifted(config.layers, start, bundle / "layers") as layers:
            mounts.mount_overlay(layers, writable, rootfs, volatile=config.volatile)
        return idmaps.mappings(start)

    def _writable(self, config: ContainerConfig) -> Path:
        """The directory of what the container writes."""
        if not config.layer:
            return self._layout.writable(config.id)
        with self._alone(_lock_of(config.layer), _COPY_TIMEOUT_S):
            return self._layout.claim_layer(config.id, config.layer)

    def _write_config(
        self, config: ContainerConfig, bundle: Path, ids: dict[str, Any]
    ) -> tuple[str, bool]:
        """Write config.json; return the seccomp profile's key and whether it came compiled."""
        oci: dict[str, Any] = dict(config.oci)
        oci["root"] = {**oci.get("root", {}), "path": str(bundle / "rootfs")}
        if ids:
            oci["linux"] = {**oci["linux"], **ids}
        section = oci.get("linux", {}).get("seccomp")
        key, program = "", None
        if section and self._binaries.kind == "crun":
            key = self._filters.key(section)
            program = self._filters.program(key)
            if program:
                oci["annotations"] = {**oci.get("annotations", {}), ANNOTATION: program}
        (bundle / "config.json").write_bytes(msgspec.json.encode(oci))
        return key, program is not None

    def _end_monitor(self, monitor: Process) -> None:
        descriptor = procs.open_ended(monitor)
        if descriptor is None:
            return
        procs.send(monitor, signals.SIGKILL)
        procs.wait_gone(monitor, _MONITOR_TIMEOUT_S)
        procs.reap(descriptor)
        os.close(descriptor)

    def start(self, container_id: str) -> None:
        """See `Runtime.start`."""
        with self._alone(container_id):
            record = self._layout.read_record(container_id)
            if record is None or not procs.is_alive(record.container):
                raise RuntimeFailed(f"cannot start container {container_id}: it is not created")
            program = launch.program(record.container.pid)
            fifo = self._layout.oci_root / container_id / "exec.fifo"
            if self._binaries.kind != "crun" or not launch.let_go(fifo):
                self._start_by_process(container_id)
            if not launch.wait_for_program(record.container, program):
                self._explain_failed_start(container_id, record)

    def _start_by_process(self, container_id: str) -> None:
        words = [self._binaries.oci, "--root", str(self._layout.oci_root), "start", container_id]
        done = subprocess.run(
            words, env=conmon.ENVIRONMENT, capture_output=True, timeout=_CREATE_TIMEOUT_S
        )
        if done.returncode:
            message = conmon.plain_message(done.stderr.decode(errors="replace"))
            raise RuntimeFailed(message or f"{words[0]} start exited with {done.returncode}")

    def _explain_failed_start(self, container_id: str, record: ContainerRecord) -> None:
        """Raise if the container ended because its program cannot be executed; any other end is an
        exit.
        """
        procs.wait_gone(record.monitor, _MONITOR_TIMEOUT_S)
        ended = self._layout.read_exit(container_id, self._hierarchies)
        if ended and ended.error:
            raise RuntimeFailed(ended.error)

    def kill(self, container_id: str, signal: int, everyone: bool) -> None:
        """See `Runtime.kill`."""
        if everyone:
            cgroups.signal_all(self._hierarchies, self._layout.cgroup(container_id), signal)
        record = self._layout.read_record(container_id)
        if record:
            procs.send(record.container, signal)
        if signal == signals.SIGKILL:
            # A process in v1's freezer dies of SIGKILL only once it is thawed.
            freezer.thaw(self._hierarchies, self._layout.cgroup(container_id))

    def begin_exec(self, container_id: str, command: Command, *, opened: bool = False) -> Running:
        """The first part of `Runtime.exec`, and `Runtime.open`; `execs.end` is the last."""
        with self._alone(container_id):
            if self._is_paused(container_id):
                raise RuntimeFailed(f"container {container_id} is paused")
            return self.execs.begin(container_id, command, opened=opened)

    def pause(self, container_id: str) -> None:
        """See `Runtime.pause`."""
        with self._alone(container_id):
            if not self._is_paused(container_id):
                freezer.freeze(self._hierarchies, self._layout.cgroup(container_id))

    def resume(self, container_id: str) -> None:
        """See `Runtime.resume`."""
        with self._alone(container_id):
            if self._is_paused(container_id):
                freezer.thaw(self._hierarchies, self._layout.cgroup(container_id))

    def _is_paused(self, container_id: str) -> bool:
        """Whether a running container is paused. Raises RuntimeFailed if it is not running."""
        record = self._layout.read_record(container_id)
        started = record and self._layout.is_started(container_id)
        if not record or not started or not procs.is_alive(record.container):
            raise RuntimeFailed(f"container {container_id} is not running")
        return freezer.is_frozen(self._hierarchies, self._layout.cgroup(container_id))

    def process(self, container_id: str) -> tuple[int, int]:
        """See `Runtime.process`."""
        record = self._layout.read_record(container_id)
        descriptor = procs.open_process(record.container) if record else None
        if record is None or descriptor is None:
            raise NotRunning(f"container {container_id} is not running")
        return descriptor, record.container.pid

    def top(self, container_id: str, options: tuple[str, ...]) -> ProcessTable:
        """See `Runtime.top`."""
        pids = cgroups.members(self._hierarchies, self._layout.cgroup(container_id))
        record = self._layout.read_record(container_id)
        if not record or not pids or not procs.is_alive(record.container):
            raise NotRunning(f"container {container_id} is not running")
        return top(pids, options)

    def rootfs(self, container_id: str, layer: str, writable: bool) -> Rootfs:
        """See `Runtime.rootfs`."""
        with self._alone(container_id):
            if not layer or self._layout.bundle(container_id).exists():
                return rootfs.opened(self._layout, container_id)
        if not writable:
            return rootfs.opened_layer(self._layout, layer, writable=False)
        # Held until it is closed: a container that is to have the layer is not made before.
        with ExitStack() as held:
            held.enter_context(self._alone(_lock_of(layer), 0.0))
            if holder := self._layout.holder(layer):
                raise RuntimeFailed(f"its writable layer is in use by container {holder}")
            found = rootfs.opened_layer(self._layout, layer, writable=True)
            held.callback(found.close)
            return replace(found, close=held.pop_all().close)

    def update(self, container_id: str, requested: CgroupLimits) -> None:
        """See `Runtime.update`."""
        with self._alone(container_id):
            record = self._layout.read_record(container_id)
            ended = NotRunning(f"cannot update container {container_id}: it is not running")
            if not record or not procs.is_alive(record.container):
                raise ended
            try:
                limits.change(self._hierarchies, self._layout.cgroup(container_id), requested)
            except RuntimeFailed as error:
                if not procs.is_alive(record.container):
                    raise ended from error
                raise

    def remove(self, container_id: str, keep_logs: bool) -> None:
        """See `Runtime.remove`."""
        with self._alone(container_id):
            self._undo(container_id)
            if not keep_logs:
                logrotate.remove(self._layout.log(container_id))

    def _undo(self, container_id: str) -> None:
        bundle = self._layout.bundle(container_id)
        if bundle.exists():
            self._end_processes(container_id, bundle)
        cgroups.remove(self._hierarchies, self._layout.cgroup(container_id))
        if bundle.exists():
            idmaps.remove(bundle / "layers")
        if self._layout.holds_layer(container_id):
            mounts.unmount_unused(bundle / "rootfs")
        elif bundle.exists():
            mounts.unmount(bundle / "rootfs")
        self._layout.remove_files(container_id)

    def remove_layer(self, layer: str) -> None:
        """See `Runtime.remove_layer`."""
        with self._alone(_lock_of(layer), _COPY_TIMEOUT_S):
            if holder := self._layout.holder(layer):
                raise RuntimeFailed(f"writable layer {layer} is in use by container {holder}")
            remove_tree(self._layout.layer(layer))

    def _end_processes(self, container_id: str, bundle: Path) -> None:
        record = self._layout.read_record(container_id)
        if record is None:
            # A former agent died while it made the container: its conmon may still run.
            self._end_monitor(procs.find_by_argument("conmon", str(bundle)))
            return
        if procs.is_alive(record.container):
            procs.send(record.container, signals.SIGKILL)
            freezer.thaw(self._hierarchies, self._layout.cgroup(container_id))
        if not procs.wait_gone(record.container, _DEATH_TIMEOUT_S):
            pid = record.container.pid
            raise RuntimeFailed(f"cannot kill process {pid} of container {container_id}")
        # conmon may be about to write the exit file, which must not outlive the bundle.
        if not procs.wait_gone(record.monitor, _MONITOR_TIMEOUT_S):
            self._end_monitor(record.monitor)

    def found(self) -> tuple[FoundContainer, ...]:
        """See `Runtime.found`."""
        return tuple(self._find(container_id) for container_id in self._layout.ids())

    def _find(self, container_id: str) -> FoundContainer:
        with self._alone(container_id):
            record = self._layout.read_record(container_id)
            if record is None:
                unmade = ContainerExit(id=container_id, code=UNSEEN_EXIT_CODE)
                return FoundContainer(id=container_id, state=ContainerState.STOPPED, exit=unmade)
            ended = self._settle(container_id, record)
        if ended:
            return FoundContainer(id=container_id, state=ContainerState.STOPPED, exit=ended)
        self._watch(container_id, record.monitor)
        self.execs.end_former(container_id)
        started = self._layout.is_started(container_id)
        state = ContainerState.RUNNING if started else ContainerState.CREATED
        paused = freezer.is_frozen(self._hierarchies, self._layout.cgroup(container_id))
        return FoundContainer(id=container_id, state=state, pid=record.container.pid, paused=paused)

    def _settle(self, container_id: str, record: ContainerRecord) -> ContainerExit | None:
        """How a container ended, or None. One whose monitor has ended is killed: nothing reads its
        output.
        """
        ended = self._layout.read_exit(container_id, self._hierarchies)
        if ended is None and not procs.is_alive(record.monitor):
            procs.send(record.container, signals.SIGKILL)
            procs.wait_gone(record.container, _DEATH_TIMEOUT_S)
            if not (self._layout.exits / container_id).exists():
                self._layout.write_unseen_exit(container_id)
            ended = self._layout.read_exit(container_id, self._hierarchies)
        return ended


def _lock_of(layer: str) -> str:
    """The name of a kept layer's lock: no container's id has a slash."""
    return f"layer/{layer}"
