"""The flags of health checks and readiness checks, for `service create` and `update`. PURE.

A check has one test: a command, or an HTTP, TCP or gRPC check. Durations and retries are in
`template.py`.
"""

from collections.abc import Mapping
from typing import Any

from cli.errors import parsed
from cli.service.spec.template import put
from pyswarm_core.docker import checks
from pyswarm_core.errors import InvalidArgument, as_flag
from pyswarm_core.specs import HealthConfig, ServiceSpec

_CONTAINER = "task_template.container_spec."
_OFF = HealthConfig(test=(checks.NONE,))


def with_checks(spec: ServiceSpec, given: Mapping[str, Any]) -> ServiceSpec:
    """The spec with the checks' tests that were given, or without checks.

    Raises InvalidArgument for flags that exclude each other.
    """
    container = spec.task_template.container_spec
    health = _check("health", container.healthcheck, "no_healthcheck", given, off=_OFF)
    spec = put(spec, _CONTAINER + "healthcheck", health)
    ready = _check("ready", container.readiness, "no_readiness", given, off=HealthConfig())
    return put(spec, _CONTAINER + "readiness", ready)


def _check(
    prefix: str, old: HealthConfig, switch: str, given: Mapping[str, Any], *, off: HealthConfig
) -> HealthConfig:
    named = [
        name for name, value in given.items() if name.startswith(f"{prefix}_") and value is not None
    ]
    if given[switch]:
        if named:
            raise _exclusive(switch, named[0])
        return off
    if old.test[:1] == (checks.NONE,) and named:
        old = put(old, "test", ())  # as in Docker: any flag of a check that is off turns it on
    tests = [end for end in checks.PARSERS if f"{prefix}_{end}" in named]
    if len(tests) > 1:
        raise _exclusive(f"{prefix}_{tests[0]}", f"{prefix}_{tests[1]}")
    for end in tests:
        name = f"{prefix}_{end}"
        old = put(old, "test", parsed(as_flag(name), checks.PARSERS[end], given[name]))
    return old


def _exclusive(one: str, other: str) -> InvalidArgument:
    return InvalidArgument(f"{as_flag(one)} conflicts with {as_flag(other)}: expected one of them")
