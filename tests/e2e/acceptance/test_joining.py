"""`swarm init`, `join` and `leave` as on real hosts, without the playground.

A host is a network, mount and process namespace with a /run, /etc/pyswarm and state of its own.
"""

import json
import os
import re
import shutil
import subprocess
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from cli.playground import cgroups
from tests.e2e.acceptance.fleet import COMMAND_LIMIT_S, PATIENCE_S, PYSWARM, ROOT
from tests.fixtures.commands import Done

REGISTRY = "10.98.0.1:5000"
IMAGE = f"{REGISTRY}/web:1"
BOOT = """
mount -t tmpfs run /run
mkdir -p /etc/pyswarm && mount -t tmpfs etc /etc/pyswarm
printf 'insecure-registry: [10.98.0.1:5000]\nhostname: host%s\n' "$2" > /etc/pyswarm/agent.yaml
mount --bind "$1" /var/lib/pyswarm
touch /run/booted; exec sleep infinity
"""


class Host:
    """One host; `pid` is its init, as seen from here."""

    def __init__(self, number: int, state: Path, pid: int) -> None:
        self.address = f"10.98.0.{number}"
        self.state = state
        self._pid = pid

    def run(self, *command: str) -> Done:
        """Run a command there."""
        enter = ["nsenter", "-t", str(self._pid), "--net", "--mount", "--pid", "--"]
        environment = {**os.environ, "XDG_CONFIG_HOME": str(self.state / "config")}
        environment["XDG_CACHE_HOME"] = str(self.state / "cache")
        done = subprocess.run(
            [*enter, *command], env=environment, capture_output=True, text=True,
            timeout=COMMAND_LIMIT_S, stdin=subprocess.DEVNULL, check=False,
        )  # fmt: skip
        return Done(done.returncode, done.stdout, done.stderr)

    def __call__(self, *words: str) -> str:
        """Run `pyswarm WORDS` there, which must succeed; what it printed."""
        done = self.run(str(PYSWARM), *words)
        assert done.code == 0, f"pyswarm {' '.join(words)}: exit {done.code}\n{done.err}{done.out}"
        return done.out.strip()

    def refused(self, *words: str) -> str:
        """Run `pyswarm WORDS` there, which must be refused; what it said."""
        done = self.run(str(PYSWARM), *words)
        assert done.code in (1, 2), f"pyswarm {' '.join(words)} was not refused: {done}"
        return done.err

    def processes(self) -> list[str]:
        """The command lines of everything that runs there, its init left out."""
        lines = self.run("ps", "-eo", "pid=,args=").out.splitlines()
        own = ("sleep infinity", "ps -eo", "<defunct>")
        return [line for line in lines if not any(word in line for word in own)]


@contextmanager
def booted(name: str, number: int, state: Path) -> Iterator[Host]:
    """A host that is on; everything of it ends with the block."""
    state.mkdir(parents=True)
    unshare = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    enter = ["nsenter", f"--net=/run/netns/{name}"]
    holder = subprocess.Popen(
        [*enter, *unshare, "sh", "-ec", BOOT, "boot", str(state), str(number)]
    )
    try:
        children = Path(f"/proc/{holder.pid}/task/{holder.pid}/children")
        until(lambda: children.read_text().split(), "its init runs")
        host = Host(number, state, int(children.read_text().split()[0]))
        until(lambda: host.run("test", "-e", "/run/booted").code == 0, "it has booted")
        yield host
    finally:
        holder.kill()
        holder.wait()


def until(reached: "object", what: str) -> None:
    """Wait until `reached()` is true."""
    assert callable(reached)
    deadline = time.monotonic() + PATIENCE_S
    while not reached():
        assert time.monotonic() < deadline, f"never came true: {what}"
        time.sleep(0.1)


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Host, Host]]:
    """Two hosts on one cable; a registry runs on the first."""
    home = tmp_path_factory.mktemp("hosts")
    run = f"j{uuid.uuid4().hex[:6]}"
    names = [f"{run}-{number}" for number in (1, 2)]
    with ExitStack() as stack:
        if not any((root / "pyswarm").exists() for root in cgroups.roots()):
            stack.callback(cgroups.remove, "/pyswarm")  # an agent's default, which it leaves
        for name in names:
            subprocess.run(["ip", "netns", "add", name], check=True)
            stack.callback(subprocess.run, ["ip", "netns", "delete", name], check=False)
        one, two = names
        ip("-n", one, "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", two)
        for number, name in enumerate(names, 1):
            ip("-n", name, "link", "set", "lo", "up")
            ip("-n", name, "address", "add", f"10.98.0.{number}/24", "dev", "eth0")
            ip("-n", name, "link", "set", "eth0", "up")
            ip("-n", name, "route", "add", "default", "via", f"10.98.0.{3 - number}")
        found = [
            stack.enter_context(booted(name, number, home / name))
            for number, name in enumerate(names, 1)
        ]
        serve_registry(stack, one, home)
        yield found[0], found[1]


