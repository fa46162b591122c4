"""Health and readiness of real containers."""

import shutil

import pytest

from tests.e2e.acceptance.fleet import Fleet

CHECKED = "checked:1"
CHECK = "--interval=200ms --timeout=1s --retries=15 CMD [ -e /tmp/well ] || { echo sick; exit 1; }"


@pytest.fixture(scope="module", autouse=True)
def _image(fleet: Fleet) -> None:
    """The image with a HEALTHCHECK that succeeds while /tmp/well exists."""
    context = fleet.home / "checked"
    shutil.copytree(fleet.home / "image", context, symlinks=True)
    with (context / "Containerfile").open("a") as recipe:
        recipe.write(f"\nHEALTHCHECK {CHECK}\n")
    fleet("image", "build", "-q", "-t", CHECKED, str(context))


def create(fleet: Fleet, service: str, *command: str) -> None:
    fleet(
        "service", "create", "-d", "--name", service, "--network", "app", "--restart-delay", "1h",
        "--stop-grace-period", "1s", "--entrypoint", "sh", CHECKED, "-c", *command,
    )  # fmt: skip


def test_a_task_runs_once_it_is_healthy_and_fails_once_it_is_not(
    fleet: Fleet, service: str
) -> None:
    create(fleet, service, "sleep 1; touch /tmp/well; exec sleep 1000")
    fleet.until(lambda: fleet.tasks(service)[0]["CurrentState"].startswith("Starting"), "it starts")
    fleet.until(lambda: fleet.running(service), "it is healthy")
    (task,) = fleet.running(service)
    assert fleet.task(task["ID"])["Status"]["Message"] == "started"
    assert fleet.contained(task["ID"], "rm", "/tmp/well").code == 0
    fleet.until(lambda: fleet.error_of(service), "it is unhealthy")
    assert fleet.error_of(service) == "unhealthy: sick"


def test_a_task_that_never_becomes_healthy_fails_with_the_last_output(
    fleet: Fleet, service: str
) -> None:
    create(fleet, service, "exec sleep 1000")
    fleet.until(lambda: fleet.error_of(service), "it is unhealthy")
    assert fleet.error_of(service) == "unhealthy: sick"
    assert not fleet.running(service)


def test_a_starting_task_is_stopped_without_waiting_for_its_check(
    fleet: Fleet, service: str
) -> None:
    create(fleet, service, "trap 'exit 0' TERM; while :; do sleep 0.1; done")
    fleet("service", "rm", service)
    fleet.until(lambda: not fleet.containers(), "no container is left")
