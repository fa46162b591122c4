"""A playground to measure on: three hosts, an overlay network and the image, all gone afterwards.

SHELL over the `pyswarm` command and the controller's API. Its CLI context is a directory of its
own, so that nobody's current fleet changes.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from bench import image, machine
from cli import daemons
from cli.answers import TaskView
from cli.client import Client
from cli.playground import fleet as plans
from pyswarm_core.clock import SECOND
from pyswarm_core.specs import (
    ContainerSpec,
    Limits,
    NetworkAttachment,
    NetworkSpec,
    Placement,
    ReplicatedMode,
    Resources,
    RestartPolicy,
    ServiceMode,
    ServiceSpec,
    TaskSpec,
)
from pyswarm_core.states import TaskState

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
        """The process that is the host's agent."""
        pid, *_ = daemons.daemon_pids(self.plan.host(host).run_dir / "agent.pid")
        return pid

    def create(self, spec: ServiceSpec) -> str:
        """Create a service and return its id once all of it runs."""
        service = self.client.create_service(spec)
        for progress in self.client.watch_service(service.id):
            if progress.converged:
                return service.id
        raise TimeoutError(f"service {spec.name} did not converge")

    def remove(self, service_id: str) -> None:
        """Remove a service and return once nothing of its containers is left on any host."""
        self.client.remove_service(service_id)
        for progress in self.client.watch_service(service_id):
            if progress.gone:
                break
        bundles = [host.run_dir / "bundles" for host in self.plan.hosts]
        wait_until(lambda: not any(any(path.iterdir()) for path in bundles))

    def running(self, service_id: str) -> list[TaskView]:
        """Its running tasks."""
        views = self.client.tasks(services=[service_id])
        return [view for view in views if view.task.state is TaskState.RUNNING]


@contextmanager
def playground(nodes: int = 3) -> Iterator[Fleet]:
    """Bring one up with network and image on every host; take it down whatever happens."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as directory:
        os.environ["XDG_CONFIG_HOME"] = f"{directory}/config"
        rootfs = image.make_context(Path(directory) / "image")
        pyswarm("playground", "up", "--name", NAME, "--nodes", str(nodes))
        try:
            pyswarm("image", "build", "--quiet", "-t", image.NAME, str(rootfs.parent))
            plan = plans.load(NAME)
            with Client(f"unix://{plan.socket}") as client:
                client.create_network(NetworkSpec(name=NETWORK))
                list(client.pull_image(image.NAME))
                yield Fleet(plan, client, rootfs)
        finally:
            pyswarm("playground", "down", "--name", NAME)


def service(
    name: str, replicas: int, *, host: str = "", restart_delay: int = 5 * SECOND
) -> ServiceSpec:
    """Replicas of the waiting image on the overlay, limited like the floor's."""
    return ServiceSpec(
        name=name,
        mode=ServiceMode(replicated=ReplicatedMode(replicas=replicas)),
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


def wait_until(holds: Callable[[], bool], period_s: float = 0.01) -> None:
    """Return once it holds. Raises TimeoutError after a minute."""
    deadline = time.monotonic() + _TIMEOUT_S
    while not holds():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {_TIMEOUT_S:g} s in vain")
        time.sleep(period_s)


def pyswarm(*words: str) -> None:
    """Run the command beside this Python. Raises CalledProcessError."""
    subprocess.run(
        [Path(sys.executable).with_name("pyswarm"), *words],
        check=True,
        timeout=120,
        stdout=subprocess.DEVNULL,
    )
