"""A command that is one text, as Compose splits it."""

import pytest

from compose.text.commands import split
from pyswarm_core.errors import InvalidArgument
from tests.fixtures.composing import loaded, service


@pytest.mark.parametrize(
    ("text", "words", "end"),
    [
        ("", [], ""),
        ("echo hi", ["echo", "hi"], ""),
        ("a \t\r\n b", ["a", "b"], ""),
        ("a \"b c\" 'd e'", ["a", "b c", "d e"], ""),
        ("a \"\" ''", ["a", "", ""], ""),
        ('a"b"c', ["abc"], ""),
        ("\"$HOME\" '$HOME'", ["$HOME", "$HOME"], ""),
        (r'bash -c "echo \$HOME"', ["bash", "-c", "echo $HOME"], ""),
        (r'"a\nb" c\td', ["a\nb", "c\td"], ""),
        (r"'a\nb'", [r"a\nb"], ""),
        (r"a\ b \;", ["a b", ";"], ""),
        ("a $(b c) d", ["a", "$(b c)", "d"], ""),
        ("a `b c`", ["a", "`b c`"], ""),
        ("a && b", ["a"], "&"),
        ("a; b", ["a"], ";"),
        ("a|b", ["a"], "|"),
        ("a 2> f", ["a"], ">"),
        ("ab1>c", ["ab1"], ">"),
        ("a < f", ["a"], "<"),
        (";a", [], ";"),
        ("echo 'a;b' \"c|d\" $(e;f)", ["echo", "a;b", "c|d", "$(e;f)"], ""),
    ],
)
def test_a_command_is_split(text: str, words: list[str], end: str) -> None:
    assert split(text) == (words, end)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a 'b", "the closing ' is missing"),
        ('a "b', 'the closing " is missing'),
        ("a `b", "the closing ` is missing"),
        ("$(a", "the closing ) is missing"),
        ("a (b)", "( and ) in quotes"),
        ("a) b", "( and ) in quotes"),
        ("a\\", "does not end with a backslash"),
    ],
)
def test_a_command_that_does_not_end_is_refused(text: str, told: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        split(text)
    assert told in str(caught.value)


def test_what_is_dropped_of_a_command_is_told() -> None:
    found = loaded("services: {a: {image: x, command: 'a && b'}}\n")
    assert found.model["services"]["a"]["command"] == ["a"]
    [notice] = found.notices
    assert notice.path == "services.a.command"
    assert notice.text.startswith("& ends the command")


def test_files_say_together_what_one_of_them_lacks() -> None:
    found = service("ulimits: {nofile: {soft: 1, hard: 2}}", "ulimits: {nofile: {hard: 3}}")
    assert found["ulimits"] == {"nofile": {"soft": 1, "hard": 3}}
    found = service("provider: {type: a, options: {x: 1}}", "provider: {options: {y: [2]}}")
    assert found["provider"] == {"type": "a", "options": {"x": ["1"], "y": ["2"]}}
