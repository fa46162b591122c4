"""The agent's own probes, where a connection finds what a command would: there are no sockets."""

from msgspec.structs import replace

from agent.health.base import Outcome, Target
from agent.health.probes import Probes
from pyswarm_core.specs import HealthConfig
from tests.sim.behaviours import PORTS

_CONNECT = ("HTTP", "TCP", "GRPC")
_KINDS = {str(port): kind for kind, port in PORTS.items()}


class SimProbes(Probes):
    """See `Probes`."""

    async def __call__(self, target: Target, config: HealthConfig) -> Outcome:
        if config.test[0] in _CONNECT:
            kind = _KINDS[config.test[1].partition("/")[0]]
            config = replace(config, test=("CMD", kind))
        return await super().__call__(target, config)
