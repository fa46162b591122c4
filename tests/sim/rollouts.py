"""What users do to services that run: they set how updates go, roll out versions that are broken,
resume, roll back, restart, stop and start.
"""

from msgspec.structs import replace

from pyswarm_core.clock import MILLISECOND, SECOND
from pyswarm_core.specs import FailureAction, HealthConfig, ServiceSpec, UpdateConfig, UpdateOrder
from tests.sim.behaviours import HEALTH, PORTS, READY
from tests.sim.rand import Chance

RATIOS = (0.0, 0.0, 0.0, 0.3, 0.5, 1.0)
ORDERS = (UpdateOrder.STOP_FIRST, UpdateOrder.STOP_FIRST, UpdateOrder.START_FIRST)


class Rollouts:
    """How specs say that updates, restarts and checks go, drawn."""

    def __init__(self, chance: Chance, *, checks: bool) -> None:
        """`checks`: whether tasks are checked."""
        self._chance = chance
        self._checks = checks

    def drawn(self, spec: ServiceSpec) -> ServiceSpec:
        """The spec with such settings."""
        chance = self._chance
        template = spec.task_template
        container, policy = template.container_spec, template.restart_policy
        if self._checks:
            networks = bool(template.networks)
            container = replace(
                container,
                healthcheck=self._check(HEALTH, networks=networks),
                readiness=self._check(READY, networks=networks),
            )
        if policy.delay and chance.hits(0.5):
            policy = replace(policy, max_delay=max(policy.delay, chance.choice((2, 8)) * SECOND))
        template = replace(template, container_spec=container, restart_policy=policy)
        config, back = self.config(), self.config()
        if back.failure_action is FailureAction.ROLLBACK:
            back = replace(back, failure_action=FailureAction.PAUSE)
        return replace(spec, task_template=template, update_config=config, rollback_config=back)

    def config(self) -> UpdateConfig:
        """Some settings."""
        chance = self._chance
        return UpdateConfig(
            parallelism=chance.choice((0, 1, 1, 1, 2, 3)),
            delay=chance.choice((0, 0, 0, 1, 4)) * SECOND,
            failure_action=chance.choice(tuple(FailureAction)),
            monitor=chance.choice((1, 5, 5, 12)) * SECOND,
            max_failure_ratio=chance.choice(RATIOS),
            order=chance.choice(ORDERS),
        )

    def _check(self, kind: str, *, networks: bool) -> HealthConfig:
        """Half of the services have none. The start period covers what a well container needs."""
        chance = self._chance
        if chance.hits(0.5):
            return HealthConfig()
        port = PORTS[kind]
        tests: tuple[tuple[str, ...], ...] = (("CMD", kind), ("CMD-SHELL", kind))
        if networks:
            tests += (("HTTP", f"{port}/"), ("TCP", str(port)), ("GRPC", str(port)))
        return HealthConfig(
            test=chance.choice(tests),
            interval=chance.choice((1, 2, 4)) * SECOND,
            timeout=chance.choice((1, 2)) * SECOND,
            start_period=3 * SECOND,
            start_interval=chance.choice((200, 1000)) * MILLISECOND,
            retries=chance.choice((1, 2, 3)),
        )
