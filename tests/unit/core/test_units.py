"""Durations, sizes, CPUs and times as Docker users type and read them."""

import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyswarm_core.clock import HOUR, MILLISECOND, MINUTE, NEVER, SECOND, Instant, after
from pyswarm_core.docker import units
from pyswarm_core.errors import InvalidArgument

NOW = Instant(1_780_000_000 * SECOND)


@pytest.mark.parametrize(
    ("text", "duration"),
    [
        ("0", 0),
        ("10s", 10 * SECOND),
        ("500ms", 500 * MILLISECOND),
        ("1h30m", 90 * MINUTE),
        ("1.5h", 90 * MINUTE),
        (".5s", 500 * MILLISECOND),
        ("1h0m0.000000001s", HOUR + 1),
        ("7us", 7000),
        ("7µs", 7000),
        ("3ns", 3),
    ],
)
def test_durations_are_read_as_go_reads_them(text: str, duration: int) -> None:
    assert units.parse_duration(text) == duration


@pytest.mark.parametrize(
    ("text", "lifetime"), [("90d", 2160 * HOUR), ("1d", 24 * HOUR), ("90m", 90 * MINUTE)]
)
def test_lifetimes_are_days_or_durations(text: str, lifetime: int) -> None:
    assert units.parse_lifetime("--expires", text) == lifetime


def test_lifetimes_are_shown_in_days_if_they_are_whole() -> None:
    lifetimes = (2160 * HOUR, 36 * HOUR, 5 * MINUTE, 0)
    assert list(map(units.format_lifetime, lifetimes)) == ["90d", "36h0m0s", "5m0s", "0s"]


@pytest.mark.parametrize(
    "text", ["", "0", "0d", "0s", "-1d", "1.5d", "1d12h", "1w", "999999d", "١d"]
)
def test_other_lifetimes_are_refused_with_the_field(text: str) -> None:
    with pytest.raises(InvalidArgument, match=r"--expires: value .* expected days or a duration"):
        units.parse_lifetime("--expires", text)


@pytest.mark.parametrize(
    "text", ["", "10", "s", "1d", "10 s", "-1s", "1h30", "1,5s", "١s", "9" * 60 + "h", "1s\n"]
)
def test_other_durations_are_refused_with_an_example(text: str) -> None:
    with pytest.raises(InvalidArgument, match=r"duration: .* expected"):
        units.parse_duration(text)


def test_a_monstrous_duration_is_not_repeated_in_full() -> None:
    with pytest.raises(InvalidArgument) as caught:
        units.parse_duration("9" * 10_000_000)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    ("duration", "text"),
    [
        (0, "0s"),
        (1, "1ns"),
        (1500, "1.5µs"),
        (500 * MILLISECOND, "500ms"),
        (1500 * MILLISECOND, "1.5s"),
        (10 * SECOND, "10s"),
        (100 * SECOND, "1m40s"),
        (90 * MINUTE, "1h30m0s"),
        (-5 * SECOND, "-5s"),
    ],
)
def test_durations_are_written_as_go_writes_them(duration: int, text: str) -> None:
    assert units.format_duration(duration) == text


@given(st.integers(0, 2**63 - 1))
def test_prop_a_written_duration_reads_back(duration: int) -> None:
    assert units.parse_duration(units.format_duration(duration)) == duration


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("1024", 1024),
        ("64M", 64 << 20),
        ("64m", 64 << 20),
        ("64MB", 64 << 20),
        ("64MiB", 64 << 20),
        ("1.5g", 3 << 29),
        ("512k", 512 << 10),
        ("512 k", 512 << 10),
        ("10b", 10),
        ("1t", 1 << 40),
    ],
)
def test_sizes_are_read_in_powers_of_1024(text: str, size: int) -> None:
    assert units.parse_size(text) == size


@pytest.mark.parametrize(
    "text", ["", "M", "-1", "-64M", "64X", "1.m", "64MM", "9999999p", "٣", "1\n"]
)
def test_other_sizes_are_refused(text: str) -> None:
    with pytest.raises(InvalidArgument, match=r"size: .* expected"):
        units.parse_size(text)


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0B"),
        (1023, "1023B"),
        (64 << 20, "64MiB"),
        (3 << 29, "1.5GiB"),
        (8_211_611_648, "7.648GiB"),
        (2**63 - 1, "8EiB"),
    ],
)
def test_memory_is_written_in_binary_units(size: int, text: str) -> None:
    assert units.human_size(size) == text


def test_images_are_written_in_decimal_units() -> None:
    assert [units.decimal_size(n) for n in (4_270_000, 187_000_000, 999)] == [
        "4.27MB",
        "187MB",
        "999B",
    ]


@pytest.mark.parametrize(
    ("text", "nano_cpus"), [("0.5", 500_000_000), ("2", 2 * 10**9), (".25", 250_000_000), ("0", 0)]
)
def test_cpus_are_exact_billionths(text: str, nano_cpus: int) -> None:
    assert units.parse_cpus(text) == nano_cpus


