"""Both systems: traffic between tasks on two hosts over the overlay, in turns."""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager
from statistics import median

from msgspec.structs import replace

from bench import traffic
from bench.fleet import service
from bench.network import Path
from bench.peer.swarm import both
from bench.report import Figure, ahead, faster
from bench.system import System
from pyswarm_core.specs import EndpointMode, EndpointSpec


def measure(quick: bool) -> Iterable[Figure]:
    """Throughput and round trips of one connection, then new connections, in many short turns."""
    rounds, for_s = (1, 0.2) if quick else (60, 0.2)
    with both() as systems, ExitStack() as stack:
        # Without IPVS Swarm's services have no virtual addresses, so ours get none either.
        mode = EndpointMode.VIP if systems[1].publishes else EndpointMode.DNSRR
        paths = [stack.enter_context(_path(system, mode)) for system in systems]
        for kind in ("flood", "trip", "connect"):
            turns = [paths[:: -1 if number % 2 else 1] for number in range(rounds)]
            rates = [{path: path.rate(kind, for_s) for path in turn} for turn in turns]
            ours, theirs = (median(rate[path] for rate in rates) for path in paths)
            if kind == "flood":
                yield ahead("overlay: throughput", ours / 1e9, theirs / 1e9, "Gbit/s", 1)
            elif kind == "trip":
                yield faster("overlay: round trip", 1e6 / ours, 1e6 / theirs, "us", 1)
            else:
                yield ahead("overlay: connections", ours, theirs, "/s", 1)


@contextmanager
def _path(system: System, mode: EndpointMode) -> Iterator[Path]:
    near, far = (
        system.create(replace(service(name, 1, host=host), endpoint_spec=EndpointSpec(mode=mode)))
        for name, host in (("near", "host1"), ("far", "host2"))
    )
    (client,), (server,) = system.replicas(near), system.replicas(far)
    dialler = traffic.Dialler("nsenter", "-t", str(client.pid), "-n")
    with traffic.serving("nsenter", "-t", str(server.pid), "-n"), closing(dialler):
        yield Path(dialler, server.address)
