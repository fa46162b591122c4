"""What health checks cost: an exec check beside bare `crun exec`, http and tcp checks.

Processor time of the checked host's cgroup (agent, monitors, containers, commands), less that of
the same containers without a check. For http and tcp checks that of the agent's cgroup alone: what
the server spends on an answer is not the check's.
"""

import os
import subprocess
import time
from collections.abc import Iterable, Sequence

import msgspec

from bench import deploys, machine
from bench.fleet import Fleet, playground, published, service
from bench.report import Figure
from cli.daemons import entering
from pyswarm_core.clock import SECOND
from pyswarm_core.limits import AGENT_METRICS_PORT
from pyswarm_core.specs import HealthConfig, ServiceSpec

_HOST = "host2"
_PERIOD_S = 5
_SETTLE_S = 6.0
_CHECKS = "pyswarm_agent_checks_total"
_EXEC = ("CMD", "/bin/busybox", "true")


def measure(quick: bool) -> Iterable[Figure]:
    """A hundred containers on one host, first without a check, then with each kind."""
    replicas, for_s = (5, 5.0) if quick else (100, 30.0)
    with playground() as fleet, deploys.web() as context:
        fleet.load(deploys.IMAGE, context)
        yield _exec(fleet, replicas, for_s)
        for kind, target in (("HTTP", "80/index.html"), ("TCP", "80")):
            yield _connecting(fleet, (kind, target), replicas, for_s)


def _exec(fleet: Fleet, replicas: int, for_s: float) -> Figure:
    host = fleet.plan.host(_HOST).cgroup
    plain = service("checked", replicas, host=_HOST)
    created = fleet.create(plain)
    idle = _used(host, for_s)
    tasks = [replica.task for replica in fleet.replicas(created)]
    bare = _bare(fleet, tasks)
    fleet.remove(created)
    created = fleet.create(_checked(plain, _EXEC))
    each = _of_each(fleet, host, idle, for_s)
    fleet.remove(created)
    return Figure(
        f"{replicas} containers, exec check every {_PERIOD_S} s, over bare crun exec",
        each / bare,
        "x",
        1.5,
        note=f"{1e3 * each:.1f} ms a check, bare {1e3 * bare:.1f} ms",
    )


def _connecting(fleet: Fleet, test: tuple[str, ...], replicas: int, for_s: float) -> Figure:
    daemons = f"{fleet.plan.host(_HOST).cgroup}/daemons"
    plain = published(service("checked", replicas, host=_HOST), deploys.IMAGE, deploys.PORT)
    created = fleet.create(plain)
    idle = _used(daemons, for_s)
    fleet.remove(created)
    created = fleet.create(_checked(plain, test))
    each = _of_each(fleet, daemons, idle, for_s)
    fleet.remove(created)
    return Figure(f"{test[0].lower()} check: processor time of the agent", 1e3 * each, "ms", 1)


def _checked(spec: ServiceSpec, test: tuple[str, ...]) -> ServiceSpec:
    """The same with a check that is made once a second until it is healthy."""
    replace = msgspec.structs.replace
    check = HealthConfig(
        test=test,
        interval=_PERIOD_S * SECOND,
        start_period=60 * SECOND,
        start_interval=SECOND,
    )
    container = replace(spec.task_template.container_spec, healthcheck=check)
    return replace(spec, task_template=replace(spec.task_template, container_spec=container))


def _of_each(fleet: Fleet, cgroup: str, idle: float, for_s: float) -> float:
    """Processor seconds of one check: what the cgroup uses in that time above `idle`."""
    time.sleep(_SETTLE_S)
    made = _made(fleet)
    used = machine.cpu_seconds(cgroup)
    time.sleep(for_s)
    used = machine.cpu_seconds(cgroup) - used
    return (used - idle) / (_made(fleet) - made)


def _made(fleet: Fleet) -> float:
    """How many checks the host has made."""
    found = fleet.metrics(_HOST, AGENT_METRICS_PORT)
    return sum(value for name, value in found.items() if name.startswith(_CHECKS))


def _used(cgroup: str, for_s: float) -> float:
    """Processor seconds of a cgroup in that time, once it is quiet."""
    time.sleep(_SETTLE_S)
    used = machine.cpu_seconds(cgroup)
    time.sleep(for_s)
    return machine.cpu_seconds(cgroup) - used


def _bare(fleet: Fleet, tasks: Sequence[str]) -> float:
    """Processor seconds of one `crun exec` of the same command, by a shell in the host's cgroup."""
    host = fleet.plan.host(_HOST)
    procs = machine.unified_root() / host.cgroup.lstrip("/") / "daemons/cgroup.procs"
    loop = f"for id in {' '.join(tasks)}; do crun --root {host.run_dir}/oci exec $id {_EXEC[1]}"
    script = f"{loop} {' '.join(_EXEC[2:])}; done"
    words = [*entering(host.netns_path, host.mountns_path), "sh", "-c", script]
    used = machine.cpu_seconds(host.cgroup)
    subprocess.run(words, check=True, preexec_fn=lambda: procs.write_text(str(os.getpid())))
    return (machine.cpu_seconds(host.cgroup) - used) / len(tasks)
