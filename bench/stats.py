"""The cost of `stats` and of a scrape, with a hundred containers on one host.

The floor is `cat` of the same files of the containers' cgroups, without its start.
"""

import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from statistics import median
from tempfile import TemporaryFile

from agent.runtime import cgroups
from agent.runtime.usage import parsing
from bench import machine
from bench.fleet import Fleet, playground, service
from bench.report import Figure
from cli.playground.scraping import Scraper
from pyswarm_core.limits import AGENT_METRICS_PORT

_HOST = "host1"


def measure(quick: bool) -> Iterable[Figure]:
    """A stream of all containers, then scrapes."""
    replicas, seconds, scrapes = (5, 3, 3) if quick else (100, 20, 20)
    with playground(1) as fleet:
        created = fleet.create(service("many", replicas, host=_HOST))
        time.sleep(3)
        floor_s = _floor_s(_files(fleet), 3 if quick else 20) / replicas
        yield from _stream(fleet, replicas, seconds, floor_s)
        yield from _scrapes(fleet, replicas, scrapes)
        resident = machine.resident_mib(fleet.agent_pid(_HOST))
        yield Figure(f"agent with {replicas} containers after both, resident", resident, "MiB", 60)
        fleet.remove(created)


def _stream(fleet: Fleet, replicas: int, seconds: int, floor_s: float) -> Iterable[Figure]:
    idle_agent, idle_fleet = _used(fleet, lambda: time.sleep(seconds))
    samples, cli_s = 0, 0.0

    def watch() -> None:
        nonlocal samples, cli_s
        samples, cli_s = _watch(seconds)

    agent_s, fleet_s = _used(fleet, watch)
    each_s = (agent_s - idle_agent) / (samples * replicas)
    yield Figure(
        f"stats of {replicas} containers: agent's time per container and sample",
        1e3 * each_s,
        "ms",
        0.3,
        note=f"{samples} samples",
    )
    yield Figure("the same over the floor", each_s / floor_s, "x", note=f"{1e3 * floor_s:.3f} ms")
    share = 100 * (fleet_s - idle_fleet) / samples
    yield Figure(
        f"stats of {replicas} containers: agent and controller",
        share,
        "% of a core",
        2,
        note=f"the CLI besides: {100 * cli_s / samples:.1f} %, its start included",
    )


def _watch(seconds: int) -> tuple[int, float]:
    """Follow `pyswarm stats` in a pipe: the tables that it printed, and its processor time."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    words = [str(Path(sys.executable).with_name("pyswarm")), "stats"]
    with TemporaryFile("w+") as out:
        process = subprocess.Popen(words, stdout=out)
        time.sleep(seconds)
        process.terminate()
        process.wait(30)
        out.seek(0)
        tables = out.read().count("CONTAINER ID")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    # The first table comes with the second sample.
    return tables + 1, _seconds(after) - _seconds(before)


def _scrapes(fleet: Fleet, replicas: int, count: int) -> Iterable[Figure]:
    scraper, host = Scraper.of(fleet.client), fleet.plan.host(_HOST)
    sizes, taken, used = [], [], []
    for _ in range(count):
        time.sleep(1.2)  # longer than scrapes share a sample
        cpu_s, began = machine.process_cpu_s(fleet.agent_pid(_HOST)), time.monotonic()
        text = scraper.text(host, AGENT_METRICS_PORT)
        taken.append(time.monotonic() - began)
        lines = text.split("\n")
        sizes.append(sum(line[:1] not in ("", "#") for line in lines))
        used.append(machine.process_cpu_s(fleet.agent_pid(_HOST)) - cpu_s)
    yield Figure(
        f"scrape with {replicas} containers",
        1e3 * median(taken),
        "ms",
        50,
        note=f"{sizes[-1]} samples, TLS included; at least {1e3 * min(taken):.0f} ms;"
        f" {1e3 * sum(used) / count:.0f} ms of the agent",
    )


def _used(fleet: Fleet, during: Callable[[], None]) -> tuple[float, float]:
    """Processor seconds of the agent, and of the whole fleet."""
    pid = fleet.agent_pid(_HOST)
    agent_s, fleet_s = machine.process_cpu_s(pid), fleet.cpu_seconds()
    during()
    return machine.process_cpu_s(pid) - agent_s, fleet.cpu_seconds() - fleet_s


def _seconds(used: resource.struct_rusage) -> float:
    return used.ru_utime + used.ru_stime


def _files(fleet: Fleet) -> Sequence[str]:
    """What the agent reads for one sample."""
    hierarchies = cgroups.mounted()
    found = []
    for controller, name in parsing.V1 if hierarchies.v1 else parsing.V2:
        parent = hierarchies.controller(controller, f"{fleet.plan.cgroup}/{_HOST}/containers")
        if parent is not None:
            found += [str(path / name) for path in parent.iterdir() if (path / name).exists()]
    return [path for path in found if "/monitors/" not in path]


def _floor_s(files: Sequence[str], runs: int) -> float:
    """Processor seconds in which `cat` reads all of them."""
    return _cat_s(files, runs) - _cat_s(["/dev/null"], runs)


def _cat_s(files: Sequence[str], runs: int) -> float:
    before = _seconds(resource.getrusage(resource.RUSAGE_CHILDREN))
    for _ in range(runs):
        subprocess.run(["cat", *files], check=True, stdout=subprocess.DEVNULL)
    return (_seconds(resource.getrusage(resource.RUSAGE_CHILDREN)) - before) / runs
