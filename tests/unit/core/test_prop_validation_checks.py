"""Whatever the validation allows can be stored, and the agent can carry it out."""

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from agent.health.effective import effective
from pyswarm_core.clock import MILLISECOND
from pyswarm_core.docker.checks import NONE, PROBES
from pyswarm_core.kinds import SERVICE, encode
from pyswarm_core.specs import FailureAction, HealthConfig, UpdateConfig, UpdateOrder
from pyswarm_core.validation import service_problems
from pyswarm_core.validation.ranges import DURATION_MAX
from tests.fixtures import build

WORDS = st.sampled_from(["NONE", "CMD", "CMD-SHELL", "HTTP", "TCP", "GRPC", "", "cmd", "EXEC"])
ARGUMENTS = st.one_of(
    st.text(max_size=8),
    st.from_regex(r"[0-9]{1,6}(/[!-~]{0,6})?", fullmatch=True),
    st.sampled_from(["80", "80/", "80/a", "0/", "65536", "٣", "80/ü", "80/\r\nHost: x", "080"]),
)
EDGES = (-1, 0, 1, MILLISECOND - 1, MILLISECOND, DURATION_MAX, DURATION_MAX + 1)
NUMBERS = st.one_of(st.sampled_from(EDGES), st.integers(0, DURATION_MAX), st.just(2**63 - 1))


@given(
    test=st.tuples(WORDS, st.lists(ARGUMENTS, max_size=3)).map(lambda t: (t[0], *t[1])),
    durations=st.tuples(NUMBERS, NUMBERS, NUMBERS, NUMBERS),
    retries=st.integers(0, 2**32 - 1),
)
def test_prop_an_allowed_check_is_stored_and_carried_out(
    test: tuple[str, ...], durations: tuple[int, int, int, int], retries: int
) -> None:
    interval, timeout, start_period, start_interval = durations
    config = HealthConfig(
        test=test,
        interval=interval,
        timeout=timeout,
        start_period=start_period,
        start_interval=start_interval,
        retries=retries,
    )
    web = build.service("web")
    template = web.spec.task_template
    container = replace(template.container_spec, healthcheck=config)
    spec = replace(web.spec, task_template=replace(template, container_spec=container))
    if list(service_problems(spec)):
        return
    stored = replace(web, spec=spec)
    assert SERVICE.decode(encode(stored)) == stored
    check = effective(config)
    assert (check is None) == (test[0] == NONE)
    if check is None:
        return
    assert check.test == test
    assert min(check.interval, check.timeout, check.start_interval) >= MILLISECOND
    assert check.retries >= 1
    if test[0] in PROBES:
        port, _, rest = test[1].partition("/")
        assert 1 <= int(port) <= 65535
        assert rest.isascii()
        assert rest.isprintable()
        assert " " not in rest


@given(
    parallelism=st.integers(0, 2**32 - 1),
    delay=NUMBERS,
    monitor=NUMBERS,
    ratio=st.floats(allow_nan=True),
    action=st.sampled_from(FailureAction),
    order=st.sampled_from(UpdateOrder),
)
def test_prop_allowed_settings_of_updates_are_stored_as_they_are(
    parallelism: int,
    delay: int,
    monitor: int,
    ratio: float,
    action: FailureAction,
    order: UpdateOrder,
) -> None:
    config = UpdateConfig(
        parallelism=parallelism,
        delay=delay,
        monitor=monitor,
        max_failure_ratio=ratio,
        failure_action=action,
        order=order,
    )
    web = build.service("web")
    stored = replace(web, spec=replace(web.spec, update_config=config))
    if not list(service_problems(stored.spec)):
        assert SERVICE.decode(encode(stored)) == stored
        assert 0 <= ratio <= 1
