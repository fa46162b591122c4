"""One process of the distribution's registry, which the controller starts and which outlives it.
SHELL.

Its configuration is in a file that is named after its content, so its command line says which one
it has: one that runs with an older configuration is replaced, one with the present is adopted.
"""

import asyncio
import contextlib
import hashlib
import os
import shutil
import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path

from controller.processes import command_line, end, ended, handle_of
from controller.registry.settings import DRAIN_S
from pyswarm_core.aio.logs import EventLog
from pyswarm_core.errors import PyswarmError, Unavailable
from pyswarm_core.plaintext import split_lines

_log = EventLog("controller.registry")

START_TIMEOUT_S = 10.0
_PAUSE_S = 0.02
_LOG_BYTES_MAX = 10 * 1024 * 1024
_STOP_TIMEOUT_S = DRAIN_S + 5.0
_FOREIGN = ("REGISTRY_", "OTEL_")
"""Variables that would change the configuration of the registry, or have it export traces."""


class NotInstalled(PyswarmError):
    """There is no program."""


class RegistryProcess:
    """The process of one name in a directory."""

    def __init__(
        self, folder: Path, name: str, binary: str, answers: Callable[[], Awaitable[bool]]
    ) -> None:
        """`answers`: whether the process serves now."""
        self.name = name
        self._folder = folder
        self._binary = binary
        self._answers = answers
        self._child: subprocess.Popen[bytes] | None = None
        self._turn = asyncio.Lock()

    async def ensure(self, configuration: bytes) -> None:
        """Return when a process with this configuration serves. Raises Unavailable, OSError."""
        file = self._folder / f"{self.name}-{hashlib.sha256(configuration).hexdigest()[:16]}.yml"
        async with self._turn:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            found = self.running()
            if found is not None and found[1] == file:
                if await self._answers():
                    return
            else:
                if found is not None:
                    _log.info("registry.outdated", process=self.name, pid=found[0])
                    await self._end(found[0])
                await self._ending()
                self._write(file, configuration)
                self._launch(file)
            await self._serving()

    async def death(self) -> None:
        """Return when the process does not run (any more), without polling."""
        found = self.running()
        if found is None:
            return
        with contextlib.suppress(ProcessLookupError), handle_of(found[0]) as process:
            await ended(process, None)
        self._reap()

    async def stop(self) -> None:
        """End the process when its requests are answered; no effect if it does not run."""
        async with self._turn:
            if (found := self.running()) is not None:
                await self._end(found[0])
            else:
                await self._ending()

    def running(self) -> tuple[int, Path] | None:
        """The process, and the file of its configuration."""
        self._reap()
        begin = os.fsencode(f"{self._folder}/{self.name}-")
        for entry in Path("/proc").iterdir():
            if not entry.name.isdecimal():
                continue
            words = command_line(int(entry.name))
            if len(words) > 2 and words[1] == b"serve" and words[2].startswith(begin):
                return int(entry.name), Path(os.fsdecode(words[2]))
        return None

    async def _end(self, pid: int) -> None:
        await end(pid, _STOP_TIMEOUT_S)
        self._reap()

    def _write(self, file: Path, configuration: bytes) -> None:
        for former in self._folder.glob(f"{self.name}-*.yml"):
            former.unlink()
        file.touch(mode=0o600)
        file.write_bytes(configuration)

    def _launch(self, file: Path) -> None:
        binary = shutil.which(self._binary)
        if binary is None:
            raise NotInstalled(
                f"{self._binary} is not installed on this controller's host:"
                " apt-get install docker-registry"
            )
        log = self._log_file
        mode = "wb" if log.exists() and log.stat().st_size > _LOG_BYTES_MAX else "ab"
        kept = {k: v for k, v in os.environ.items() if not k.startswith(_FOREIGN)}
        with log.open(mode) as output:
            self._child = subprocess.Popen(
                [binary, "serve", str(file)],
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**kept, "OTEL_TRACES_EXPORTER": "none"},
                start_new_session=True,
            )
        with contextlib.suppress(OSError):  # the controller may run before all others
            os.setpriority(os.PRIO_PROCESS, self._child.pid, 0)
        _log.info("registry.started", process=self.name, pid=self._child.pid)

    async def _serving(self) -> None:
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                while not await self._answers():
                    if self._has_ended():
                        raise Unavailable(f"it ended at once{self._last_words()}")
                    await asyncio.sleep(_PAUSE_S)
        except TimeoutError:
            text = f"it did not serve within {START_TIMEOUT_S:.0f} s{self._last_words()}"
            raise Unavailable(text) from None

    def _has_ended(self) -> bool:
        if self._child is not None:
            return self._child.poll() is not None
        return self.running() is None

    async def _ending(self) -> None:
        """Reap a process that has no command line any more, and is about to end."""
        if self._child is not None:
            with contextlib.suppress(TimeoutError), handle_of(self._child.pid) as process:
                await ended(process, _STOP_TIMEOUT_S)
        self._reap()

    def _reap(self) -> None:
        if self._child is not None and self._child.poll() is not None:
            self._child = None

    @property
    def _log_file(self) -> Path:
        return self._folder / f"{self.name}.log"

    def _last_words(self) -> str:
        try:
            text = self._log_file.read_text(errors="replace")
        except OSError:
            return ""
        lines = split_lines(text)
        return f"; {self._log_file} ends with: {lines[-1]}" if lines else ""