def ip(*words: str) -> None:
    """Run iproute2."""
    subprocess.run(["ip", *words], check=True, capture_output=True)


def serve_registry(stack: ExitStack, netns: str, home: Path) -> None:
    """A registry with the example image, on the first host."""
    config = {
        "version": "0.1",
        "log": {"level": "error", "accesslog": {"disabled": True}},
        "storage": {"filesystem": {"rootdirectory": str(home / "registry")}},
        "http": {"addr": REGISTRY},
    }
    (home / "registry.json").write_text(json.dumps(config))
    binary = shutil.which("docker-registry") or shutil.which("registry") or "docker-registry"
    enter = ["nsenter", f"--net=/run/netns/{netns}", "env", "OTEL_TRACES_EXPORTER=none"]
    process = subprocess.Popen([*enter, binary, "serve", str(home / "registry.json")])
    stack.callback(process.wait)
    stack.callback(process.kill)
    subprocess.run([ROOT / "examples/web/context", home / "image"], check=True, timeout=120)
    storage = ["--root", str(home / "b"), "--runroot", str(home / "br")]
    buildah = ["nsenter", f"--net=/run/netns/{netns}", "buildah", *storage]
    build = [
        *buildah,
        "build",
        "--quiet",
        "--isolation",
        "chroot",
        "-t",
        IMAGE,
        str(home / "image"),
    ]
    subprocess.run(build, check=True, capture_output=True)
    push = [*buildah, "push", "--quiet", "--tls-verify=false", IMAGE, f"docker://{IMAGE}"]
    until(lambda: subprocess.run(push, capture_output=True).returncode == 0, "it is pushed")
    shutil.rmtree(home / "b", ignore_errors=True)


def test_two_hosts_become_a_fleet_and_part_again(hosts: tuple[Host, Host]) -> None:
    one, two = hosts
    told = one("swarm", "init", "--advertise-addr", one.address)
    words = re.search(r"pyswarm (swarm join --token \S+ 10\.98\.0\.1:2377)", told)
    assert words, told
    assert "already part of a fleet" in one.refused("swarm", "init")
    archive = str(one.state / "admin.pyswarmcontext")
    assert "pyswarm context export admin" in told
    assert one("context", "show") == "default"
    one("context", "export", "admin", archive)
    two("context", "import", "admin", archive)
    assert two("-c", "admin", "user", "ls", "--format", "{{.Name}} {{.Role}}") == "admin admin"
    join = words[1].split()
    two(*join, "--advertise-addr", two.address)
    assert not [line for host in hosts for line in host.processes() if join[3] in line]
    assert "already part of a fleet" in two.refused(*join)
    until(lambda: [row["Status"] for row in rows(one, "node", "ls")] == ["Ready"] * 2, "both are")
    before = certificate(two)
    assert two("swarm", "rejoin", *join[2:]) == "This node has a new certificate."
    assert certificate(two) != before
    one("network", "create", "-d", "overlay", "app")
    one("service", "create", "--name", "web", "--mode", "global", "-d", "--network", "app", IMAGE)
    until(lambda: len(running(one)) == 2, "it runs on both")
    assert "--force" in one.refused("swarm", "leave")

    two("swarm", "leave")
    assert two.processes() == []
    assert not (two.state / "agent/identity.json").exists()
    two(*join, "--advertise-addr", two.address)
    until(
        lambda: [row["Status"] for row in rows(one, "node", "ls")] == ["Ready", "Down", "Ready"],
        "it is back as another node",
    )
    (gone,) = (row["ID"] for row in rows(one, "node", "ls") if row["Status"] == "Down")
    one("node", "rm", gone.rstrip(" *"))
    until(lambda: len(running(one)) == 2, "it runs on both again")

    two("swarm", "leave")
    one("swarm", "leave", "--force")
    assert one.processes() == []
    assert not (one.state / "controller").exists()
    assert one("context", "ls", "-q") == "default"
    assert "not part of a swarm" in one.refused("swarm", "leave")


def certificate(host: Host) -> object:
    """The certificate in the agent's identity file."""
    identity = json.loads((host.state / "agent/identity.json").read_text())
    return identity["certificate"]["chain"]


def rows(host: Host, *words: str) -> list[dict[str, str]]:
    """The rows of a list command."""
    return [json.loads(line) for line in host(*words, "--format", "json").splitlines()]


def running(host: Host) -> list[dict[str, str]]:
    """The service's tasks that run."""
    tasks = rows(host, "service", "ps", "web", "--filter", "desired-state=running")
    return [task for task in tasks if task["CurrentState"].startswith("Running")]
