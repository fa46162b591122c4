"""The time in which a fleet applies a change of a service's backends, from the controller's metric.

It starts at the commit that removes a backend and ends when the last of three hosts has
acknowledged the change. Until then the backend is not stopped.
"""

from collections.abc import Iterable
from statistics import median

from msgspec.structs import replace

from bench.fleet import Fleet, playground, service, wait_until
from bench.report import Figure
from pyswarm_core.limits import CONTROLLER_METRICS_PORT
from pyswarm_core.specs import ReplicatedMode

_LAG = "pyswarm_controller_endpoint_lag_seconds"


def measure(quick: bool) -> Iterable[Figure]:
    """Remove backends of a service of many, one at a time."""
    rounds, backends = (2, 6) if quick else (15, 100)
    with playground() as fleet:
        created = fleet.create(service("many", backends))
        lags = [_lag(fleet, created, backends) for _ in range(rounds)]
        fleet.remove(created)
    yield Figure(
        f"a set of {backends} backends changes: three hosts of {backends} tasks follow",
        1e3 * median(lags),
        "ms",
        150,
        note=f"{rounds} changes, {1e3 * max(lags):.0f} ms at most",
    )


def _lag(fleet: Fleet, created: str, backends: int) -> float:
    """The seconds of one backend's removal; the backend is replaced afterwards."""
    count, total = _seen(fleet)
    _scale(fleet, created, backends - 1)
    wait_until(lambda: _seen(fleet)[0] > count, period_s=0.5)
    counted, summed = _seen(fleet)
    _scale(fleet, created, backends)
    wait_until(lambda: len(fleet.running(created)) == backends, period_s=0.5)
    return (summed - total) / (counted - count)


def _scale(fleet: Fleet, created: str, replicas: int) -> None:
    now = fleet.client.service(created)
    mode = ReplicatedMode(replicas=replicas)
    fleet.client.update_service(now, replace(now.spec, mode=mode))


def _seen(fleet: Fleet) -> tuple[float, float]:
    """Count and seconds of the changes that all hosts have acknowledged."""
    values = fleet.metrics(fleet.plan.hosts[0].name, CONTROLLER_METRICS_PORT)
    return values[f"{_LAG}_count"], values[f"{_LAG}_sum"]
