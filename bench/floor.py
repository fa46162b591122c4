"""`python -m bench.floor ROOTFS`: the rate at which the machine starts containers, without a
scheduler.

SHELL. Each container has an overlay mount, a network namespace with a veth pair on a bridge,
limits, conmon and crun; several are started at once. There is no image, record, seccomp filter,
tunnel or store. Runs in its own namespaces and cgroup, removes everything and prints one JSON
object.
"""

import argparse
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from agent.network import message
from agent.network.names import task_mac
from agent.network.netlink import Netlink
from agent.network.netns import Namespaces
from agent.network.state import Link, Route
from agent.runtime import mounts
from bench import machine
from bench.image import PROGRAM

CGROUP = "pyswarm-floor"
BRIDGE = "floor"
_GATEWAY = "10.97.0.1"
_INDEX = 64
_WIDTHS = (2, 4, 8)


class Floor(NamedTuple):
    """The result at the best parallelism."""

    rate: float
    """Containers started per second."""
    cpu_s: float
    """Processor seconds per container."""
    width: int


def run(rootfs: Path, count: int) -> Floor:
    """Measure in a separate process. Raises CalledProcessError."""
    enter = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    words = [*enter, sys.executable, "-m", "bench.floor", str(rootfs), "--count", str(count)]
    try:
        done = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True, timeout=120)
    finally:
        _remove_cgroups()
    return Floor(*json.loads(done.stdout))


class _Maker:
    """Starts containers below one directory."""

    def __init__(self, rootfs: Path, base: Path) -> None:
        self._rootfs = rootfs
        self._base = base
        self._namespaces = Namespaces(base / "netns")
        self._local = threading.local()
        (base / "exits").mkdir()
        subprocess.run(["crun", "spec"], cwd=base, check=True)
        self._spec = json.loads((base / "config.json").read_bytes())
        self._crun = ["crun", "--root", f"{base}/crun"]

    def start(self, number: int) -> None:
        """Create and start a container."""
        name = f"f{number}"
        bundle = self._base / name
        for part in ("upper", "work", "rootfs"):
            (bundle / part).mkdir(parents=True)
        mounts.mount_overlay([str(self._rootfs)], bundle, bundle / "rootfs")
        self._connect(name, f"10.97.{1 + number // 250}.{1 + number % 250}")
        (bundle / "config.json").write_text(json.dumps(self._config(name)))
        self._create(name, bundle)
        subprocess.run([*self._crun, "start", name], check=True)

    def stop(self, number: int) -> None:
        """Remove a container; its bundle is removed at the end."""
        name = f"f{number}"
        subprocess.run([*self._crun, "delete", "--force", name], check=True)
        mounts.unmount(self._base / name / "rootfs")
        self._namespaces.drop(name)

    def _connect(self, name: str, address: str) -> None:
        if not hasattr(self._local, "host"):
            self._local.host = Netlink()
        with self._namespaces.new() as (descriptor, inside):
            inside.apply(
                [
                    message.up(1),
                    message.make_veth(
                        Link(name="eth0", mac=task_mac(address), mtu=1450),
                        _INDEX,
                        Link(name=name, kind="veth", mtu=1450),
                        self._namespaces.host,
                    ),
                    message.up(_INDEX),
                    message.inside_address(_INDEX, f"{address}/16"),
                    message.route(_INDEX, Route(dst="0.0.0.0/0", device="eth0", via=_GATEWAY)),
                ]
            )
            self._namespaces.keep(name, descriptor)
        bridge = socket.if_nametoindex(BRIDGE)
        self._local.host.apply([message.plug_in(name, bridge)])

    def _config(self, name: str) -> dict[str, Any]:
        linux = self._spec["linux"]
        network = {"type": "network", "path": str(self._namespaces.path(name))}
        others = [n for n in linux["namespaces"] if n["type"] != "network"]
        limits = {
            "memory": {"limit": 64 << 20},
            "cpu": {"quota": 50_000, "period": 100_000},
            "pids": {"limit": 100},
        }
        return {
            **self._spec,
            "process": {**self._spec["process"], "args": [*PROGRAM], "terminal": False},
            "root": {"path": "rootfs"},
            "linux": {
                **linux,
                "namespaces": [*others, network],
                "resources": limits,
                "cgroupsPath": f"/{CGROUP}/{name}",
            },
        }

    def _create(self, name: str, bundle: Path) -> None:
        read, write = os.pipe()
        words = ["conmon", "--api-version", "1", "-c", name, "-u", name, "-n", name]
        words += ["-r", shutil.which("crun") or "crun", "--full-attach"]
        words += ["--runtime-arg", "--root", "--runtime-arg", f"{self._base}/crun"]
        words += ["-b", str(bundle), "-p", f"{bundle}/pid", "--exit-dir", f"{self._base}/exits"]
        words += ["-l", f"k8s-file:{bundle}/log"]
        environment = {"PATH": os.environ["PATH"], "_OCI_SYNCPIPE": str(write)}
        with subprocess.Popen(
            words, stdin=subprocess.DEVNULL, pass_fds=(write,), env=environment, cwd=bundle
        ):
            os.close(write)
            with os.fdopen(read) as pipe:
                said = pipe.readline()
        if json.loads(said or "{}").get("data", -1) <= 0:
            raise RuntimeError(f"crun did not create {name}: {said!r}")


def _measure(rootfs: Path, base: Path, count: int, width: int) -> Floor:
    base.mkdir()
    maker = _Maker(rootfs, base)
    began, used = time.monotonic(), machine.cpu_seconds(CGROUP)
    with ThreadPoolExecutor(width) as pool:
        list(pool.map(maker.start, range(count)))
        took, cost = time.monotonic() - began, machine.cpu_seconds(CGROUP) - used
        list(pool.map(maker.stop, range(count)))
    return Floor(count / took, cost / count, width)


def _remove_cgroups() -> None:
    for row in Path("/proc/self/mounts").read_text().splitlines():
        _, target, kind, *_ = row.split()
        if kind.startswith("cgroup"):
            top = Path(target) / CGROUP
            for directory in sorted(top.glob("**/"), key=lambda p: -len(p.parts)):
                directory.rmdir()


def main() -> None:
    """Measure each width once and print the best."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rootfs", type=Path)
    parser.add_argument("--count", type=int, default=50)
    given = parser.parse_args()
    workers = machine.unified_root() / CGROUP / "workers"
    workers.mkdir(parents=True, exist_ok=True)
    (workers / "cgroup.procs").write_text(str(os.getpid()))
    batch = f"link add {BRIDGE} type bridge\naddr add {_GATEWAY}/16 dev {BRIDGE}\n"
    batch += f"link set {BRIDGE} up\n"
    subprocess.run(["ip", "-batch", "-"], input=batch, text=True, check=True)
    with tempfile.TemporaryDirectory(dir=given.rootfs.parent) as base:
        each = (_measure(given.rootfs, Path(base) / str(w), given.count, w) for w in _WIDTHS)
        print(json.dumps(max(each)))


if __name__ == "__main__":
    main()
