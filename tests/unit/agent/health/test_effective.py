"""Which check a task has: its spec's over its image's over Docker's defaults."""

import pytest

from agent.health.effective import READINESS, effective
from agent.health.verdict import Check, begun, judged
from pyswarm_core.clock import HOUR, MILLISECOND, SECOND, Instant
from pyswarm_core.limits import (
    HEALTH_INTERVAL,
    HEALTH_RETRIES,
    HEALTH_START_INTERVAL,
    HEALTH_TIMEOUT,
    READY_START_INTERVAL,
    READY_START_PERIOD,
)
from pyswarm_core.specs import HealthConfig
from pyswarm_core.views import CheckResult

OF_IMAGE = HealthConfig(
    test=("CMD-SHELL", "curl -f localhost"),
    interval=7 * SECOND,
    timeout=2 * SECOND,
    start_period=9 * SECOND,
    start_interval=SECOND,
    retries=5,
)


def test_the_defaults_are_dockers() -> None:
    assert (HEALTH_INTERVAL, HEALTH_TIMEOUT) == (30 * SECOND, 30 * SECOND)
    assert (HEALTH_START_INTERVAL, HEALTH_RETRIES) == (5 * SECOND, 3)
    assert effective(HealthConfig(test=("TCP", "80"))) == HealthConfig(
        test=("TCP", "80"),
        interval=30 * SECOND,
        timeout=30 * SECOND,
        start_period=0,
        start_interval=5 * SECOND,
        retries=3,
    )


def test_an_empty_spec_has_the_images_check() -> None:
    assert effective(HealthConfig(), OF_IMAGE) == OF_IMAGE
    assert effective(HealthConfig(), HealthConfig()) is None


def test_each_field_of_the_spec_replaces_the_images() -> None:
    spec = HealthConfig(test=("HTTP", "80/ok"), interval=SECOND, retries=1)
    found = effective(spec, OF_IMAGE)
    assert found == HealthConfig(
        test=("HTTP", "80/ok"),
        interval=SECOND,
        timeout=2 * SECOND,
        start_period=9 * SECOND,
        start_interval=SECOND,
        retries=1,
    )
    assert effective(HealthConfig(retries=2), OF_IMAGE).test == OF_IMAGE.test  # type: ignore[union-attr]


def test_none_disables_the_images_check() -> None:
    assert effective(HealthConfig(test=("NONE",)), OF_IMAGE) is None
    assert effective(HealthConfig(), HealthConfig(test=("NONE",))) is None


@pytest.mark.parametrize(
    "test", [("CMD",), ("CMD-SHELL",), ("RUN", "x"), ("TCP", "80"), ("",), ("HTTP", "80/")]
)
def test_an_image_without_a_command_has_no_check(test: tuple[str, ...]) -> None:
    assert effective(HealthConfig(), HealthConfig(test=test)) is None


def test_impossible_numbers_of_an_image_become_possible_ones() -> None:
    image = HealthConfig(
        test=("CMD", "x"), interval=1, timeout=-1, start_period=-5, start_interval=2, retries=-1
    )
    found = effective(HealthConfig(), image)
    assert found is not None
    assert (found.interval, found.start_interval) == (MILLISECOND, MILLISECOND)
    assert (found.timeout, found.start_period, found.retries) == (30 * SECOND, 0, 3)


def test_readiness_is_checked_every_second_until_it_succeeds() -> None:
    assert (READY_START_PERIOD, READY_START_INTERVAL) == (8760 * HOUR, SECOND)
    config = effective(HealthConfig(test=("TCP", "80")), READINESS)
    assert config is not None
    started = Instant(100 * SECOND)
    check = begun(Check(config=config), started)
    for second in (1, 2, 3):
        assert check.due_at == started + second * SECOND
        failed = CheckResult(started_at=check.due_at, duration=0, exit_code=1, output="")
        check = judged(check, failed, started)
    succeeded = CheckResult(started_at=check.due_at, duration=0, exit_code=0, output="")
    assert judged(check, succeeded, started).due_at == check.due_at + 30 * SECOND
    given = HealthConfig(test=("TCP", "80"), start_period=SECOND, start_interval=2 * SECOND)
    found = effective(given, READINESS)
    assert found is not None
    assert (found.start_period, found.start_interval) == (SECOND, 2 * SECOND)
