"""Docker Swarm on three hosts of a playground: one manager, which also runs tasks, and two workers.

SHELL. Swarm needs IPVS. On a kernel without it services have no virtual addresses and no published
ports: `publishes` is false, and names resolve to tasks' addresses.
"""

import subprocess
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench import image, machine
from bench.fleet import NETWORK, Fleet, playground, wait_until
from bench.peer import wording
from bench.peer.engine import Engine
from bench.system import Replica
from cli.playground import boot, power, wires
from cli.playground import fleet as plans
from cli.registry.opening import opened
from pyswarm_core.docker.reference import parse_reference
from pyswarm_core.specs import ServiceSpec

NAME = "benchswarm"
_CONVERGE_S = 300.0
_PERIOD_S = 0.05


class Swarm:
    """A running swarm, used through the engines' API."""

    def __init__(self, plan: plans.Fleet) -> None:
        self.plan = plan
        self.engines = {host.name: Engine(host) for host in plan.hosts}
        self.manager = self.engines[plan.hosts[0].name]
        self.publishes = Path("/proc/net/ip_vs").exists()
        self._hosts: dict[str, str] = {}
        self._images: dict[str, str] = {}
        self._networks: dict[str, str] = {}
        self._killed: set[str] = set()

    def start(self) -> None:
        """Start all hosts, join them, create the network."""
        with ThreadPoolExecutor() as pool:
            list(pool.map(Engine.start, self.engines.values()))
        first, *others = self.plan.hosts
        listen = {"ListenAddr": f"{first.address}:2377", "AdvertiseAddr": first.address}
        self.manager.post("/swarm/init", listen)
        token = self.manager.get("/swarm")["JoinTokens"]["Worker"]
        for host in others:
            words = {
                "ListenAddr": f"{host.address}:2377",
                "AdvertiseAddr": host.address,
                "RemoteAddrs": [f"{first.address}:2377"],
                "JoinToken": token,
            }
            self.engines[host.name].post("/swarm/join", words)
        wait_until(self._all_ready, _PERIOD_S)
        nodes = self.manager.get("/nodes")
        self._hosts = {node["ID"]: node["Description"]["Hostname"] for node in nodes}
        made = self.manager.post("/networks/create", {"Name": NETWORK, "Driver": "overlay"})
        self._networks[NETWORK] = made["Id"]

    def load(self, name: str, fleet: Fleet) -> None:
        """Load an image of the fleet on every host, byte for byte."""
        with tempfile.TemporaryDirectory() as directory:
            archive = Path(directory) / "image.tar"
            words = ["skopeo", "--insecure-policy", "copy", "--quiet", "--src-tls-verify=false"]
            with opened(fleet.client) as registry:
                words += ["--src-authfile", str(registry.authfile)]
                words += [f"docker://{registry.reference(parse_reference(name))}"]
                subprocess.run([*words, f"docker-archive:{archive}:{name}"], check=True)
            for engine in self.engines.values():
                engine.load(archive)
        self._images[name] = self.manager.get(f"/images/{name}/json")["Id"]

    def cpu_seconds(self) -> float:
        """Processor time of all hosts: daemons and containers."""
        return machine.cpu_seconds(self.plan.cgroup)

    def create(self, spec: ServiceSpec) -> str:
        """Create a service and return its id once all of it runs."""
        created: str = self.manager.post("/services/create", self._worded(spec))["ID"]
        self._until(lambda: self._status(created)["RunningTasks"] == self._desired(created))
        return created

    def update(self, service_id: str, spec: ServiceSpec) -> None:
        """Update a service; return once all replicas have the new spec."""
        before = {replica.task for replica in self.replicas(service_id)}
        found = self.manager.get(f"/services/{service_id}")
        version = found["Version"]["Index"]
        self.manager.post(f"/services/{service_id}/update?version={version}", self._worded(spec))

        def replaced() -> bool:
            now = {replica.task for replica in self.replicas(service_id)}
            return len(now) == self._desired(service_id) and not now & before

        self._until(replaced)

    def remove(self, service_id: str) -> None:
        """Remove a service; return once no host has anything of its containers."""
        self.manager.delete(f"/services/{service_id}")
        filters = {"label": [f"com.docker.swarm.service.id={service_id}"]}

        def gone(engine: Engine) -> bool:
            return not engine.get("/containers/json", all="1", filters=filters)

        self._until(lambda: all(map(gone, self.engines.values())))

    def replicas(self, service_id: str) -> list[Replica]:
        """The running tasks of a service."""
        tasks = self.manager.get("/tasks", filters={"service": [service_id]})
        return wording.replicas(tasks, self._hosts, self._networks[NETWORK])

    def lose(self, host: str, verb: str) -> None:
        """`kill`: cut the host's power. `cut`: disconnect it from the network."""
        if verb == "cut":
            wires.set_cable(self.plan, self.plan.host(host), plugged=False)
            return
        power.cut_power(self.plan.host(host))
        self.engines[host].reap()
        self._killed.add(host)

    def heal(self, host: str) -> None:
        """Undo `lose`; return once every host is ready."""
        if host in self._killed:
            wires.connect(self.plan, self.plan.host(host))
            self.engines[host].start()
            self._killed.remove(host)
        else:
            wires.set_cable(self.plan, self.plan.host(host), plugged=True)
        self._until(self._all_ready)

    def _worded(self, spec: ServiceSpec) -> dict[str, Any]:
        mode = "vip" if self.publishes else "dnsrr"
        return wording.service(spec, self._images, self._networks, mode)

    def _status(self, service_id: str) -> dict[str, int]:
        filters = {"id": [service_id]}
        (found,) = self.manager.get("/services", status="true", filters=filters)
        return dict(found["ServiceStatus"])

    def _desired(self, service_id: str) -> int:
        return self._status(service_id)["DesiredTasks"]

    def _all_ready(self) -> bool:
        states = [node["Status"]["State"] for node in self.manager.get("/nodes")]
        return states.count("ready") == len(self.plan.hosts)

    @staticmethod
    def _until(holds: Callable[[], bool]) -> None:
        wait_until(holds, _PERIOD_S, _CONVERGE_S)


@contextmanager
def both() -> Iterator[tuple[Fleet, Swarm]]:
    """A playground and a swarm, each with the waiting image, removed at the end of the block."""
    # Docker loads the module itself; loaded here first, so that `publishes` is right.
    subprocess.run(["modprobe", "--quiet", "ip_vs"], check=False)
    plan = plans.Fleet(name=NAME, nodes=3)
    with playground() as fleet:
        swarm = Swarm(plan)
        try:
            wires.lay_underlay(plan)
            for host in plan.hosts:
                wires.connect(plan, host)
            swarm.start()
            swarm.load(image.NAME, fleet)
            yield fleet, swarm
        finally:
            boot.down(plan, lambda _: None)
            for engine in swarm.engines.values():
                engine.reap()
