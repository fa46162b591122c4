"""Byte streams: the throughput of `exec` beside a plain gRPC stream, and the time of `exec true`.

A byte stream passes the controller: over TLS from the agent's host to the controller's, over a Unix
socket from there to the CLI, which writes to a pipe. Four processes, three of them Python, share
the processors. The plain stream (`bench/plain.py`) takes the first of these ways, between the same
two hosts, with TLS and messages as large as the largest frame.
"""

import os
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from statistics import median
from typing import TYPE_CHECKING, NamedTuple, cast

import msgspec

from bench import machine, plain
from bench.fleet import Fleet, playground, service
from bench.report import Figure
from cli.daemons import entering
from pyswarm_core.specs import Resources, ServiceSpec
from pyswarm_core.streams.limits import STREAM_FRAME_BYTES

if TYPE_CHECKING:
    from io import BufferedReader

_HOST = "host2"
_MIB = 1 << 20
_PROCESSES = ("command", "agent", "controller", "CLI")


def measure(quick: bool) -> Iterable[Figure]:
    """Both in turns on one playground."""
    size, rounds, times = (256 * _MIB, 1, 3) if quick else (1024 * _MIB, 3, 30)
    with playground() as fleet:
        created = fleet.create(_unlimited(service("box", 1, host=_HOST)))
        (replica,) = fleet.replicas(created)
        yield from _throughput(fleet, size, rounds)
        yield _time(fleet, replica.task, times)


def _unlimited(spec: ServiceSpec) -> ServiceSpec:
    """The same without limits, which would be the command's as well."""
    template = msgspec.structs.replace(spec.task_template, resources=Resources())
    return msgspec.structs.replace(spec, task_template=template)


def _throughput(fleet: Fleet, size: int, rounds: int) -> Iterable[Figure]:
    ends = [_side(fleet, _HOST), _side(fleet, fleet.plan.hosts[0].name)]
    pairs = [
        (plain.stream(size, STREAM_FRAME_BYTES, *ends), _exec(fleet, size)) for _ in range(rounds)
    ]
    rates = [(peer.rate / _MIB, ours.rate / _MIB) for peer, ours in pairs]
    theirs, own = map(median, zip(*rates, strict=True))
    yield Figure(
        "exec's output, over a plain gRPC stream with TLS",
        median(ours / peer for peer, ours in rates),
        "x",
        0.5,
        True,
        note=f"{own:.0f} MiB/s, plain {theirs:.0f} MiB/s, messages of"
        f" {STREAM_FRAME_BYTES >> 10} KiB",
    )
    mib = size / _MIB
    each = {name: 1e3 * median(ours.cpu_s[name] for _, ours in pairs) / mib for name in _PROCESSES}
    peer_ms = 1e3 * median(peer.cpu_s for peer, _ in pairs) / mib
    yield Figure(
        "exec's output: processor time of a MiB, over the plain stream's",
        sum(each.values()) / peer_ms,
        "x",
        note=", ".join(f"{name} {ms:.2f} ms" for name, ms in each.items())
        + f"; both ends of the plain stream {peer_ms:.2f} ms",
    )


def _side(fleet: Fleet, name: str) -> plain.Side:
    host = fleet.plan.host(name)
    return plain.Side(entering(host.netns_path, None), host.address)


class _Copied(NamedTuple):
    """The speed of a command's output."""

    rate: float
    """Bytes per second, without the time until its first byte."""
    cpu_s: dict[str, float]
    """Processor seconds by process; the CLI's with its start, the container's writing it."""


def _exec(fleet: Fleet, size: int) -> _Copied:
    count = f"count={size // _MIB + 1}"
    words = pyswarm_words(
        fleet, "exec", "box", "/bin/busybox", "dd", "if=/dev/zero", "bs=1M", count
    )
    pids = {"agent": fleet.agent_pid(_HOST), "controller": fleet.controller_pid()}
    containers = f"{fleet.plan.host(_HOST).cgroup}/containers"
    used = {name: machine.process_cpu_s(pid) for name, pid in pids.items()}
    used["command"] = machine.cpu_seconds(containers)
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        output = cast("BufferedReader", process.stdout)
        output.read(_MIB)
        began, left = time.perf_counter(), size
        while part := output.read1(_MIB):
            left -= len(part)
        took = time.perf_counter() - began
        _, status, cli = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    assert (process.returncode, left) == (0, 0)
    after = {name: machine.process_cpu_s(pid) for name, pid in pids.items()}
    after["command"] = machine.cpu_seconds(containers)
    cpu_s = {name: after[name] - used[name] for name in after}
    return _Copied(size / took, {**cpu_s, "CLI": cli.ru_utime + cli.ru_stime})


def _time(fleet: Fleet, task: str, times: int) -> Figure:
    host = fleet.plan.host(_HOST)
    crun = ["crun", "--root", f"{host.run_dir}/oci", "exec", task, "/bin/busybox", "true"]
    bare = _wall_ms([*entering(host.netns_path, host.mountns_path), *crun], times)
    entered = _wall_ms([*entering(host.netns_path, host.mountns_path), "/bin/true"], times)
    imports = "import os, cli.main, cli.client, cli.container.exec, cli.streams.program"
    start = _wall_ms([sys.executable, "-P", "-c", f"{imports}; os._exit(0)"], times)
    ours = _wall_ms(pyswarm_words(fleet, "exec", "box", "/bin/busybox", "true"), times)
    return Figure(
        "exec true: wall time above the CLI's start",
        ours - start,
        "ms",
        1.5 * (bare - entered) + 30,
        note=f"{ours:.0f} ms with the start's {start:.0f} ms; crun exec {bare - entered:.0f} ms",
    )


def _wall_ms(words: Sequence[str], times: int) -> float:
    found = []
    for _ in range(times):
        began = time.perf_counter()
        subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
        found.append(1e3 * (time.perf_counter() - began))
    return median(found)


def pyswarm_words(fleet: Fleet, *words: str) -> list[str]:
    """The command line of the CLI, without the start of its script."""
    start = "from cli.start import main; main()"
    return [sys.executable, "-P", "-c", start, "--host", fleet.client.host, *words]
