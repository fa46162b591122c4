"""Words, variables and env files: the small grammars."""

import string
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compose.report import Refused
from compose.text.dotenv import variables
from compose.text.templates import interpolated, occurring
from compose.text.words import go_text, octal, resolved
from pyswarm_core.errors import InvalidArgument

NONE: dict[str, str] = {}
SET = {"SET": "value", "EMPTY": ""}


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("", None), ("~", None), ("NULL", None), ("true", True), ("FALSE", False),
        ("yes", "yes"), ("On", "On"), ("0644", 420), ("0o644", 420), ("0899", 899.0), ("00", 0),
        ("0x1F", 31), ("-0x1f", -31), ("0b101", 5), ("1_000", 1000), ("+12", 12), ("1e3", 1000.0),
        (".5", 0.5), ("1.", 1.0), (".inf", float("inf")), ("1.2.3", "1.2.3"), ("22:22", "22:22"),
        ("-", "-"), (".", "."), ("+", "+"), ("-0", -0.0), ("-00", 0),
        ("0x", "0x"), ("0x_", "0x_"), ("1__0", 10), ("=", "="),
        ("2024-01-02", "2024-01-02"), ("1" * 65, "1" * 65), ("\u0661", "\u0661"),
    ],
)  # fmt: skip
def test_plain_words(word: str, value: object) -> None:
    assert resolved(word) == value
    assert type(resolved(word)) is type(value)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (True, "true"), (1.10, "1.1"), (1000.0, "1000"), (1e6, "1e+06"), (123456.0, "123456"),
        (1234567.0, "1.234567e+06"), (1e-5, "1e-05"), (0.0001, "0.0001"), (-2.5e30, "-2.5e+30"),
        (0.0, "0"), (-0.0, "-0"), (float("inf"), "+Inf"), (float("-inf"), "-Inf"),
        (float("nan"), "NaN"),
        (12345678901234567890, "12345678901234567890"),
    ],
)  # fmt: skip
def test_numbers_are_printed_as_go_prints_them(value: float, text: str) -> None:
    assert go_text(value) == text


