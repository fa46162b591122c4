"""Which checks and which settings of updates are allowed, beyond what flags can express."""

import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyswarm_core import specs
from pyswarm_core.clock import HOUR, MILLISECOND, SECOND
from pyswarm_core.docker.checks import PARSERS
from pyswarm_core.errors import InvalidArgument
from pyswarm_core.specs import FailureAction, HealthConfig, ServiceSpec, UpdateConfig
from pyswarm_core.validation import service_problems
from tests.fixtures import build

replace = msgspec.structs.replace


def checked(**checks: HealthConfig) -> ServiceSpec:
    spec = build.service("web").spec
    container = replace(spec.task_template.container_spec, **checks)
    return replace(spec, task_template=replace(spec.task_template, container_spec=container))


def health(*test: str, **fields: int) -> ServiceSpec:
    return checked(healthcheck=HealthConfig(test=test, **fields))


def ready(*test: str, **fields: int) -> ServiceSpec:
    return checked(readiness=HealthConfig(test=test, **fields))


def on_network(spec: ServiceSpec, network: str) -> ServiceSpec:
    networks = (specs.NetworkAttachment(target=network),)
    return replace(spec, task_template=replace(spec.task_template, networks=networks))


def config(**fields: object) -> ServiceSpec:
    return replace(build.service("web").spec, update_config=UpdateConfig(**fields))  # type: ignore[arg-type]


ALLOWED = {
    "none": health("NONE"),
    "arguments": health("CMD", "pg_isready", "-q"),
    "shell": health("CMD-SHELL", "curl -f localhost || exit 1"),
    "http": health("HTTP", "8080/healthz?full=1"),
    "tcp": ready("TCP", "1"),
    "grpc": ready("GRPC", "65535"),
    "grpc service": ready("GRPC", "50051/shop.v1.Cart"),
    "least": health(interval=MILLISECOND, timeout=MILLISECOND, retries=1),
    "most": health(interval=365 * 24 * HOUR, start_period=365 * 24 * HOUR, retries=1_000_000),
    "on the host's network": on_network(health("HTTP", "8080/"), "host"),
    "command without network": on_network(health("CMD", "true"), "none"),
    "all at once": config(parallelism=0, monitor=0, max_failure_ratio=1.0),
    "roll back": config(failure_action=FailureAction.ROLLBACK, delay=365 * 24 * HOUR),
}


@pytest.mark.parametrize("spec", ALLOWED.values(), ids=ALLOWED.keys())
def test_what_can_be_run_is_allowed(spec: ServiceSpec) -> None:
    assert service_problems(spec) == []


