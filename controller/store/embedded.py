"""The embedded etcd: one member, which the controller starts and which outlives it. SHELL.

It runs in a session of its own and listens on a Unix socket inside the state directory, which only
the controller's user may enter, with TLS for which clients need a certificate. A restarted
controller finds it by its command line, which names the data directory: no pid file can be
outdated.
"""

import asyncio
import contextlib
import fcntl
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import msgspec

from controller.processes import command_line, end, ended, handle_of, process_with
from controller.store.base import StoreError, StoreMisuse, StoreUnavailable
from controller.store.etcd import EtcdStore
from controller.store.etcd_endpoints import EtcdSettings
from controller.store.etcd_log import SNAPSHOT_ENTRIES
from controller.store.etcd_tls import EtcdTls
from pyswarm_core.aio.logs import EventLog
from pyswarm_core.clock import Backoff
from pyswarm_core.plaintext import split_lines

_log = EventLog("controller.etcd")

START_TIMEOUT_S = 30.0
"""etcd loads a gigabyte of data in about ten seconds."""

_STOP_TIMEOUT_S = 10.0
_PAUSE_MIN_S = 0.1
_PAUSE_MAX_S = 5.0
_SETTLED_S = 10.0
"""An etcd that lived this long before it died is restarted without a pause."""

_RELIEF_PAUSE_S = 1.0
"""Period of checking etcd's alarms."""
_RELIEF_PAUSE_MAX_S = 60.0

_LOG_BYTES_MAX = 10 * 1024 * 1024
_SOCKET_PATH_MAX = 107
"""Longest path of a Unix socket on Linux."""

# etcd requires host:port and creates a socket of that name in its working directory.
_CLIENT_SOCKET = "client.sock:0"
_PEER_SOCKET = "peer.sock:0"
_NO_PEER = "https://127.0.0.1:1"
"""Advertised and never called: the cluster has one member."""

_NOT_INSTALLED = (
    "etcd is not installed: install it (Debian, Ubuntu: apt install etcd-server; Fedora: "
    "dnf install etcd) or name a cluster of your own with --etcd-endpoints"
)


class EmbeddedSettings(msgspec.Struct, frozen=True):
    """The directory of the embedded etcd, and its limits."""

    folder: Path
    binary: str = "etcd"
    client_port: int = 0
    """An additional loopback port to listen on; 0: the Unix socket alone."""
    quota_bytes: int = 4 * 1024**3


class Certificates(Protocol):
    """The certificates of etcd and its clients, in files."""

    def prepare(self) -> None:
        """Make or renew them. Raises OSError."""

    def arguments(self) -> list[str]:
        """The flags with which etcd uses them."""

    def current(self) -> EtcdTls:
        """Those of a client."""


