"""Which check a task has: its spec's over its image's over Docker's defaults."""

import pytest

from agent.health.effective import effective
from pyswarm_core.clock import MILLISECOND, SECOND
from pyswarm_core.limits import (
    HEALTH_INTERVAL,
    HEALTH_RETRIES,
    HEALTH_START_INTERVAL,
    HEALTH_TIMEOUT,
)
from pyswarm_core.specs import HealthConfig

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
