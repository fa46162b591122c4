"""Paging reads every key once, whatever the keys, and counts no range again and again."""

from bisect import bisect_left

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.store import etcd_pages
from controller.store.base import prefix_end
from controller.store.etcd_messages import prefix_range
from controller.store.etcd_pages import Pages, halve


def read_all(keys: list[bytes], prefix: bytes) -> tuple[list[bytes], int]:
    """Read a sorted key space the way the store does; also how many keys etcd had to count."""
    pages = Pages(*prefix_range(prefix))
    seen: list[bytes] = []
    counted = 0
    while (span := pages.next_range()) is not None:
        first, end = span
        low = bisect_left(keys, first)
        high = len(keys) if end == b"\x00" else bisect_left(keys, end)
        counted += high - low
        page = keys[low : min(high, low + pages.limit)]
        seen += page
        if page:
            pages.weighed(len(page), 100 * len(page))
        pages.got(page[-1] if page else first, len(page), high - low)
    return sorted(seen), counted


@given(st.sets(st.binary(min_size=1, max_size=6), max_size=300), st.binary(max_size=2))
def test_prop_every_key_under_the_prefix_is_read_once(keys: set[bytes], prefix: bytes) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(etcd_pages, "SPLIT_KEYS", 10)
        patch.setattr(etcd_pages, "_FIRST_LIMIT", 3)
        patch.setattr(etcd_pages, "_LIMIT_MAX", 4)
        seen, _ = read_all(sorted(keys), prefix)
    assert seen == sorted(key for key in keys if key.startswith(prefix))


def test_a_long_range_is_counted_a_few_times_not_once_per_page() -> None:
    keys = [b"/pyswarm/chunk/%05d/%08d" % divmod(number, 500) for number in range(200_000)]
    seen, counted = read_all(keys, b"/pyswarm/chunk/")
    assert seen == keys
    assert counted < 5 * len(keys)


def test_a_page_that_does_not_fit_is_requested_again_in_parts() -> None:
    pages = Pages(b"a", b"b")
    span = pages.next_range()
    limit = pages.limit
    assert pages.too_large()
    assert pages.limit < limit
    assert pages.next_range() == span
    pages.limit = 1
    assert not pages.too_large()


@given(st.binary(max_size=12), st.binary(min_size=1, max_size=12))
def test_prop_a_half_lies_between_its_ends(one: bytes, other: bytes) -> None:
    first, end = sorted((one, other))
    middle = halve(first, end)
    if middle is not None and end != b"\x00":
        assert first < middle < end


@given(st.binary(max_size=5), st.binary(max_size=7))
def test_prop_a_prefix_s_end_is_just_above_its_keys(prefix: bytes, key: bytes) -> None:
    end = prefix_end(prefix)
    inside = key >= prefix and (not end or key < end)
    assert inside == key.startswith(prefix)