class EmbeddedEtcd:
    """One etcd process on one directory. Several controllers may share it: the first starts it."""

    def __init__(self, settings: EmbeddedSettings, certificates: Certificates) -> None:
        self._settings = settings
        self._certificates = certificates
        self._folder = settings.folder.absolute()
        self._data = self._folder / "data"
        self._child: subprocess.Popen[bytes] | None = None
        self._socket = self._folder / _CLIENT_SOCKET
        if len(os.fsencode(self._socket)) > _SOCKET_PATH_MAX:
            raise StoreMisuse(
                f"etcd's folder {self._folder}: too long for a Unix socket, at most "
                f"{_SOCKET_PATH_MAX - len(_CLIENT_SOCKET) - 1} bytes"
            )

    @property
    def endpoint(self) -> str:
        """The endpoint for EtcdSettings; it stays the same over restarts."""
        return f"unixs:{self._socket}"

    @property
    def client(self) -> EtcdSettings:
        """The settings of a client."""
        return EtcdSettings((self.endpoint,), tls=self._certificates.current)

    @property
    def pid(self) -> int | None:
        """The running etcd's process id, found by the data directory on its command line."""
        self._reap()
        return process_with(f"--data-dir={self._data}")

    async def start(self) -> str:
        """Adopt the etcd that runs on this data directory, or start one; wait until it serves. One
        that has no TLS, or other certificates, is restarted.

        Returns the endpoint. Raises StoreMisuse if there is no etcd program, StoreUnavailable if it
        does not come up.
        """
        while (outdated := self._adopt_or_launch()) is not None:
            await self._end(outdated)
        await self._serving()
        return self.endpoint

    def _adopt_or_launch(self) -> int | None:
        """The process id of an etcd that has to end first; otherwise one runs then."""
        with self._locked():
            self._prepare()
            pid = self.pid
            if pid is None:
                self._launch()
            elif not set(map(os.fsencode, self._secured())) <= set(command_line(pid)):
                _log.warning("etcd.outdated", pid=pid)
                return pid
            else:
                _log.info("etcd.adopted", pid=pid)
        return None

    def _prepare(self) -> None:
        try:
            self._certificates.prepare()
        except OSError as error:
            raise StoreUnavailable(f"cannot make certificates for etcd: {error}") from None

    async def supervise(self) -> None:
        """Restart etcd whenever it dies, until cancelled. Call after `start`."""
        clock = asyncio.get_running_loop().time
        backoff = Backoff.doubling(_PAUSE_MIN_S, _PAUSE_MAX_S)
        while True:
            began = clock()
            await self._death()
            if clock() - began > _SETTLED_S:
                backoff.reset()
            pause_s = backoff.next_s()
            _log.warning("etcd.died", retry_s=pause_s)
            await asyncio.sleep(pause_s)
            try:
                await self.start()
            except StoreUnavailable as error:
                _log.warning("etcd.start_failed", error=error)

    async def relieve(self, store: EtcdStore) -> None:
        """Free space whenever etcd accepts no more writes, until cancelled."""
        # A store full of needed data stays full, and defragmenting stops etcd for seconds.
        backoff = Backoff.doubling(_RELIEF_PAUSE_S, _RELIEF_PAUSE_MAX_S)
        while True:
            await asyncio.sleep(backoff.next_s())
            try:
                status = await store.status()
                if not any("NOSPACE" in alarm for alarm in status.alarms):
                    backoff.reset()
                    continue
                _log.warning("etcd.full", size_bytes=status.size_bytes)
                size = await store.make_room(status.revision)
                _log.warning("etcd.defragmented", size_bytes=size)
            except StoreError as error:
                _log.warning("etcd.defragment_failed", error=error)

    async def stop(self) -> None:
        """Stop etcd in an orderly way; its data stays. No effect if it does not run."""
        if (pid := self.pid) is not None:
            await self._end(pid)
        else:
            await self._ending()

    async def _end(self, pid: int) -> None:
        await end(pid, _STOP_TIMEOUT_S)
        self._reap()

    def _launch(self) -> None:
        binary = shutil.which(self._settings.binary)
        if binary is None:
            raise StoreMisuse(_NOT_INSTALLED)
        if self._child is not None:
            # The process has no command line any more, and is about to end.
            self._child.wait(_STOP_TIMEOUT_S)
        for name in (_CLIENT_SOCKET, _PEER_SOCKET):
            # A socket left by a killed etcd keeps the next one from listening.
            (self._folder / name).unlink(missing_ok=True)
        path = self._folder / "etcd.log"
        mode = "wb" if path.exists() and path.stat().st_size > _LOG_BYTES_MAX else "ab"
        with path.open(mode) as output:
            self._child = subprocess.Popen(
                [binary, *self._arguments()],
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                # etcd would read ETCD_* variables meant for another etcd.
                env={k: v for k, v in os.environ.items() if not k.startswith("ETCD_")},
                start_new_session=True,
            )
        _log.info("etcd.started", pid=self._child.pid)

    def _arguments(self) -> list[str]:
        return [
            "--name=pyswarm",
            f"--data-dir={self._data}",
            *self._secured(),
            f"--initial-advertise-peer-urls={_NO_PEER}",
            f"--initial-cluster=pyswarm={_NO_PEER}",
            # A single member sends no heartbeats to others. A quarter of a second keeps it idle and
            # leases of two seconds possible (the least is 1.5 elections, rounded to ticks).
            "--heartbeat-interval=250",
            "--election-timeout=1250",
            # Entries of the log older than this, beyond 5,000, leave etcd's memory.
            f"--snapshot-count={SNAPSHOT_ENTRIES}",
            "--max-snapshots=2",
            "--max-wals=2",
            f"--quota-backend-bytes={self._settings.quota_bytes}",
            "--logger=zap",
            "--log-level=warn",
        ]

    def _secured(self) -> list[str]:
        """Without these an etcd that runs is not adopted."""
        clients = f"unixs://{_CLIENT_SOCKET}"
        if self._settings.client_port:
            clients += f",https://127.0.0.1:{self._settings.client_port}"
        return [
            f"--listen-client-urls={clients}",
            f"--advertise-client-urls={clients}",
            f"--listen-peer-urls=unixs://{_PEER_SOCKET}",
            *self._certificates.arguments(),
        ]

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Only one controller at a time may search for an etcd and start one."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with (self._folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    async def _serving(self) -> None:
        """Return when etcd answers and leads its cluster of one."""
        async with EtcdStore(self.client) as store:
            try:
                async with asyncio.timeout(START_TIMEOUT_S):
                    while not await self._answers(store):  # noqa: ASYNC110  # etcd tells nobody
                        await asyncio.sleep(0.05)
            except TimeoutError:
                raise StoreUnavailable(
                    f"etcd did not serve within {START_TIMEOUT_S:.0f} s{self._last_words()}"
                ) from None

    async def _answers(self, store: EtcdStore) -> bool:
        try:
            return (await store.status()).has_leader
        except StoreError:
            if self.pid is None:
                await self._ending()
                raise StoreUnavailable(f"etcd ended at once{self._last_words()}") from None
            return False

    async def _death(self) -> None:
        """Return when etcd does not run (any more), without polling."""
        pid = self.pid
        if pid is None:
            return
        with contextlib.suppress(ProcessLookupError), handle_of(pid) as process:
            await ended(process, None)
        self._reap()

    async def _ending(self) -> None:
        """Reap a process that has no command line any more, and is about to end."""
        if self._child is not None:
            with contextlib.suppress(TimeoutError), handle_of(self._child.pid) as process:
                await ended(process, _STOP_TIMEOUT_S)
        self._reap()

    def _reap(self) -> None:
        if self._child is not None and self._child.poll() is not None:
            self._child = None

    def _last_words(self) -> str:
        path = self._folder / "etcd.log"
        lines = split_lines(path.read_text(errors="replace")) if path.exists() else []
        return f"; {path} ends with: {lines[-1]}" if lines else ""