@pytest.mark.parametrize("text", ["", "-1", "1e3", "0.0000000001", "half", "1/2", "9" * 30])
def test_other_cpus_are_refused(text: str) -> None:
    with pytest.raises(InvalidArgument, match="cpus"):
        units.parse_cpus(text)


@given(st.integers(0, 65_536 * 10**9))
def test_prop_written_cpus_read_back(nano_cpus: int) -> None:
    assert units.parse_cpus(units.format_cpus(nano_cpus)) == nano_cpus


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("1970-01-01T00:00:01Z", SECOND),
        ("1970-01-01T00:00:01.5Z", 1500 * MILLISECOND),
        ("1970-01-01T01:00:00+01:00", 0),
        ("1970-01-02", 24 * HOUR),
        ("1970-01-01T00:01", MINUTE),
        ("1136073600.000000001", 1_136_073_600 * SECOND + 1),
        ("1970-01-01T01", HOUR),
        ("1970-01-01T02+01:00", HOUR),
        ("10m", NOW - 10 * MINUTE),
        ("1h30m", NOW - 90 * MINUTE),
        ("-10m", NOW + 10 * MINUTE),
    ],
)
def test_times_are_read_as_since_takes_them(text: str, at: int) -> None:
    assert units.parse_time(text, NOW) == at


def test_a_time_without_zone_is_in_the_zone_of_its_reader() -> None:
    east = datetime.timezone(datetime.timedelta(hours=2))
    assert units.parse_time("1970-01-01T03:00:00", NOW, east) == HOUR


@pytest.mark.parametrize(
    "text",
    [
        "",
        "yesterday",
        "2026-02-30",
        "2026-01-01T25:00:00Z",
        "1969-01-01",
        "9999-01-01",
        "--1m",
        "-",
    ],
)
def test_other_times_are_refused(text: str) -> None:
    with pytest.raises(InvalidArgument, match=r"time: .* expected"):
        units.parse_time(text, NOW)


@given(st.integers(0, 2**63 - 1))
def test_prop_a_written_time_reads_back(at: int) -> None:
    assert units.parse_time(units.format_time(Instant(at)), NOW) == at


@pytest.mark.parametrize(
    ("duration", "text"),
    [
        (0, "Less than a second"),
        (SECOND, "1 second"),
        (59 * SECOND, "59 seconds"),
        (MINUTE, "About a minute"),
        (5 * MINUTE, "5 minutes"),
        (HOUR, "About an hour"),
        (2 * HOUR, "2 hours"),
        (47 * HOUR, "47 hours"),
        (72 * HOUR, "3 days"),
        (24 * 21 * HOUR, "3 weeks"),
        (24 * 90 * HOUR, "3 months"),
        (24 * 800 * HOUR, "2 years"),
    ],
)
def test_ages_are_said_as_docker_says_them(duration: int, text: str) -> None:
    assert units.human_duration(duration) == text


def test_a_time_in_the_future_was_just_now() -> None:
    assert units.ago(Instant(NOW + HOUR), NOW) == "Less than a second ago"


def test_no_instant_is_later_than_never() -> None:
    assert after(NEVER, 5) == NEVER
    assert after(Instant(7), 5) == 12
    assert after(Instant(7), NEVER) == NEVER


@pytest.mark.parametrize(
    ("text", "rate", "shown"),
    [
        ("10mbit", 10_000_000, "10Mbit"),
        ("1.5Gbit", 1_500_000_000, "1.5Gbit"),
        ("800kbit", 800_000, "800Kbit"),
        ("8000bit", 8000, "8Kbit"),
        ("0", 0, "0bit"),
    ],
)
def test_rates_are_bits_a_second_as_tc_has_them(text: str, rate: int, shown: str) -> None:
    assert (units.parse_bitrate(text), units.format_bitrate(rate)) == (rate, shown)


@pytest.mark.parametrize("text", ["", "10", "10m", "10mbps", "-1mbit", "1 mbit", "mbit", "1,5mbit"])
def test_other_rates_are_refused_with_an_example(text: str) -> None:
    with pytest.raises(InvalidArgument, match=r"rate: .* expected a number with kbit"):
        units.parse_bitrate(text)


@pytest.mark.parametrize(
    ("text", "numbers"), [("", set()), ("3", {3}), ("0-2,7", {0, 1, 2, 7}), ("1,1-1", {1})]
)
def test_sets_of_cpus_are_lists_of_ranges(text: str, numbers: set[int]) -> None:
    assert units.parse_set(text) == numbers


@pytest.mark.parametrize(
    "text", ["-1", "1-", "2-1", "a", "1,", "1 2", "8192", "0-99999", "0," * 2100 + "0"]
)
def test_other_sets_are_refused(text: str) -> None:
    with pytest.raises(InvalidArgument, match=r"set: .* expected"):
        units.parse_set(text)
