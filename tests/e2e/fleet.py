"""A playground of its own for tests, driven by the real command line."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from cli import daemons
from cli.playground import cgroups
from cli.playground import fleet as plan
from tests.conftest import FACTOR
from tests.e2e.cli import ROOT, Cli

T = TypeVar("T")

IMAGE = "web:1"
WAIT_S = 30.0
POLL_S = 0.1
FLAGS = ("--restart-delay", "200ms", "--stop-grace-period", "1s")
"""Short waits for every service of a test; a flag that is given again wins."""


class Task(msgspec.Struct, frozen=True):
    """A task as `task inspect` shows it."""

    id: str
    name: str
    slot: int
    node: str
    state: str
    desired: str
    message: str
    error: str
    pid: int
    exit_code: int
    oom: bool
    addresses: tuple[str, ...]

    @property
    def address(self) -> str:
        return self.addresses[0]

    @property
    def is_running(self) -> bool:
        return self.state == "running" and self.desired == "running"


def _task(found: dict[str, Any]) -> Task:
    status = found["Status"]
    container = status.get("ContainerStatus", {})
    attachments = found.get("NetworksAttachments", [])
    return Task(
        id=found["ID"],
        name=found["Name"],
        slot=found.get("Slot", 0),
        node=found.get("NodeName", ""),
        state=status["State"],
        desired=found["DesiredState"],
        message=status.get("Message", ""),
        error=status.get("Err", ""),
        pid=container.get("PID", 0),
        exit_code=container.get("ExitCode", 0),
        oom=status.get("OOM", False),
        addresses=tuple(a for each in attachments for a in each["Addresses"]),
    )


class Fleet:
    """A playground that is up: `cli` talks to it, the rest is what a person at it could do."""

    def __init__(self, name: str, cli: Cli, nodes: int) -> None:
        self.name = name
        self.cli = cli
        self.plan = plan.Fleet(name=name, nodes=nodes)

    # ---- services and their tasks

    def create(self, name: str, *words: str, image: str = IMAGE) -> None:
        """`service create`, waited for; `words` are flags, and after `--` a command."""
        flags, command = _split(words)
        self.cli.run("service", "create", "--name", name, *FLAGS, *flags, image, *command)

    def submit(self, name: str, *words: str, image: str = IMAGE) -> None:
        """`service create --detach`."""
        self.create(name, "--detach", *words, image=image)

    def tasks(self, service: str) -> list[Task]:
        """All tasks of the service, past ones too; none if the service is gone."""
        ids = self.cli.lines("service", "ps", "-q", "--no-trunc", service)
        if not ids:
            return []
        done = self.cli.run("task", "inspect", *ids, check=False)
        # One of them may have been forgotten meanwhile.
        return list(map(_task, msgspec.json.decode(done.out))) if not done.code else []

    def running(self, service: str) -> list[Task]:
        """The tasks that run and should."""
        return [task for task in self.tasks(service) if task.is_running]

    def until_running(self, service: str, count: int, *, on: str = "") -> list[Task]:
        """Exactly `count` tasks running (on one host, if named) and none beyond them wanted."""

        def settled() -> list[Task] | None:
            tasks = [task for task in self.tasks(service) if not on or task.node == on]
            wanted = [task for task in tasks if task.desired in ("ready", "running")]
            live = [task for task in wanted if task.is_running]
            return live if len(live) == len(wanted) == count else None

        if not count:
            self.until(lambda: settled() is not None, f"no task of {service}")
            return []
        return self.until(settled, f"{count} running tasks of {service}")

    def one(self, service: str) -> Task:
        """The only running task."""
        return self.until_running(service, 1)[0]

    def until_ended(self, service: str, state: str) -> Task:
        """The first task of the service seen in that final state."""

        def ended() -> Task | None:
            return next((t for t in self.tasks(service) if t.state == state), None)

        return self.until(ended, f"a task of {service} that is {state}")

    def logs(self, service: str, *flags: str) -> list[str]:
        """What its tasks wrote, without the names of those who wrote it."""
        return self.cli.lines("service", "logs", "--raw", *flags, service)

    # ---- inside

    def inside(self, task: Task, *command: str, check: bool = True) -> str:
        """Run a command of the task's image in its namespaces."""
        words = ["nsenter", f"--target={task.pid}", "--all", "--", *command]
        return _output(words, check=check)

    def on_host(self, host: str, *command: str, check: bool = True) -> str:
        """Run a command in the host's network namespace."""
        words = ["nsenter", f"--net={self.plan.host(host).netns_path}", "--", *command]
        return _output(words, check=check)

    def overlay_links(self, host: str) -> set[str]:
        """The VXLAN devices on the host."""
        shown = self.on_host(host, "ip", "-o", "link", "show", "type", "vxlan")
        return {line.split(": ")[1] for line in shown.splitlines()}

    def containers(self, host: str = "") -> dict[str, set[int]]:
        """Who really runs, by container id, whatever the fleet believes."""
        hosts = [self.plan.host(host)] if host else self.plan.hosts
        found: dict[str, set[int]] = {}
        for each in hosts:
            for root in cgroups.roots():
                for group in (root / each.cgroup.lstrip("/") / "containers").glob("*/"):
                    if pids := _pids(group):
                        found.setdefault(group.name.partition(".")[0], set()).update(pids)
        return found

    # ---- daemons

    def agent_pid(self, host: str) -> int:
        """The agent that runs now; 0 between two."""
        pids = daemons.daemon_pids(self.plan.host(host).run_dir / "agent.pid")
        return pids[0] if pids else 0

    def controller_pid(self) -> int:
        """The controller that runs now; 0 between two."""
        pids = daemons.daemon_pids(self.plan.hosts[0].run_dir / "controller.pid")
        return pids[0] if pids else 0

    def etcd_pid(self) -> int:
        """The etcd that runs now; 0 between two."""
        data = f"--data-dir={self.plan.state_dir}/"
        for pid in cgroups.processes(self.plan.hosts[0].cgroup):
            words = _command(pid).split("\0")
            if words[0].endswith("etcd") and any(word.startswith(data) for word in words):
                return pid
        return 0

    def restart_agent(self, host: str) -> None:
        """SIGKILL the agent and wait for the next one."""
        self._replace(lambda: self.agent_pid(host))
        self.until(lambda: self.node(host)["Status"] == "Ready", f"{host} ready")

    def restart_controller(self) -> None:
        """SIGKILL the controller and wait until the next one leads."""
        self._replace(self.controller_pid)
        self.until(lambda: not self.cli.run("node", "ls", check=False).code, "a leader")

    def stop_agent(self, host: str) -> None:
        """SIGKILL keeper and agent; `start_agent` undoes it."""
        pid_file = self.plan.host(host).run_dir / "agent.pid"
        keeper, agent = daemons.keeper_of(pid_file), self.agent_pid(host)
        daemons.kill([keeper, agent])
        daemons.wait_gone([keeper, agent], WAIT_S)

    def start_agent(self, host: str) -> None:
        """Start it as the playground does."""
        from cli.playground import power

        daemons.start(power.agent(self.plan, self.plan.host(host), ""))
        self.until(lambda: self.agent_pid(host), f"an agent on {host}")

    def _replace(self, current: Callable[[], int]) -> None:
        old = self.until(current, "a daemon to kill")
        os.kill(old, signal.SIGKILL)
        self.until(lambda: current() not in (0, old), "the daemon's successor")

    def node(self, host: str) -> dict[str, Any]:
        """The host's row of `node ls`."""
        return next(row for row in self.cli.rows("node", "ls") if row["Hostname"] == host)

    @contextmanager
    def stopped(self, pid: int) -> Iterator[None]:
        """SIGSTOP a process for a while."""
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(pid, signal.SIGCONT)

    # ---- the rest

    def until(self, condition: Callable[[], T | None], what: str, wait_s: float = WAIT_S) -> T:
        """What the condition returns once it is true. Fails with the fleet's own words."""
        deadline = time.monotonic() + wait_s * FACTOR
        while True:
            if value := condition():
                return value
            if time.monotonic() > deadline:
                raise AssertionError(f"waited {wait_s} s for {what}\n{self.story()}")
            time.sleep(POLL_S)

    def story(self) -> str:
        """Nodes, tasks and the ends of the logs, for whoever reads a failure."""
        shown = [self.cli.run("node", "ls", check=False).out]
        names = self.cli.run("service", "ls", "--format", "{{.Name}}", check=False).out.split()
        for name in names:
            shown.append(self.cli.run("service", "ps", "--no-trunc", name, check=False).out)
        for log in sorted(self.plan.run_dir.glob("*/*.log")):
            tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
            shown.append(f"---- {log}\n{tail}")
        return "\n".join(shown)

    def clear(self) -> None:
        """Remove every service and network, make every node active."""
        if names := self.cli.lines("service", "ls", "-q"):
            self.cli.run("service", "rm", *names)
        networks = self.cli.rows("network", "ls")
        if names := [row["ID"] for row in networks if row["Driver"] == "overlay"]:
            self.cli.run("network", "rm", *names)
        for row in self.cli.rows("node", "ls"):
            if row["Availability"] != "Active":
                self.cli.run("node", "update", "--availability", "active", row["Hostname"])

    def build(self, tag: str, directory: Path) -> None:
        """Build an image and push it to the playground's registry."""
        self.cli.run("image", "build", "-q", "-t", tag, str(directory))

    def left(self) -> list[str]:
        """What there still is of the playground on this machine."""
        mounts = Path("/proc/self/mounts").read_text().splitlines()
        folders = (self.plan.state_dir, self.plan.run_dir)
        netns = Path("/run/netns")
        names = [entry.name for entry in netns.iterdir()] if netns.is_dir() else []
        return [
            *(str(folder) for folder in folders if folder.exists()),
            *(line for line in mounts if any(f"{folder}/" in line for folder in folders)),
            *(name for name in names if name.startswith(f"{self.name}-")),
            *(str(r / self.plan.cgroup[1:]) for r in cgroups.roots() if self._group(r).exists()),
            *_processes(f"/playground/{self.name}/"),
        ]

    def _group(self, root: Path) -> Path:
        return root / self.plan.cgroup.lstrip("/")


