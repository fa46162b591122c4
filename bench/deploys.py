"""Failed requests while every replica of a service is replaced, with wrk on every host.

Each request has its own connection: wrk and the example's web server send `Connection: close`. The
page is a file, because wrk counts an answer without a length as a failed read.
"""

import signal
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from bench import wrk
from bench.fleet import playground, published, service, wait_until
from bench.report import Figure
from bench.system import System
from pyswarm_core.specs import ServiceSpec

IMAGE = "bench-web:1"
PORT = 7272
_CONTEXT = Path(__file__).parents[1] / "examples" / "web" / "context"
_CONNECTIONS = 2
_PAUSE_S = 1.0


class Deploys(msgspec.Struct, frozen=True):
    """The result of some updates."""

    counts: wrk.Counts
    took_s: list[float]
    """Seconds of each update, from the request until all replicas are new."""


def measure(quick: bool) -> Iterable[Figure]:
    """Update a service several times in a row."""
    replicas, rounds = (2, 1) if quick else (10, 3)
    with playground() as fleet, web() as context:
        fleet.load(IMAGE, context)
        yield figure("", deploy(fleet, replicas, rounds), replicas, rounds)


def figure(whose: str, done: Deploys, replicas: int, rounds: int) -> Figure:
    """The figure of failed requests; the bound is 0."""
    name = f"requests failed, {rounds} updates of {replicas} replicas{whose}"
    took = ", ".join(f"{span:.1f}" for span in done.took_s)
    return Figure(
        name, done.counts.failed, "", 0, note=f"{wrk.summary(done.counts)}; updates took {took} s"
    )


@contextmanager
def web() -> Iterator[Path]:
    """A build context: the example's server with one more page."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as directory:
        subprocess.run([_CONTEXT, directory], check=True)
        (Path(directory) / "rootfs/www/index.html").write_text("It answers.\n")
        yield Path(directory)


def deploy(system: System, replicas: int, rounds: int) -> Deploys:
    """Replace all replicas that many times under load."""
    spec = published(service("web", replicas), IMAGE, PORT)
    created = system.create(spec)
    wait_until(lambda: all(_answers(system, host.address) for host in system.plan.hosts))
    took, counts = [], []
    for number in range(rounds):
        with _load(system) as counted:
            time.sleep(_PAUSE_S)
            took.append(update_s(system, created, spec, number))
            time.sleep(_PAUSE_S)
        counts += counted
    system.remove(created)
    return Deploys(wrk.total(counts), took)


def update_s(system: System, service_id: str, spec: ServiceSpec, number: int) -> float:
    """Seconds until all replicas are new after a change of their environment."""
    template = spec.task_template
    container = msgspec.structs.replace(template.container_spec, env=(f"ROUND={number}",))
    template = msgspec.structs.replace(template, container_spec=container)
    before = {replica.task for replica in system.replicas(service_id)}
    began = time.monotonic()
    system.update(service_id, msgspec.structs.replace(spec, task_template=template))
    took = time.monotonic() - began
    if before & {replica.task for replica in system.replicas(service_id)}:
        raise RuntimeError("the update did not replace all replicas")
    return took


@contextmanager
def _load(system: System) -> Iterator[list[wrk.Counts]]:
    """Send requests to all hosts during the block; the counts are set at its end."""
    counts: list[wrk.Counts] = []
    words = [_wrk(system, host.address, 3600, _CONNECTIONS) for host in system.plan.hosts]
    clients = [subprocess.Popen(w, stdout=subprocess.PIPE, text=True) for w in words]
    try:
        yield counts
    finally:
        for client in clients:
            client.send_signal(signal.SIGINT)
        said = [client.communicate()[0] for client in clients]
    counts += map(wrk.parse, said)
    if not all(each.total for each in counts):
        raise RuntimeError("a host received no request")


def _answers(system: System, address: str) -> bool:
    done = subprocess.run(_wrk(system, address, 1, 1), capture_output=True, text=True, check=False)
    return done.returncode == 0 and wrk.parse(done.stdout).answered > 0


def _wrk(system: System, address: str, for_s: int, connections: int) -> list[str]:
    words = ["wrk", "-t", "1", "-c", str(connections), "-d", str(for_s)]
    words += ["-H", "Connection: close", f"http://{address}:{PORT}/index.html"]
    return ["nsenter", f"--net=/run/netns/{system.plan.lan}", *words]
