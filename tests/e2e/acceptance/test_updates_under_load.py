"""No request fails while versions are replaced, good ones and bad ones, nor when leaders die."""

from collections.abc import Iterator

import pytest

from bench import deploys
from tests.e2e.acceptance.fleet import Fleet
from tests.e2e.acceptance.rollouts import CONVERGENCE_FAILED, QUICK, ids, reaches, status
from tests.e2e.acceptance.web import fetch, loaded

pytestmark = pytest.mark.slow

PORT = 18980
URLS = [f"http://10.99.0.{number}:{PORT}/index.html" for number in (1, 2, 3)]
IMAGE = "load:1"
CHECKED = (
    *("--health-http", "80/index.html", "--health-interval", "1s", "--health-retries", "2"),
    *("--health-start-period", "20s", "--health-start-interval", "200ms"),
)
BAD = ("--env-add", "PORT=81", "--health-start-period", "1s", "--health-interval", "500ms")
"""A version that listens on another port than its check asks."""


@pytest.fixture(scope="module")
def fleet(own_fleet: Fleet) -> Fleet:
    """Its controller is killed."""
    with deploys.web() as context:
        own_fleet("image", "build", "-q", "-t", IMAGE, str(context))
    return own_fleet


@pytest.fixture
def service(fleet: Fleet) -> Iterator[str]:
    """A web server on every host's port."""
    words = ("service", "create", "-q", "--name", "web", "--replicas", "4", "--network", "app")
    fleet(*words, "-p", f"{PORT}:80", *QUICK, *CHECKED, IMAGE)
    fleet.until(lambda: all(fetch(fleet, "lan", url) for url in URLS), "all hosts answer")
    yield "web"
    fleet("service", "rm", "web")


@pytest.mark.parametrize("order", ["stop-first", "start-first"])
def test_no_request_fails_during_an_update_with_a_health_check(
    fleet: Fleet, service: str, order: str
) -> None:
    before = ids(fleet, service)
    with loaded(fleet, URLS):
        words = ("--update-order", order, "--update-parallelism", "2", "--env-add", f"A={order}")
        fleet("service", "update", "-q", *words, service)
    assert len(ids(fleet, service)) == 4
    assert not set(ids(fleet, service)) & set(before)


@pytest.mark.parametrize("order", ["stop-first", "start-first"])
def test_a_version_that_never_becomes_healthy_rolls_back_and_no_request_fails(
    fleet: Fleet, service: str, order: str
) -> None:
    before = ids(fleet, service)
    with loaded(fleet, URLS):
        words = ("--update-order", order, "--update-failure-action", "rollback", *BAD)
        done = fleet.run("service", "update", *words, service)
        assert done.code == CONVERGENCE_FAILED, done
        reaches(fleet, service, "rollback_completed")
    assert len(ids(fleet, service)) == 4
    assert len(set(ids(fleet, service)) & set(before)) >= 3
    assert any("unhealthy" in task["Error"] for task in fleet.tasks(service))


def test_an_update_goes_on_under_the_next_leader_and_no_request_fails(
    fleet: Fleet, service: str
) -> None:
    before = set(ids(fleet, service))
    with loaded(fleet, URLS):
        fleet("service", "update", "-d", "--env-add", "A=1", service)
        for replaced in (1, 2):
            fleet.until(
                lambda at_least=replaced: len(before - set(ids(fleet, service))) >= at_least,  # type: ignore[misc]
                f"{replaced} are replaced",
            )
            fleet.kill("host1", "controller")
            fleet.until(lambda: fleet.run("service", "ls").code == 0, "a controller leads")
        reaches(fleet, service, "completed")
    assert len(ids(fleet, service)) == 4
    assert not before & set(ids(fleet, service))
    assert status(fleet, service)["Message"] == "update completed"