def up(cli: Cli, name: str, nodes: int, *flags: str) -> Fleet:
    """`playground up`, and the example image in its registry."""
    fleet = Fleet(name, cli, nodes)
    cli.run("playground", "up", "--name", name, "--nodes", str(nodes), *flags)
    return fleet


def example(directory: Path) -> Path:
    """A build context of the example image."""
    subprocess.run([str(ROOT / "examples/web/context"), str(directory)], check=True)
    return directory


def _split(words: tuple[str, ...]) -> tuple[list[str], list[str]]:
    if "--" not in words:
        return list(words), []
    at = words.index("--")
    return list(words[:at]), list(words[at + 1 :])


def _output(words: list[str], *, check: bool) -> str:
    done = subprocess.run(
        words, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=20, check=False
    )
    assert not check or not done.returncode, f"{words}: {done.stdout}{done.stderr}"
    return done.stdout


def _pids(group: Path) -> set[int]:
    pids: set[int] = set()
    for file in group.rglob("cgroup.procs"):
        try:
            pids.update(map(int, file.read_text().split()))
        except OSError:
            continue
    return pids


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return ""


def _processes(mark: str) -> list[str]:
    pids = (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())
    return [f"process {pid}" for pid in pids if pid != os.getpid() and mark in _command(pid)]
