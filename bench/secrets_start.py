"""Starts of containers with two secrets and a config, beside starts without, in turns.

SHELL over a playground of one host. Ten replicas start at once. Their agent has none of the three
when they begin: it fetches each once.
"""

from collections.abc import Iterable

from msgspec.structs import replace

from bench.fleet import playground
from bench.report import Figure
from bench.starts import in_turns, ratio
from cli.payload import calls
from pyswarm_core.kinds import CONFIG, SECRET
from pyswarm_core.payloads import syntax
from pyswarm_core.payloads.payload import PayloadSpec
from pyswarm_core.specs import ServiceSpec

BOUND = 1.1
SECRETS = {"bench-password": 32, "bench-key": 4096}
CONFIGS = {"bench-conf": 4096}
"""Their bytes."""


def measure(quick: bool) -> Iterable[Figure]:
    """The ratio of the medians, of processor time and of time."""
    with playground(1) as fleet:
        for kind, sizes in ((SECRET, SECRETS), (CONFIG, CONFIGS)):
            for name, size in sizes.items():
                calls.create(fleet.client, kind, PayloadSpec(name=name), b"x" * size)
        plain, using = in_turns(fleet, 2 if quick else 25, _using)
    what = "with two secrets and a config"
    yield ratio(f"processor time of a start {what}, over one without", plain, using, BOUND)
    yield ratio(f"time until ten {what} run, over ten without", plain, using, BOUND, wall=True)


def _using(spec: ServiceSpec) -> ServiceSpec:
    container = replace(
        spec.task_template.container_spec,
        secrets=tuple(map(syntax.secret, SECRETS)),
        configs=tuple(map(syntax.config, CONFIGS)),
    )
    return replace(spec, task_template=replace(spec.task_template, container_spec=container))