HTTP_EXPECTED = "expected PORT/PATH: a port of 1 to 65535, a path of printable ASCII"
REFUSED = [
    ("--health-cmd", health("NONE", "x"), "expected no argument of NONE"),
    ("--health-cmd", health("CMD"), "expected 1 argument or more of CMD"),
    ("--health-cmd", health("CMD", ""), "expected a command"),
    ("--health-cmd", health("CMD-SHELL"), "expected 1 argument of CMD-SHELL"),
    ("--health-cmd", health("CMD-SHELL", "a", "b"), "expected 1 argument of CMD-SHELL"),
    ("--health-cmd", health("CMD", "a\0b"), "expected no NUL"),
    ("--health-cmd", health("PING", "x"), "expected NONE, CMD, CMD-SHELL, HTTP, TCP or GRPC first"),
    ("--health-http", health("HTTP", "80"), "expected PORT/PATH"),
    ("--health-http", health("HTTP"), "expected 1 argument of HTTP"),
    ("--health-http", health("HTTP", "0/"), HTTP_EXPECTED),
    ("--health-http", health("HTTP", "80/a b"), HTTP_EXPECTED),
    ("--health-http", health("HTTP", "80/\r\nHost: x"), HTTP_EXPECTED),
    ("--health-http", health("HTTP", "80/" + 2_049 * "x"), "expected at most 2048 characters"),
    ("--health-tcp", health("TCP", "80/"), "expected PORT: a port of 1 to 65535"),
    ("--health-tcp", health("TCP", "65536"), "expected PORT: a port of 1 to 65535"),
    ("--health-grpc", health("GRPC", "80/" + 256 * "x"), "expected at most 255 characters"),
    ("--health-grpc", on_network(health("GRPC", "80"), "none"), "expected a command instead"),
    ("--ready-cmd", ready("NONE"), "expected a check, or none for no readiness"),
    ("--ready-start-period", ready(start_period=SECOND), "expected --ready-cmd, --ready-http"),
    ("--ready-retries", ready(retries=1), "expected --ready-cmd, --ready-http"),
    ("--health-interval", health(interval=MILLISECOND - 1), "expected 0s, or 1ms to 8760h0m0s"),
    ("--health-timeout", health(timeout=-1), "expected 0s, or 1ms to 8760h0m0s"),
    ("--health-start-period", health(start_period=2**63 - 1), "expected 0s, or 1ms to 8760h0m0s"),
    ("--health-retries", health(retries=1_000_001), "expected 0 to 1000000"),
    ("--update-parallelism", config(parallelism=100_001), "expected 0 to 100000"),
    ("--update-delay", config(delay=365 * 24 * HOUR + 1), "expected 0s to 8760h0m0s"),
    ("--update-monitor", config(monitor=-1), "expected 0s to 8760h0m0s"),
    ("--update-max-failure-ratio", config(max_failure_ratio=1.01), "expected 0 to 1"),
    ("--update-max-failure-ratio", config(max_failure_ratio=-0.1), "expected 0 to 1"),
    ("--update-max-failure-ratio", config(max_failure_ratio=math.nan), "expected 0 to 1"),
]


@pytest.mark.parametrize(
    ("field", "spec", "expected"), REFUSED, ids=[f"{n}-{row[0]}" for n, row in enumerate(REFUSED)]
)
def test_what_is_wrong_is_named_with_what_is_expected(
    field: str, spec: ServiceSpec, expected: str
) -> None:
    (problem,) = service_problems(spec)
    assert problem.field == field
    assert problem.expected.startswith(expected)


def test_a_rollback_does_not_roll_back() -> None:
    spec = build.service("web").spec
    spec = replace(spec, rollback_config=UpdateConfig(failure_action=FailureAction.ROLLBACK))
    (problem,) = service_problems(spec)
    assert str(problem) == (
        '--rollback-failure-action: value "rollback" is not valid: expected pause or continue'
    )


def test_a_port_of_the_host_has_no_readiness() -> None:
    host = specs.PortConfig(
        target_port=80, published_port=8080, publish_mode=specs.PublishMode.HOST
    )
    published = specs.EndpointSpec(ports=(host,))
    assert service_problems(replace(health("TCP", "80"), endpoint_spec=published)) == []
    (problem,) = service_problems(replace(ready("TCP", "80"), endpoint_spec=published))
    assert (problem.field, problem.value) == ("--publish", "8080:80")
    assert problem.expected.startswith("expected mode=ingress with a readiness check")


@pytest.mark.parametrize("kind", ["http", "tcp", "grpc"])
@given(text=st.one_of(st.text(max_size=20), st.from_regex(r"[0-9]{1,6}(/.*)?", fullmatch=True)))
def test_prop_a_problem_of_what_a_flag_accepts_is_named(kind: str, text: str) -> None:
    try:
        test = PARSERS[kind](text)
    except InvalidArgument:
        return
    for problem in service_problems(health(*test)):
        assert problem.field == f"--health-{kind}"
        assert str(problem).isprintable()


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        (health(interval=1_000), '--health-interval: value "1us" is not valid'),
        (ready(start_period=1_500_000), '--ready-start-period: value "1.5ms" is not valid'),
        (config(max_failure_ratio=2.0), '--update-max-failure-ratio: value "2" is not valid'),
        (config(delay=-SECOND), '--update-delay: value "-1s" is not valid'),
    ],
)
def test_a_value_is_written_as_a_user_would_type_it(spec: ServiceSpec, told: str) -> None:
    (problem,) = service_problems(spec)
    assert str(problem).startswith(told)
