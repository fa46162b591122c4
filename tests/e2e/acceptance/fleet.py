"""A playground for a test module, driven as a user drives it: through the `pyswarm` command."""

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

from cli.daemons import entering
from cli.playground.scraping import Scraper
from tests.fixtures import commands, leaks
from tests.fixtures.commands import Done

ROOT = Path(__file__).resolve().parents[3]
PYSWARM = Path(sys.executable).with_name("pyswarm")
"""As installed beside the interpreter that runs the tests."""
PATIENCE_S = 120.0 * float(os.environ.get("PYSWARM_TIMEOUT_FACTOR", "1"))
COMMAND_LIMIT_S = 300.0
IMAGE = "web:1"
PATIENT = {"PYSWARM_HEARTBEAT_PERIOD": "5s", "PYSWARM_AGENT_GRACE": "60s"}
"""For fleets whose agents are killed: on a busy machine, one that comes back late is not lost."""
RUNNING = "desired-state=running"


class Fleet:
    """One playground; `own` is added to its environment.

    Every method that waits gives up after PATIENCE_S and says what it saw.
    """

    def __init__(self, name: str, home: Path, **own: str) -> None:
        self.name = name
        self.home = home
        self.run_dir = Path("/run/pyswarm/playground") / name
        self.state_dir = Path("/var/lib/pyswarm/playground") / name
        self.environment = {
            **os.environ,
            **own,
            "XDG_CONFIG_HOME": str(home / "config"),
            "XDG_CACHE_HOME": str(home / "cache"),
            "PYSWARM_PLAYGROUND": name,
        }
        self.environment.pop("PYSWARM_HOST", None)
        self._pids: dict[str, int] = {}

    @cached_property
    def scraper(self) -> Scraper:
        """Reads metrics, with the token that the fleet has at the first use."""
        return Scraper(self("swarm", "ca"), self("swarm", "scrape-token"))

    def run(self, *words: str) -> Done:
        """Run `pyswarm WORDS`."""
        return commands.run(words, self.environment, COMMAND_LIMIT_S)

    def __call__(self, *words: str) -> str:
        """Run `pyswarm WORDS`, which must succeed; what it printed."""
        done = self.run(*words)
        assert done.code == 0, f"pyswarm {' '.join(words)}: exit {done.code}\n{done.err}{done.out}"
        return done.out.strip()

    def refused(self, *words: str) -> str:
        """Run `pyswarm WORDS`, which must be refused in plain words; what it said."""
        done = self.run(*words)
        assert done.code in (1, 2), f"pyswarm {' '.join(words)} was not refused: {done}"
        assert "Traceback" not in done.err
        return done.err

    def rows(self, *words: str) -> list[dict[str, str]]:
        """The rows of a list command."""
        return [json.loads(line) for line in self(*words, "--format", "json").splitlines()]

    def tasks(self, service: str, *filters: str) -> list[dict[str, str]]:
        """The service's tasks that pass the filters, as `service ps` shows them, untruncated."""
        words = [word for one in filters for word in ("--filter", one)]
        return self.rows("service", "ps", service, "--no-trunc", *words)

    def task(self, task_id: str) -> dict[str, Any]:
        """A task as `task inspect` shows it."""
        found: list[dict[str, Any]] = json.loads(self("task", "inspect", task_id))
        return found[0]

    def running(self, service: str) -> list[dict[str, str]]:
        """Tasks that run and should."""
        tasks = self.tasks(service, RUNNING)
        return [task for task in tasks if task["CurrentState"].startswith("Running")]

    def address(self, task_id: str) -> str:
        """A task's address on its first network."""
        address: str = self.task(task_id)["NetworksAttachments"][0]["Addresses"][0]
        return address.partition("/")[0]

    def pid(self, task_id: str) -> int:
        """The pid of a task's first process."""
        pid: int = self.task(task_id)["Status"]["ContainerStatus"]["PID"]
        return pid

    def error_of(self, service: str) -> str:
        """The newest error any of the service's tasks has; empty if there is none yet."""
        errors = [task["Error"].strip('"') for task in self.tasks(service) if task["Error"]]
        return errors[0] if errors else ""

    def inside(self, task_id: str, *command: str) -> Done:
        """Run a command of this machine in a running task's network namespace."""
        enter = ["nsenter", "-t", self._entrance(task_id), "-n"]
        return self.on_machine([*enter, "--", *command])

    def contained(self, task_id: str, *command: str) -> Done:
        """Run a command of the image in a running task's namespaces."""
        enter = ["nsenter", "-t", self._entrance(task_id), "-n", "-m"]
        return self.on_machine([*enter, "--", *command])

    def netns(self, place: str) -> str:
        """The network namespace of a host, of the underlay ("lan"), or of a running task by id."""
        path = f"/run/netns/{self.name}-{place}"
        if place == "lan" or place.startswith("host"):
            return path
        return f"/proc/{self._entrance(place)}/ns/net"

    def _entrance(self, task_id: str) -> str:
        """The pid by which a task's namespaces are entered; asked for once, a task has no other."""
        if not self._pids.get(task_id):
            self._pids[task_id] = self.pid(task_id)
        return str(self._pids[task_id])

    def outside(self, *command: str) -> Done:
        """Run a command on the underlay, as a machine that is none of the fleet's hosts."""
        return self.on("lan", *command)

    def on(self, host: str, *command: str) -> Done:
        """Run a command on a host, or on the underlay ("lan")."""
        files = None if host == "lan" else self.run_dir / host / "mount.namespace"
        return self.on_machine([*entering(Path(self.netns(host)), files), *command])

    def on_machine(self, command: Sequence[str]) -> Done:
        """Run a command here."""
        done = subprocess.run(
            command,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=COMMAND_LIMIT_S,
            check=False,
        )
        return Done(done.returncode, done.stdout, done.stderr)

    @contextmanager
    def serving(self, *command: str) -> Iterator[subprocess.Popen[bytes]]:
        """Run a command for the length of the block where the fleet's registry is."""
        enter = ["nsenter", f"--net=/run/netns/{self.name}-lan", "--"]
        process = subprocess.Popen([*enter, *command], stdin=subprocess.DEVNULL)
        try:
            yield process
        finally:
            process.kill()
            process.wait()

    def daemon(self, host: str, name: str = "agent") -> int:
        """The pid of a host's agent or controller; 0 while its keeper starts another."""
        keeper = (self.run_dir / host / f"{name}.pid").read_text().strip()
        children = Path(f"/proc/{keeper}/task/{keeper}/children").read_text().split()
        return next((int(pid) for pid in children if name.encode() in _words(pid)), 0)

    def kill(self, host: str, name: str = "agent") -> None:
        """SIGKILL a host's agent or controller."""
        if pid := self.daemon(host, name):
            os.kill(pid, signal.SIGKILL)

    def etcd(self) -> int:
        """The pid of this fleet's etcd, which may be starting."""
        data = f"/playground/{self.name}/".encode()
        found: list[int] = []

        def runs() -> bool:
            for path in Path("/proc").glob("[0-9]*"):
                words = _words(path.name)
                if words.split(b"\0")[0].endswith(b"etcd") and data in words:
                    found.append(int(path.name))
            return bool(found)

        self.until(runs, "this fleet's etcd runs")
        return found[0]

    def until(self, reached: Callable[[], object], what: str) -> None:
        """Wait until `reached()` is true."""
        deadline = time.monotonic() + PATIENCE_S
        while not reached():
            assert time.monotonic() < deadline, f"never came true: {what}\n{self._scene()}"
            time.sleep(0.1)

    def containers(self) -> set[str]:
        """The ids of all tasks whose first process lives, read from the hosts' cgroups."""
        top = "pids" if Path("/sys/fs/cgroup/pids").is_dir() else "."
        pattern = f"{top}/pyswarm-{self.name}/host*/containers/*/cgroup.procs"
        return {
            procs.parent.name
            for procs in Path("/sys/fs/cgroup").glob(pattern)
            if procs.parent.name != "monitors" and _lines(procs)
        }

    def limit(self, task_id: str, v1: str, v2: str) -> str:
        """What a task's cgroup says, by its file under v1 (`memory/memory.limit…`) or v2."""
        file = v1 if Path("/sys/fs/cgroup/memory").is_dir() else f"./{v2}"
        controller, _, name = file.partition("/")
        pattern = f"{controller}/pyswarm-{self.name}/host*/containers/{task_id}/{name}"
        (path,) = Path("/sys/fs/cgroup").glob(pattern)
        return path.read_text().strip()

    def settings(self) -> list[object]:
        """What users asked for, but for the ingress network, which comes with the first port."""
        hosts = sorted(row["Hostname"] for row in self.rows("node", "ls"))
        nodes = json.loads(self("node", "inspect", *hosts))
        networks = {row["Name"] for row in self.rows("network", "ls")} - {"ingress"}
        services = [row["Name"] for row in self.rows("service", "ls")]
        return [[(node["Spec"], node["Status"]["State"]) for node in nodes], networks, services]

    def _scene(self) -> str:
        services = self.run("service", "ls").out
        names = [line.split()[1] for line in services.splitlines()[1:]]
        tasks = [self.run("service", "ps", name, "--no-trunc").out for name in names]
        return "\n".join([services, *tasks, self.run("node", "ls").out])


def _words(pid: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().split()
    except (FileNotFoundError, OSError):
        return []


@contextmanager
def playground(home: Path, nodes: int = 3, *more: str, **own: str) -> Iterator[Fleet]:
    """A fleet with the image web:1; nothing is left of it afterwards.

    `own` is environment, of which agents take their settings: PYSWARM_AGENT_LOG_MAX_SIZE.
    """
    fleet = Fleet(f"e{leaks.run_name()}{uuid.uuid4().hex}"[:11], home, **own)
    try:
        fleet("playground", "up", "--name", fleet.name, "--nodes", str(nodes), *more)
        context = home / "image"
        subprocess.run([ROOT / "examples/web/context", context], check=True, timeout=120)
        fleet("image", "build", "-t", IMAGE, str(context))
        yield fleet
    finally:
        fleet.run("playground", "down", "--name", fleet.name)
