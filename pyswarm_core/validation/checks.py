"""Validation of health checks and readiness checks. PURE.

Durations have Docker's minimum of 1 ms; 0 is the image's value or the default.
"""

import re
from collections.abc import Iterable, Sequence

from pyswarm_core.docker.checks import (
    CMD,
    CMD_SHELL,
    DURATIONS,
    GRPC,
    HTTP,
    NONE,
    PROBES,
    TCP,
    flag_of,
)
from pyswarm_core.errors import as_flag
from pyswarm_core.specs import (
    ContainerSpec,
    HealthConfig,
    NetworkAttachment,
    PortConfig,
    PublishMode,
)
from pyswarm_core.validation import text
from pyswarm_core.validation.problem import Problem
from pyswarm_core.validation.ranges import DURATION, range_problems

PATH_MAX = 2_048
"""Characters of an HTTP check's path: what servers accept in a request line at least."""
SERVICE_MAX = 255
"""Characters of the service that a gRPC check names."""

_PROBE = re.compile(r"(?P<port>[0-9]{1,5})(?:/(?P<rest>[!-~]*))?")
_SYNTAX = {
    HTTP: "expected PORT/PATH: a port of 1 to 65535, a path of printable ASCII",
    TCP: "expected PORT: a port of 1 to 65535",
    GRPC: "expected PORT or PORT/SERVICE: a port of 1 to 65535, a service of printable ASCII",
}
_WORDS = "NONE, CMD, CMD-SHELL, HTTP, TCP or GRPC"


def check_problems(
    spec: ContainerSpec, networks: Sequence[NetworkAttachment], ports: Sequence[PortConfig]
) -> Iterable[Problem]:
    """The problems of a container's checks, on those networks and with those published ports."""
    health, ready = spec.healthcheck, spec.readiness
    yield from _config_problems("health", health, networks)
    yield from _config_problems("ready", ready, networks)
    if ready.test and ready.test[0] == NONE:
        yield Problem("--ready-cmd", NONE, "expected a check, or none for no readiness", "test")
    if not ready.test and ready != HealthConfig():
        expected = "expected --ready-cmd, --ready-http, --ready-tcp or --ready-grpc as well"
        field, value = _first_setting(ready)
        yield Problem(field, value, expected)
    host = [port for port in ports if port.publish_mode is PublishMode.HOST]
    if ready.test and host:
        expected = (
            "expected mode=ingress with a readiness check:"
            " a port in mode host leads to its task, ready or not"
        )
        yield Problem("--publish", f"{host[0].published_port}:{host[0].target_port}", expected)


def _first_setting(config: HealthConfig) -> tuple[str, object]:
    for name in DURATIONS:
        if duration := getattr(config, name):
            return as_flag(f"ready_{name}"), DURATION.exact(duration)
    return "--ready-retries", config.retries


def _config_problems(
    prefix: str, config: HealthConfig, networks: Sequence[NetworkAttachment]
) -> Iterable[Problem]:
    for name in (*DURATIONS, "retries"):
        yield from range_problems(as_flag(f"{prefix}_{name}"), getattr(config, name))
    if config.test:
        yield from _test_problems(f"--{prefix}-{flag_of(config.test)}", config.test, networks)


def _test_problems(
    field: str, test: Sequence[str], networks: Sequence[NetworkAttachment]
) -> Iterable[Problem]:
    kind, *arguments = test
    if kind in PROBES:
        if len(arguments) != 1:
            yield Problem(field, len(arguments), f"expected 1 argument of {kind}", "count")
            return
        yield from _probe_problems(field, kind, arguments[0])
        if any(network.target == "none" for network in networks):
            expected = "expected a command instead: a task on network none has no address"
            yield Problem(field, arguments[0], expected)
        return
    if kind not in (NONE, CMD, CMD_SHELL):
        yield Problem(field, kind, f"expected {_WORDS} first", "test")
        return
    counts = {NONE: len(arguments) == 0, CMD_SHELL: len(arguments) == 1, CMD: bool(arguments)}
    if not counts[kind]:
        expected = {NONE: "no argument", CMD_SHELL: "1 argument", CMD: "1 argument or more"}[kind]
        yield Problem(field, len(arguments), f"expected {expected} of {kind}", "count")
    elif arguments and not arguments[0]:
        yield Problem(field, "", "expected a command")
    yield from text.argument_problems(field, arguments)


def _probe_problems(field: str, kind: str, argument: str) -> Iterable[Problem]:
    found = _PROBE.fullmatch(argument)
    if found is None or not 1 <= int(found["port"]) <= 65535:
        yield Problem(field, argument, _SYNTAX[kind])
        return
    rest = found["rest"]
    if kind == TCP and rest is not None:
        yield Problem(field, argument, _SYNTAX[kind])
        return
    if kind == HTTP and rest is None:
        yield Problem(field, argument, _SYNTAX[kind])
    most, noun = (PATH_MAX, "path") if kind == HTTP else (SERVICE_MAX, "service")
    if rest is not None and len(rest) > most:
        yield Problem(field, len(rest), f"expected at most {most} characters", f"{noun}'s length")
