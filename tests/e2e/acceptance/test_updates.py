"""Rolling updates of real containers: pace, order, failures, pauses, resumption and rollback."""

import pytest

from pyswarm_core.clock import seconds
from pyswarm_core.limits import BARRIER_MAX
from tests.e2e.acceptance.fleet import IMAGE, RUNNING, Fleet
from tests.e2e.acceptance.rollouts import (
    BROKEN,
    create,
    ends_within,
    fails,
    ids,
    reaches,
    status,
    templates,
    unfinished,
)

pytestmark = pytest.mark.slow

NEVER_HEALTHY = (
    *("--health-cmd", "false", "--health-start-period", "1h"),
    *("--health-start-interval", "200ms", "--health-interval", "200ms", "--health-retries", "1"),
)
UNHEALTHY = ("--health-cmd", "false", "--health-interval", "200ms", "--health-retries", "2")


def test_an_update_takes_as_many_slots_at_once_as_it_may_and_waits_between(
    fleet: Fleet, service: str
) -> None:
    before = create(fleet, service, 5, "--update-parallelism", "2", "--update-delay", "1h")
    fleet("service", "update", "-d", "--env-add", "A=1", service)
    fleet.until(
        lambda: len(set(ids(fleet, service)) - set(before)) == 2 and len(ids(fleet, service)) == 5,
        "two slots are updated",
    )
    assert status(fleet, service)["State"] == "updating"
    assert "delay" in fleet("why", service)
    # Settings are no new update: this one goes on by them.
    fleet("service", "update", "-d", "--update-delay", "0s", service)
    assert "CompletedAt" in reaches(fleet, service, "completed")
    after = ids(fleet, service)
    assert len(after) == 5
    assert not set(before) & set(after)
    assert all("A=1" in spec["Env"] for spec in templates(fleet, after))


@pytest.mark.parametrize("order", ["start-first", "stop-first"])
def test_the_order_says_which_of_a_slots_tasks_goes_first(
    fleet: Fleet, service: str, order: str
) -> None:
    before = create(fleet, service, 2, "--update-order", order)
    fleet("service", "update", "-d", *NEVER_HEALTHY, service)
    fleet.until(lambda: unfinished(fleet, service), "a new task starts")
    left = 2 if order == "start-first" else 1
    fleet.until(lambda: len(ids(fleet, service)) == left, f"{left} old tasks run beside it")
    assert set(ids(fleet, service)) <= set(before)
    assert {task["CurrentState"].split()[0] for task in unfinished(fleet, service)} <= {
        "Starting", "Ready", "Preparing", "Accepted", "Assigned"
    }  # fmt: skip
    assert status(fleet, service)["State"] == "updating"
    fleet("service", "update", "-q", "--no-healthcheck", service)
    assert not set(ids(fleet, service)) & set(before)
    assert len(ids(fleet, service)) == 2


def test_an_update_whose_task_fails_pauses_and_the_next_update_resumes_it(
    fleet: Fleet, service: str
) -> None:
    before = create(fleet, service, 3)
    done = fails(fleet, "service", "update", *BROKEN, service)
    assert "update paused due to failure or early termination of task" in done.err
    assert status(fleet, service)["State"] == "paused"
    assert len(set(ids(fleet, service)) & set(before)) == 2
    fleet("service", "update", "-q", "--entrypoint", "sh /server", service)
    reaches(fleet, service, "completed")
    after = ids(fleet, service)
    assert len(after) == 3
    assert not set(after) & set(before)


def test_a_paused_update_resumes_without_a_change_once_its_cause_is_gone(
    fleet: Fleet, service: str
) -> None:
    other = f"{service}-db"
    create(fleet, service, 2, "--network", "app")
    asks = f"wget -q -O /dev/null http://{other}/healthy"
    check = ("--health-cmd", asks, "--health-interval", "300ms", "--health-retries", "3")
    fails(fleet, "service", "update", "-q", *check, service)
    assert status(fleet, service)["State"] == "paused"
    create(fleet, other, 1, "--network", "app")
    try:
        fleet.until(lambda: len(ids(fleet, service)) == 2, "the failed slot was tried again")
        fleet("service", "update", "-q", service)
        reaches(fleet, service, "completed")
        assert len(ids(fleet, service)) == 2
    finally:
        fleet("service", "rm", other)


def test_failures_within_the_ratio_and_the_action_continue_do_not_stop_an_update(
    fleet: Fleet, service: str
) -> None:
    before = create(fleet, service, 3, "--update-failure-action", "continue")
    fleet("service", "update", "-d", *BROKEN, service)
    reaches(fleet, service, "completed")
    assert not ids(fleet, service), "every slot was updated, though none runs"
    fleet("service", "rollback", "-q", service)
    assert len(ids(fleet, service)) == 3
    assert not set(ids(fleet, service)) & set(before)
    assert status(fleet, service)["State"] == "rollback_completed"


