"""Patterns of users: what matches, and that each costs little whatever it is."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyswarm_core.errors import InvalidArgument
from pyswarm_core.logs.limits import GREP_BYTES, GREP_MEMORY, GREP_PROGRAM
from pyswarm_core.logs.patterns import pattern

TEXTS = [b"a b", b"", b"x\0y", b"\xff\xfe error", b"Error: 5", "ü".encode(), b"ab", b"\r"]


@pytest.mark.parametrize(
    "text",
    ["error", "(?i)error", "^$", "x*", "^a", "b$", r"\Aa", r"b\z", r"\s", "[^a]", "\x00", ".*",
     "a|x", r"\d$", "(?:a)b", "()", "(?-m)^a", "^a.*b$", r"\r$"],
)  # fmt: skip
def test_lines_match_as_each_alone(text: str) -> None:
    python = text.replace(r"\z", r"\Z").replace("(?-m)", "")
    expected = [n for n, line in enumerate(TEXTS) if re.search(python.encode(), line)]
    assert pattern("--grep", text).matching(TEXTS) == expected


@given(st.lists(st.text("ab\r \0", max_size=4)), st.sampled_from(["a", "^b?$", "a+b*$", r"\s", ""]))
def test_lines_are_matched_one_by_one(lines: list[str], text: str) -> None:
    texts = [line.encode() for line in lines]
    expected = [n for n, line in enumerate(texts) if re.search(text.encode(), line)]
    assert pattern("--grep", text).matching(texts) == expected


def test_bytes_that_are_no_text_have_no_letters() -> None:
    assert pattern("--grep", "^.$").matching([b"\xff", "ü".encode(), b"ab"]) == [1]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("(", "missing ): ("),
        ("[a-", "missing ]: [a-"),
        ("*a", "no argument for repetition operator: *"),
        (r"(a)\1", r"invalid escape sequence: \1"),
        ("(?=a)", "invalid perl operator: (?="),
        ("a{1001}", "invalid repetition size: {1001}"),
    ],
)
def test_a_pattern_that_is_not_valid_is_refused_with_the_reason(text: str, reason: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        pattern("--grep", text)
    expected = f"is not valid: expected a regular expression of RE2: {reason}"
    assert str(caught.value).startswith("--grep: value ")
    assert str(caught.value).endswith(expected)


def test_a_pattern_that_costs_too_much_is_refused() -> None:
    assert (GREP_BYTES, GREP_PROGRAM, GREP_MEMORY) == (1024, 4_000, 1 << 20)
    pattern("--grep", "x" * 1024)
    for text in ("x" * 1025, "ü" * 513, "(.{100}){9}", r"(?i)\pL{1000}"):
        with pytest.raises(InvalidArgument):
            pattern("--grep", text)


def test_a_pattern_that_makes_others_backtrack_for_years_is_matched() -> None:
    texts = [b"a" * 65_536, b"ab" * 32_768]
    assert pattern("--grep", "(a*)*(a|aa)+(a?){50}c").matching(texts) == []
