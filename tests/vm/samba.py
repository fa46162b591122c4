"""A real SMB server on a loopback interface, from Debian's package samba."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

TOOLS = Path(os.environ["PYSWARM_SAMBA_TOOLS"])
"""Where the packages are unpacked: scripts/vm."""
USER, PASSWORD = "games", "se,cret-of-games"
"""An account of every Debian system. The comma separates options of mount(2)."""
_LIBRARIES = TOOLS / "usr/lib/x86_64-linux-gnu"
_PATIENCE_S = 60.0 * float(os.environ.get("PYSWARM_TIMEOUT_FACTOR", "1"))
_CONFIG = """
[global]
server role = standalone server
interfaces = lo
bind interfaces only = yes
smb ports = 445
disable netbios = yes
map to guest = Bad User
load printers = no
printcap name = /dev/null
force user = root
log file = {state}/log
lock directory = {state}
state directory = {state}
cache directory = {state}
pid directory = {state}
private dir = {state}
ncalrpc dir = {state}/rpc
[share]
path = {exported}
read only = no
[public]
path = {exported}
guest ok = yes
[closed]
path = {exported}
valid users = nobody
"""


class Server:
    """An SMB server with the shares `share`, `public` for guests, and `closed`, which its user may
    not use. `enter`: a command that enters the network namespace in which it is at 127.0.0.1.
    """

    def __init__(self, top: Path, enter: Sequence[str] = ()) -> None:
        self.exported = top / "exported"
        self._config, self._state, self._enter = top / "smb.conf", top / "state", enter
        self._environment = {**os.environ, "LD_LIBRARY_PATH": f"{_LIBRARIES}:{_LIBRARIES}/samba"}
        self._process: subprocess.Popen[bytes] | None = None
        for directory in (self.exported, self._state, Path("/var/log/samba")):
            directory.mkdir(parents=True, exist_ok=True)
        self._config.write_text(_CONFIG.format(state=self._state, exported=self.exported))
        subprocess.run(
            [TOOLS / "usr/bin/smbpasswd", "-c", self._config, "-s", "-a", USER],
            input=f"{PASSWORD}\n{PASSWORD}\n".encode(),
            env=self._environment,
            check=True,
        )

    def start(self) -> None:
        """Returns once clients can connect."""
        words = (TOOLS / "usr/sbin/smbd", "-F", "--no-process-group", "-s", self._config)
        # Its processes are a group, so that all of them stop and end at once.
        self._process = subprocess.Popen(
            [*self._enter, *words], env=self._environment, start_new_session=True
        )
        deadline = time.monotonic() + _PATIENCE_S
        while not self._listens():
            assert self._process.poll() is None, f"the server ended: {self.log()}"
            assert time.monotonic() < deadline, f"the server does not listen: {self.log()}"
            time.sleep(1)  # the question costs a process

    def _listens(self) -> bool:
        done = subprocess.run(
            [*self._enter, "ss", "-Hltn", "sport = 445"], capture_output=True, check=True
        )
        return b"127.0.0.1:445" in done.stdout

    def log(self) -> str:
        """What the server logged."""
        found = self._state / "log"
        return found.read_text() if found.exists() else ""

    def stop(self) -> None:
        """End all of its processes: it is down."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    @contextmanager
    def hanging(self) -> Iterator[None]:
        """In the block it accepts connections and answers nothing."""
        assert self._process is not None
        os.killpg(self._process.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.killpg(self._process.pid, signal.SIGCONT)


@contextmanager
def serving(top: Path, enter: Sequence[str] = ()) -> Iterator[Server]:
    """A server that runs in the block."""
    found = Server(top, enter)
    try:
        found.start()
        yield found
    finally:
        found.stop()