@pytest.mark.parametrize("bad", [BROKEN, UNHEALTHY], ids=["broken", "unhealthy"])
def test_a_bad_version_rolls_back_by_itself_and_leaves_the_other_slots_alone(
    fleet: Fleet, service: str, bad: tuple[str, ...]
) -> None:
    before = create(fleet, service, 3, "--update-failure-action", "rollback")
    fails(fleet, "service", "update", *bad, service)
    found = reaches(fleet, service, "rollback_completed")
    assert found["Message"] == "rollback completed"
    assert len(ids(fleet, service)) == 3
    assert len(set(ids(fleet, service)) & set(before)) == 2
    assert "was already rolled back" in fleet.refused("service", "rollback", service)
    if bad == UNHEALTHY:
        assert any("unhealthy" in task["Error"] for task in fleet.tasks(service))


def test_a_service_returns_to_any_version_of_its_history(fleet: Fleet, service: str) -> None:
    create(fleet, service, 2, "--update-parallelism", "0", "--rollback-parallelism", "0")
    for value in ("one", "two"):
        fleet("service", "update", "-q", "--env-add", f"A={value}", service)
    assert "A=two" in fleet("service", "history", "--diff", service)
    versions = [row["Version"] for row in fleet.rows("service", "history", service)]
    assert len(versions) == 3
    fleet("service", "rollback", "-q", "--to", str(min(versions, key=int)), service)
    assert all(
        "Env" not in spec or not spec["Env"] for spec in templates(fleet, ids(fleet, service))
    )
    fleet("service", "update", "-q", "--rollback", service)
    assert all("A=two" in spec["Env"] for spec in templates(fleet, ids(fleet, service)))
    assert "that is kept" in fleet.refused("service", "rollback", "--to", "999999", service)


def test_a_global_service_is_updated_in_the_same_way(fleet: Fleet, service: str) -> None:
    fleet("service", "create", "-q", "--name", service, "--mode", "global", IMAGE)
    before = ids(fleet, service)
    fails(fleet, "service", "update", "-q", *BROKEN, "--update-monitor", "1s", service)
    assert len(set(ids(fleet, service)) & set(before)) == 2
    fleet("service", "rollback", "-q", service)
    assert len(ids(fleet, service)) == 3
    assert len(set(ids(fleet, service)) & set(before)) == 2


def test_start_first_without_room_falls_back_and_says_so(fleet: Fleet, service: str) -> None:
    """One task with this port fits on each of the three hosts."""
    before = create(
        fleet,
        service,
        3,
        "--update-order",
        "start-first",
        "-p",
        "published=18990,target=80,mode=host",
    )
    fleet("service", "update", "-q", "--env-add", "A=1", service)
    after = ids(fleet, service)
    assert len(after) == 3
    assert not set(after) & set(before)
    assert "stopped first" in fleet("events", "--since", "10m", "--until", "0s")


def test_scaling_and_draining_during_an_update_converge(fleet: Fleet, service: str) -> None:
    before = create(fleet, service, 4, "--update-delay", "500ms")
    fleet("service", "update", "-d", "--env-add", "A=1", service)
    fleet("service", "scale", "-d", f"{service}=6")
    fleet("node", "update", "--availability", "drain", "host2")
    try:
        reaches(fleet, service, "completed")
        fleet.until(lambda: len(ids(fleet, service)) == 6, "six run")
        after = fleet.running(service)
        assert {task["Node"] for task in after} <= {"host1", "host3"}
        assert not {task["ID"] for task in after} & set(before)
        assert all("A=1" in s["Env"] for s in templates(fleet, ids(fleet, service)))
    finally:
        fleet("node", "update", "--availability", "active", "host2")


def test_an_update_of_settings_labels_and_the_same_again_replaces_nothing(
    fleet: Fleet, service: str
) -> None:
    create(fleet, service, 2)
    fleet("service", "update", "-q", "--env-add", "A=1", service)
    before, found = ids(fleet, service), status(fleet, service)
    fleet("service", "update", "-q", "--env-add", "A=1", service)
    fleet("service", "update", "-q", "--update-order", "start-first", "--label-add", "a=b", service)
    assert (ids(fleet, service), status(fleet, service)) == (before, found)
    fleet("service", "update", "-q", "--force", service)
    assert not set(ids(fleet, service)) & set(before)


def test_a_service_with_an_update_to_an_unreachable_image_is_removed_at_once(
    fleet: Fleet, service: str
) -> None:
    """The new tasks never served, so their stop waits for no host."""
    create(fleet, service, 3, "--network", "app")
    image = "10.99.0.77:5000/nowhere:1"
    fleet("service", "update", "-d", "--no-resolve-image", "--image", image, service)
    fleet.until(lambda: unfinished(fleet, service), "a new task tries to pull")
    ends_within(fleet, seconds(BARRIER_MAX) - 2, "service", "rm", service)
    assert not fleet.rows("service", "ls")
    assert not fleet.run("service", "ps", service, "--filter", RUNNING).out
