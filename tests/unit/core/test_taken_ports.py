"""Whose port it is: a task's container is known by its cgroups."""

import pytest

from pyswarm_core.aio.ports import task_of

TASK = "0123456789abcdefghijklmno"


@pytest.mark.parametrize(
    ("cgroups", "task"),
    [
        (f"0::/pyswarm/{TASK}\n", TASK),
        (f"12:pids:/play/host1/containers/{TASK}/below\n0::/\n", TASK),
        ("0::/user.slice/user-0.slice/session-1.scope\n", ""),
        (f"0::/docker/{TASK * 3}\n", ""),
        (f"0::/pyswarm/{TASK.upper()}\n", ""),
        ("", ""),
    ],
)
def test_a_task_is_named_by_its_cgroup(cgroups: str, task: str) -> None:
    assert task_of(cgroups) == task
