"""Logs: the processor time of each program per line, and the time of a whole log beside `cat`.

A container writes lines of a hundred bytes, as fast as it can. Its host's agent and the leader's
controller run on other hosts.
"""

import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

import msgspec

from bench.fleet import Fleet, playground, service, wait_until
from bench.report import Figure
from cli import daemons
from pyswarm_core.specs import Resources, ServiceSpec

_HOST = "host2"
_TEXT = (
    "a line of about a hundred bytes, as web servers write one for each of their requests: 200 OK"
)
_END = "the end"
_TICKS = os.sysconf("SC_CLK_TCK")


def measure(quick: bool) -> Iterable[Figure]:
    """One container's log, read in several ways."""
    count = 100_000 if quick else 1_000_000
    os.environ["PYSWARM_AGENT_LOG_MAX_SIZE"] = str(4 << 30)
    with playground() as fleet:
        created = fleet.create(_writes(service("talk", 1, host=_HOST), count))
        wait_until(lambda: _logs(fleet, "--tail", "1") == f"{_END}\n".encode())
        (replica,) = fleet.replicas(created)
        log = fleet.plan.host(_HOST).state_dir / "logs" / replica.task
        began = time.perf_counter()
        subprocess.run(["cat", log], check=True, stdout=subprocess.DEVNULL)
        cat_s = time.perf_counter() - began
        yield from _figures(fleet, count, cat_s, "logs")
        yield from _figures(fleet, count, cat_s, "logs --grep of nothing", "--grep", "nothing")


def _writes(spec: ServiceSpec, count: int) -> ServiceSpec:
    """The same, but it writes lines, without limits."""
    script = f"yes '{_TEXT}' | head -n {count}; echo {_END}; exec sleep 1000000"
    template = spec.task_template
    container = msgspec.structs.replace(
        template.container_spec, command=("/bin/busybox", "sh", "-c", script)
    )
    template = msgspec.structs.replace(template, container_spec=container, resources=Resources())
    return msgspec.structs.replace(spec, task_template=template)


def _figures(fleet: Fleet, count: int, cat_s: float, name: str, *flags: str) -> Iterable[Figure]:
    controllers = daemons.daemon_pids(fleet.plan.host("host1").run_dir / "controller.pid")
    pids = {"agent": fleet.agent_pid(_HOST), "controller": controllers[0]}
    before = {program: _cpu_s(pid) for program, pid in pids.items()}
    cli_before, began = _children_s(), time.perf_counter()
    _logs(fleet, *flags)
    took_s = time.perf_counter() - began
    used = {program: _cpu_s(pid) - before[program] for program, pid in pids.items()}
    used["CLI"] = _children_s() - cli_before
    yield Figure(f"{name}: {count:,} lines", took_s, "s", note=f"cat {cat_s:.2f} s")
    for program, seconds in used.items():
        yield Figure(f"{name}: {program}, per line", 1e6 * seconds / count, "us")


def _logs(fleet: Fleet, *flags: str) -> bytes:
    start = "from cli.start import main; main()"
    words = [sys.executable, "-P", "-c", start, "--host", fleet.client.host, "service", "logs"]
    return subprocess.run(
        [*words, "--raw", *flags, "talk"], check=True, stdout=subprocess.PIPE
    ).stdout


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def _children_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
