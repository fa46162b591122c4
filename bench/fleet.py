"""A playground to measure: three hosts, an overlay network and the image, removed afterwards.

SHELL over the `pyswarm` command and the controller's API. It has its own directory for the CLI's
context, so that the user's current fleet does not change.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec

from bench import image, machine
from bench.system import Replica
from cli import daemons
from cli.client import Client
from cli.image import calls
from cli.playground import boot
from cli.playground import fleet as plans
from cli.playground.scraping import Scraper
from cli.service.change import changed
from pyswarm_core.clock import SECOND
from pyswarm_core.docker.reference import parse_reference
from pyswarm_core.errors import NotFound
from pyswarm_core.images.views import PullImage
from pyswarm_core.specs import (
    ContainerSpec,
    EndpointSpec,
    Limits,
    NetworkAttachment,
    NetworkSpec,
    Placement,
    PortConfig,
    ReplicatedMode,
    Resources,
    RestartPolicy,
    ServiceSpec,
    TaskSpec,
)
from pyswarm_core.states import TaskState
from pyswarm_core.views import TaskView

NAME = "bench"
NETWORK = "app"
_TIMEOUT_S = 60.0


class Fleet:
    """A playground that is up."""

    def __init__(self, plan: plans.Fleet, client: Client, rootfs: Path) -> None:
        self.plan = plan
        self.client = client
        self.rootfs = rootfs

    def cpu_seconds(self) -> float:
        """Processor time of all hosts: daemons, etcd and containers."""
        return machine.cpu_seconds(self.plan.cgroup)

    def agent_pid(self, host: str) -> int:
        """The pid of the host's agent."""
        pid, *_ = daemons.daemon_pids(self.plan.host(host).run_dir / "agent.pid")
        return pid

    def controller_pid(self) -> int:
        """The pid of the controller."""
        pid, *_ = daemons.daemon_pids(self.plan.hosts[0].run_dir / "controller.pid")
        return pid

    def metrics(self, host: str, port: int) -> dict[str, float]:
        """The metrics of one of the host's daemons, by name with labels."""
        return Scraper.of(self.client).read(self.plan.host(host), port)

    def create(self, spec: ServiceSpec) -> str:
        """Create a service and return its id once all of it runs."""
        service, _ = self.client.create_service(spec)
        self._converge(service.id)
        return service.id

    def update(self, service_id: str, spec: ServiceSpec) -> None:
        """Update a service; return once all replicas have the new spec, before the update has been
        monitored to its end.
        """
        changed(self.client, service_id, lambda _: spec)
        for progress in self.client.watch_service(service_id):
            if progress.updated == progress.alive == progress.desired:
                return
        raise TimeoutError(f"the update of service {service_id} did not end")

    def _converge(self, service_id: str) -> None:
        for progress in self.client.watch_service(service_id):
            if progress.converged:
                return
        raise TimeoutError(f"service {service_id} did not converge")

    def remove(self, service_id: str) -> None:
        """Remove a service; return once no host has anything of its containers."""
        self.client.remove_service(service_id)
        with suppress(NotFound):  # it may be removed before the watch starts
            for progress in self.client.watch_service(service_id):
                if progress.gone:
                    break
        bundles = [host.run_dir / "bundles" for host in self.plan.hosts]
        wait_until(lambda: not any(any(path.iterdir()) for path in bundles))

    def running(self, service_id: str) -> list[TaskView]:
        """The running tasks of a service."""
        views = self.client.tasks(services=[service_id])
        return [view for view in views if view.task.state is TaskState.RUNNING]

    def replicas(self, service_id: str) -> list[Replica]:
        """Its running tasks, in the form common to all systems."""
        return [
            Replica(
                slot=view.task.slot,
                task=view.task.id,
                pid=view.task.detail.pid,
                host=view.node_name,
                address=next((a.address for a in view.task.detail.addresses), ""),
            )
            for view in self.running(service_id)
        ]

    def lose(self, host: str, verb: str) -> None:
        """`kill`: cut the host's power. `cut`: disconnect it from the network."""
        lose = {"kill": boot.kill, "cut": boot.cut}[
            verb
        ]  # not the command, which takes time to start
        lose(plans.load(NAME), self.plan.host(host))

    def heal(self, host: str) -> None:
        """Undo `lose`; return once the host is ready."""
        pyswarm("playground", "heal", "--name", NAME, host)

    def load(self, name: str, context: Path) -> None:
        """Build an image and pull it on every host."""
        pyswarm("image", "build", "--quiet", "-t", name, str(context))
        list(calls.pull(self.client, PullImage(str(parse_reference(name)))))


@contextmanager
def playground(nodes: int = 3) -> Iterator[Fleet]:
    """A playground with network and image on every host, removed at the end of the block."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as directory:
        os.environ["XDG_CONFIG_HOME"] = f"{directory}/config"
        rootfs = image.make_context(Path(directory) / "image")
        pyswarm("playground", "up", "--name", NAME, "--nodes", str(nodes))
        try:
            plan = plans.load(NAME)
            with Client(f"unix://{plan.socket}") as client:
                client.create_network(NetworkSpec(name=NETWORK))
                fleet = Fleet(plan, client, rootfs)
                fleet.load(image.NAME, rootfs.parent)
                yield fleet
        finally:
            pyswarm("playground", "down", "--name", NAME)


def service(
    name: str, replicas: int, *, host: str = "", restart_delay: int = 5 * SECOND
) -> ServiceSpec:
    """A service of the waiting image on the overlay, with the floor's limits."""
    return ServiceSpec(
        name=name,
        mode=ReplicatedMode(replicas=replicas),
        task_template=TaskSpec(
            container_spec=ContainerSpec(image=image.NAME),
            resources=Resources(
                limits=Limits(nano_cpus=500_000_000, memory_bytes=64 << 20, pids=100)
            ),
            restart_policy=RestartPolicy(delay=restart_delay),
            placement=Placement(constraints=(f"node.hostname=={host}",) if host else ()),
            networks=(NetworkAttachment(target=NETWORK),),
        ),
    )


def published(spec: ServiceSpec, image_name: str, port: int) -> ServiceSpec:
    """The same with a web server's image, its port 80 published on every host."""
    template = spec.task_template
    container = msgspec.structs.replace(template.container_spec, image=image_name)
    return msgspec.structs.replace(
        spec,
        task_template=msgspec.structs.replace(template, container_spec=container),
        endpoint_spec=EndpointSpec(ports=(PortConfig(target_port=80, published_port=port),)),
    )


def wait_until(
    holds: Callable[[], bool], period_s: float = 0.01, timeout_s: float = _TIMEOUT_S
) -> None:
    """Return once the condition is true. Raises TimeoutError."""
    deadline = time.monotonic() + timeout_s
    while not holds():
        if time.monotonic() > deadline:
            raise TimeoutError(f"the condition is not true after {timeout_s:g} s")
        time.sleep(period_s)


def pyswarm(*words: str) -> None:
    """Run the `pyswarm` of this Python. Raises CalledProcessError."""
    subprocess.run(
        [Path(sys.executable).with_name("pyswarm"), *words],
        check=True,
        timeout=120,
        stdout=subprocess.DEVNULL,
    )
