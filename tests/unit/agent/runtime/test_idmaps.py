"""Which range of ids a container gets."""

import errno
import os
from pathlib import Path

import pytest

from agent.runtime.isolation.idmaps import (
    FIRST,
    RANGES,
    SIZE,
    assign,
    choose,
    mappings,
    start_of,
    taken,
)

ALL = {FIRST + number * SIZE for number in range(RANGES)}


def test_ranges_end_before_the_ids_that_some_programs_take_for_negative() -> None:
    assert max(ALL) + SIZE == 1 << 31


def test_a_free_range_is_chosen_where_the_container_s_id_says() -> None:
    first = choose("a", set())
    assert first in ALL
    assert choose("a", set()) == first
    assert choose("b", set()) != first
    assert choose("a", {first}) in ALL - {first}
    last = max(ALL)
    assert choose("a", ALL - {last}) == last


def test_no_free_range_is_an_error() -> None:
    with pytest.raises(OSError, match="all 4096 ranges") as refused:
        choose("a", ALL)
    assert refused.value.errno == errno.ENOSPC


def test_mappings_are_of_users_and_groups() -> None:
    row = {"containerID": 0, "hostID": FIRST, "size": SIZE}
    assert mappings(FIRST) == {"uidMappings": [row], "gidMappings": [row]}


def test_only_a_range_that_was_assigned_is_one(tmp_path: Path) -> None:
    for name in ("shared", "own"):
        (tmp_path / name / "upper").mkdir(parents=True)
        # Root of a container may do so with its root directory.
        os.chown(tmp_path / name / "upper", FIRST + 7, FIRST + 7)
    assign(tmp_path / "own", FIRST + SIZE)
    assert [start_of(tmp_path / name) for name in ("shared", "own", "none")] == [0, FIRST + SIZE, 0]
    assert taken(tmp_path) == {FIRST + SIZE}