def test_permissions_are_octal() -> None:
    texts = ("0440", "0o440", "440", "8", "-1", "x")
    assert [octal(text) for text in texts] == [288, 288, 288, None, None, None]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("${A", "the closing } is missing"),
        ("x ${A:-b", "the closing } is missing"),
        ("${A:-{}", "the closing } is missing"),
        ("${}", "expected a name of letters, digits and _ after ${"),
        ("${1}", "expected a name"),
        ("${A/b/c}", "expected } or one of :- :? :+ - ? + after A"),
        ("${A:b}", "expected } or one of"),
        ("${A?}", "the variable A is required and not set"),
        ("${EMPTY:?say}", "the variable EMPTY is required and empty: say"),
        ("${A:?${SET} }", "required and not set: value "),
    ],
)
def test_a_template_that_is_refused_says_why(text: str, reason: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        interpolated(text, SET.get, lambda name: None)
    assert reason in str(caught.value)


def test_what_is_not_used_is_not_evaluated() -> None:
    unset: list[str] = []
    assert interpolated("${SET:-${A:?must}}", SET.get, unset.append) == "value"
    assert interpolated("${A:+${B}}", SET.get, unset.append) == ""
    assert interpolated("${EMPTY?no}", SET.get, unset.append) == ""
    assert unset == []
    assert interpolated("$A-${B}-$SET", SET.get, unset.append) == "--value"
    assert unset == ["A", "B"]
    found = occurring("$A ${B:-x${C:+d}} $$D")
    assert [(one.name, one.operator, one.written) for one in found] == [
        ("A", "", ""), ("B", ":-", "x${C:+d}"), ("C", ":+", "d"),
    ]  # fmt: skip


_UTF8 = st.text(st.characters(codec="utf-8"))
_LITERAL = st.text(string.ascii_letters + " :-?+=/.\"'\\\n\u00e9{}", max_size=6).filter(
    lambda text: text.count("{") == text.count("}") and _balanced(text)
)


def _balanced(text: str) -> bool:
    depth = 0
    for letter in text:
        depth += {"{": 1, "}": -1}.get(letter, 0)
        if depth < 0:
            return False
    return True


def _variable(inner: st.SearchStrategy[tuple[str, str]]) -> st.SearchStrategy[tuple[str, str]]:
    """A variable as it is written, and its value."""

    def made(drawn: tuple[str, str, tuple[str, str]]) -> tuple[str, str]:
        name, operator, (written, value) = drawn
        known = SET.get(name)
        is_there = known is not None and (known != "" or ":" not in operator)
        if "-" in operator:
            return f"${{{name}{operator}{written}}}", (known or "") if is_there else value
        return f"${{{name}{operator}{written}}}", value if is_there else ""

    names_ = st.sampled_from(["SET", "EMPTY", "UNSET"])
    return st.tuples(names_, st.sampled_from(["-", ":-", "+", ":+"]), inner).map(made)


def _several(one: st.SearchStrategy[tuple[str, str]]) -> st.SearchStrategy[tuple[str, str]]:
    def joined(parts: list[tuple[str, str]]) -> tuple[str, str]:
        return "".join(part for part, _ in parts), "".join(value for _, value in parts)

    return st.lists(one, max_size=4).map(joined)


_PIECES = st.one_of(
    _LITERAL.map(lambda text: (text, text)),
    st.just(("$$", "$")),
    st.just(("${SET}", "value")),
    st.just(("${UNSET}", "")),
)
_TEMPLATES = st.recursive(
    _several(_PIECES), lambda inner: _several(st.one_of(_variable(inner), _PIECES)), max_leaves=20
)


@given(_TEMPLATES)
def test_templates_within_templates_have_their_value(template: tuple[str, str]) -> None:
    written, value = template
    assert interpolated(written, SET.get, lambda name: None) == value


@given(st.text())
def test_a_doubled_dollar_is_a_dollar(text: str) -> None:
    escaped = text.replace("$", "$$")
    assert interpolated(escaped, SET.get, lambda name: None) == text


@given(st.text(max_size=40))
def test_any_text_is_interpolated_or_refused(text: str) -> None:
    with suppress(InvalidArgument):
        assert isinstance(interpolated("$" + text, SET.get, lambda name: None), str)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("A=1\nB C=2\n", "e:2:1: B: expected = after the name B"),
        ("\n\n=1\n", "e:3:1: expected NAME=VALUE, NAME: VALUE or NAME"),
        ("A=1\nB='x\n", "e:2:1: B: the closing ' is missing"),
        ('A="x"y\n', "e:1:1: A: expected nothing but a comment after the value"),
        ("A=${B\n", 'e:1:1: A: "${B": the closing } is missing'),
        ("A=${B:?no}\n", "e:1:1: A: the variable B is required and not set: no"),
        ("\u20ac=1\n", "e:1:1: expected NAME=VALUE"),
    ],
)
def test_a_fault_of_an_env_file_names_its_line(text: str, fault: str) -> None:
    with pytest.raises(Refused) as caught:
        variables(text.encode(), "e", NONE.get)
    assert str(caught.value).startswith(fault)


def test_a_fault_of_a_raw_env_file_names_its_line() -> None:
    with pytest.raises(Refused, match="e:2:1"):
        variables(b"A=1\nB C=2\n", "e", NONE.get, raw=True)


@given(st.dictionaries(st.from_regex(r"[A-Z_]{1,4}", fullmatch=True), _UTF8, max_size=4))
def test_quoted_values_are_read_as_they_are(values: dict[str, str]) -> None:
    clean = {name: value.replace("\r", "") for name, value in values.items()}
    written = "".join(f'{name}="{_escaped(value)}"\n' for name, value in clean.items())
    assert variables(written.encode(), "e", NONE.get) == clean


def _escaped(value: str) -> str:
    for letter, escape in (("\\", "\\\\"), ('"', '\\"'), ("$", "\\$"), ("\n", "\\n")):
        value = value.replace(letter, escape)
    return value
