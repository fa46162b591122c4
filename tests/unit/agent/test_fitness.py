"""Whether a host can start containers: what counts against it, and what clears it."""

import errno

import pytest

from agent.fitness import (
    FAILURES_MAX,
    RETRY,
    Fitness,
    after_check,
    after_failure,
    after_start,
    is_host_error,
    is_host_message,
)
from agent.network.base import NetworkFailed
from pyswarm_core.clock import SECOND, Instant
from pyswarm_core.errors import reason_of

NOW = Instant(1_000 * SECOND)


def failed_often(count: int) -> Fitness:
    fitness = Fitness()
    for _ in range(count):
        fitness = after_failure(fitness, "too many open files", NOW)
    return fitness


def test_a_host_without_room_is_unable_until_it_has_some() -> None:
    full = after_check(Fitness(), "no space left on device: /x", NOW)
    assert full.unable == "no space left on device: /x"
    assert after_check(full, "", NOW).unable == ""


def test_failures_in_a_row_make_a_host_unable_and_a_start_clears_it() -> None:
    assert failed_often(FAILURES_MAX - 1).unable == ""
    unable = failed_often(FAILURES_MAX)
    assert unable.unable == "too many open files"
    assert after_start(unable) == Fitness()
    assert after_failure(after_start(failed_often(FAILURES_MAX - 1)), "again", NOW).unable == ""


def test_a_host_with_failed_starts_tries_again_after_a_while() -> None:
    unable = failed_often(FAILURES_MAX)
    assert after_check(unable, "", Instant(NOW + RETRY - 1)).unable
    assert not after_check(unable, "", Instant(NOW + RETRY)).unable


def test_a_reason_is_bounded() -> None:
    assert len(after_check(Fitness(), "x" * 10_000, NOW).unable) <= 256


@pytest.mark.parametrize(
    ("error", "of_host"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "/x"), True),
        (OSError(errno.EAGAIN, "Resource temporarily unavailable"), True),
        (OSError(errno.ENOENT, "No such file or directory", "/x"), False),
        (NetworkFailed("cannot mount the namespace: No space left on device"), True),
        (NetworkFailed("no resolver for task t1: [Errno 24] Too many open files"), True),
        (NetworkFailed("network n1 is not assigned to this node"), False),
    ],
)
def test_failures_of_the_host_are_told_from_those_of_a_task(
    error: OSError | NetworkFailed, of_host: bool
) -> None:
    assert is_host_error(error) is of_host


@pytest.mark.parametrize(
    ("words", "of_host"),
    [
        ("create keyring `a1`: Disk quota exceeded", True),
        ("open `/proc/self/attr`: Too many open files in system", True),
        ("clone: Resource temporarily unavailable", False),
        ('exec: "/x": stat /x: no such file or directory', False),
        # A container's own: its read-only root, its ulimits, its texts.
        ("mkdir `/work`: Read-only file system", False),
        ("open `/dev/null`: Too many open files", False),
        ('exec: "/no space left on device": stat /no space left on device: not found', False),
    ],
)
def test_messages_of_a_child_are_about_the_host_or_its_container(words: str, of_host: bool) -> None:
    assert is_host_message(words) is of_host


def test_an_error_of_the_system_is_told_with_its_path() -> None:
    assert reason_of(OSError(errno.ENOSPC, "No space left", "/x")) == "no space left: /x"
    assert reason_of(OSError(errno.ENOSPC, "No space left", "/x"), named="/x") == "no space left"
    assert reason_of(OSError(errno.ENOSPC, "No space left"), "/y") == "no space left: /y"
    assert reason_of(OSError(errno.EMFILE, "Too many open files")) == "too many open files"
    assert reason_of(OSError("odd")) == "odd"
