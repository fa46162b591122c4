"""Docker's daemon on a host of a playground, and its HTTP API. SHELL.

The host is a network namespace on the underlay. The daemon has a mount namespace in which /run is
empty, and /etc, /opt and /var/lib are in the host's state directory. It runs in the host's cgroup,
so that a power loss kills it.
"""

import http.client
import json
import socket
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import quote

from bench.fleet import wait_until
from cli.playground import cgroups
from cli.playground.fleet import Host
from pyswarm_core.errors import Unavailable

_VERSION = "v1.41"
_TIMEOUT_S = 60.0
_BOOT = """set -e
echo $$ > {procs}
hostname {name}
mount -t tmpfs tmpfs /run
mkdir /run/state
mount --bind {state} /run/state
for place in etc opt var/lib; do
    mkdir -p /run/state/upper/$place /run/state/aside/$place
    layers=lowerdir=/$place,upperdir=/run/state/upper/$place,workdir=/run/state/aside/$place
    mount -t overlay -o $layers overlay /$place
done
rm -f /etc/resolv.conf
: > /etc/resolv.conf
echo '127.0.0.1 localhost' > /etc/hosts
exec dockerd --data-root /run/state/docker --host unix:///run/state/docker.sock --log-level warn \\
    --exec-opt native.cgroupdriver=cgroupfs --cgroup-parent {cgroup}/containers
"""


class Engine:
    """A daemon."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the daemon with the state of its last run. Raises Unavailable with its log."""
        state = self.host.state_dir
        state.mkdir(parents=True, exist_ok=True)
        (state / "docker.sock").unlink(missing_ok=True)
        (procs,) = cgroups.make(f"{self.host.cgroup}/daemons")
        script = _BOOT.format(
            procs=procs, name=self.host.name, state=state, cgroup=self.host.cgroup
        )
        enter = ["nsenter", f"--net={self.host.netns_path}"]
        apart = ["unshare", "--mount", "--uts", "--propagation", "private"]
        with (state / "dockerd.log").open("wb") as log:
            self._process = subprocess.Popen(
                [*enter, *apart, "sh", "-c", script],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
            )
        wait_until(self._is_up, 0.05)

    def reap(self) -> None:
        """Return once the killed daemon has ended."""
        if self._process is not None:
            self._process.wait(_TIMEOUT_S)

    def load(self, archive: Path) -> None:
        """Load an image from a file of `docker load`."""
        with archive.open("rb") as file:
            self._ask("POST", "/images/load?quiet=1", file, "application/x-tar")

    def get(self, path: str, **query: object) -> Any:
        """GET a path; parameters that are no text are encoded as JSON."""
        words = [f"{name}={quote(_text(value))}" for name, value in query.items()]
        return json.loads(self._ask("GET", f"{path}?{'&'.join(words)}"))

    def post(self, path: str, body: object) -> Any:
        """POST JSON; returns the answer, if there is one."""
        answer = self._ask("POST", path, json.dumps(body).encode(), "application/json")
        return json.loads(answer) if answer else None

    def delete(self, path: str) -> None:
        """DELETE a path."""
        self._ask("DELETE", path)

    def _is_up(self) -> bool:
        if self._process is None or self._process.poll() is not None:
            log = self.host.state_dir / "dockerd.log"
            lines = log.read_text().splitlines()[-12:]
            raise Unavailable("\n".join([f"dockerd of {self.host.name} ended:", *lines]))
        try:
            return self._ask("GET", "/_ping") == b"OK"
        except OSError:
            return False

    def _ask(self, verb: str, path: str, body: Any = None, kind: str = "") -> bytes:
        connection = _Connection(self.host.state_dir / "docker.sock")
        try:
            connection.request(verb, f"/{_VERSION}{path}", body, {"Content-Type": kind})
            reply = connection.getresponse()
            answer = reply.read()
        finally:
            connection.close()
        if reply.status >= 300:
            raise Unavailable(f"{verb} {path}: {reply.status} {answer.decode().strip()}")
        return answer


class _Connection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=_TIMEOUT_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)
