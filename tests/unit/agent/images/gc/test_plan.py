"""Which images are removed, in which order, and when a disk is full."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.images.base import Image, ImageConfig, LooseLayer
from agent.images.gc.plan import (
    LAYER_AGE_MIN,
    Disk,
    Item,
    Needed,
    Policy,
    aged,
    expired,
    is_full,
    name_of,
    pressure,
    removable,
)
from pyswarm_core.clock import HOUR, MINUTE

POLICY = Policy()


def image(name: str, *names: str, unique: int = 0) -> Image:
    return Image(
        id=name,
        digest=f"sha256:{name:0>64}",
        names=names,
        layers=(),
        config=ImageConfig(),
        unique_bytes=unique,
    )


A, B = image("a", "docker.io/library/a:1"), image("b", "docker.io/library/b:1", unique=7)


def test_an_image_ages_while_no_task_needs_it() -> None:
    needed = Needed(ids=frozenset({"a"}))
    ages = aged({"a": 5, "b": 5, "gone": 5}, (A, B), (), needed, 10)
    assert ages == {"a": 0, "b": 15}


def test_an_image_that_is_new_has_no_age() -> None:
    assert aged({}, (A,), (LooseLayer("l"),), Needed(), HOUR) == {"a": 0, "l": 0}


@pytest.mark.parametrize(
    "needed",
    [
        Needed(ids=frozenset({"a"})),
        Needed(references=frozenset({"docker.io/library/a:1"})),
        Needed(digests=frozenset({A.digest})),
    ],
)
def test_what_is_needed_is_never_removed(needed: Needed) -> None:
    found = removable({"a": HOUR, "b": HOUR}, (A, B), (), needed, POLICY)
    assert [item.id for item in found] == ["b"]


def test_the_longest_unused_is_removed_first() -> None:
    found = removable({"a": HOUR, "b": 2 * HOUR}, (A, B), (), Needed(), POLICY)
    assert found == [Item("b", 2 * HOUR, "b:1", 7), Item("a", HOUR, "a:1")]


def test_what_was_used_lately_stays() -> None:
    found = removable({"a": 2 * MINUTE - 1, "b": 2 * MINUTE}, (A, B), (), Needed(), POLICY)
    assert [item.id for item in found] == ["b"]


def test_a_layer_without_an_image_goes_first_after_an_hour() -> None:
    layers = (LooseLayer("old", 3), LooseLayer("new", 3))
    ages = {"old": LAYER_AGE_MIN, "new": LAYER_AGE_MIN - 1, "a": 5 * HOUR}
    found = removable(ages, (A,), layers, Needed(), POLICY)
    assert [item.id for item in found] == ["old", "a"]


def test_images_expire_by_age_only_if_an_age_is_set() -> None:
    items = [Item("a", HOUR), Item("b", 3 * HOUR), Item("l", 9 * HOUR, is_layer=True)]
    assert expired(items, POLICY) == []
    assert expired(items, Policy(max_age=2 * HOUR)) == [items[1]]


@pytest.mark.parametrize(
    ("percent", "was_full", "full"),
    [(84, False, False), (85, False, True), (84, True, True), (80, True, True), (79, True, False)],
)
def test_a_disk_is_full_from_high_until_below_low(percent: int, was_full: bool, full: bool) -> None:
    assert is_full(Disk(percent), POLICY, was_full=was_full) is full
    assert is_full(Disk(0, percent), POLICY, was_full=was_full) is full


def test_a_threshold_of_100_turns_it_off() -> None:
    assert not is_full(Disk(100), Policy(high=100, low=100), was_full=False)


def test_the_reason_names_what_is_used_up_and_what_helps() -> None:
    text = pressure(Disk(91), POLICY)
    assert text.startswith("the disk of its images is 91% full (limit 85%, again below 80%)")
    assert "pyswarm system prune --all" in text
    assert "has 96% of its inodes in use" in pressure(Disk(20, 96), POLICY)


def test_an_image_is_named_by_its_tag() -> None:
    pinned = f"docker.io/library/a@sha256:{'0' * 64}"
    assert name_of(image("a", pinned, "docker.io/library/a:1")) == "a:1"
    assert name_of(image("a")) == "<none>"


@given(
    st.dictionaries(st.sampled_from("abcdef"), st.integers(0, 5 * HOUR)),
    st.sets(st.sampled_from("abcdef")),
)
def test_nothing_needed_or_young_is_ever_in_the_plan(ages: dict[str, int], ids: set[str]) -> None:
    images = [image(name) for name in "abcdef"]
    for item in removable(ages, images, (), Needed(ids=frozenset(ids)), POLICY):
        assert item.id not in ids
        assert ages[item.id] >= POLICY.min_age
