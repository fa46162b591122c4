"""Which paths .dockerignore leaves out: moby's own table, and exceptions."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyswarm_core.docker.building.ignorefile import literal, parse_ignore_file
from pyswarm_core.errors import InvalidArgument

MOBY = [
    ("**", "file", True),
    ("**", "dir/file", True),
    ("**/", "dir/file", True),
    ("**/**", "dir/file", True),
    ("dir/**", "dir/file", True),
    ("dir/**", "dir/dir2/file", True),
    ("dir/**", "dir", False),
    ("**/dir2/*", "dir/dir2/file", True),
    ("**/dir2/*", "dir/dir2/dir2/file", True),
    ("**/dir2/**", "dir/dir2/dir2/file", True),
    ("**file", "file", True),
    ("**file", "dir/file", True),
    ("**/file", "dir/dir/file", True),
    ("**/file*", "dir/dir/file.txt", True),
    ("**/file*txt", "dir/dir/file.txt", True),
    ("**/file*.txt*", "dir/dir/file.txt", True),
    ("**/**/*.txt", "dir/dir/file.txt", True),
    ("**/**/*.txt2", "dir/dir/file.txt", False),
    ("**/*.txt", "file.txt", True),
    ("a**/*.txt", "a/file.txt", True),
    ("a**/*.txt", "a/dir/dir/file.txt", True),
    ("a[b-d]e", "ae", False),
    ("a[b-d]e", "ace", True),
    ("a[b-d]e", "aae", False),
    ("a[^b-d]e", "aze", True),
    (".*", ".foo", True),
    (".*", "foo", False),
    ("abc.def", "abcdef", False),
    ("abc.def", "abcZdef", False),
    ("abc?def", "abcZdef", True),
    ("a\\\\", "a\\", True),
    ("a\\b", "ab", True),
    ("**/foo/bar", "a/foo/bar", True),
    ("abc/def", "abc/def/g", True),
    ("c++", "c++/main.cc", True),
    ("a(b)|c{2}$", "a(b)|c{2}$", True),
    ("/top", "top/file", True),
    ("./a/../b/", "b/file", True),
    ("*", "a/b", True),
    ("*/*", "a", False),
    ("*/*", "a/b/c", True),
    ("a\nb", "b", True),
    ("#a\n \nb \r", "#a", False),
    ("#a\n \nb \r", "b", True),
    ("\ufeffa", "a", True),
    ("*\n!a", "a/b", False),
    ("*\n! /a", "a", False),
    ("*\n!a\na/b", "a/b/c", True),
    ("*.md\n!README*.md\nREADME-secret.md", "README.md", False),
    ("*.md\n!README*.md\nREADME-secret.md", "README-secret.md", True),
    ("a/**\n!a/b", "a/b", False),
    ("a\n!**/keep", "a/x/keep", False),
]


@pytest.mark.parametrize(("text", "path", "left_out"), MOBY)
def test_a_path_is_left_out_as_docker_does(text: str, path: str, left_out: bool) -> None:
    assert parse_ignore_file(text).excludes(path) is left_out


@pytest.mark.parametrize(
    ("text", "directory", "may"),
    [
        ("a\n!a/b", "a", True),
        ("a\n!**/b", "a/x", True),
        ("a\n!*/b", "a", True),
        ("a\n!b", "a", False),
        ("a\n!a/x/b", "a/y", False),
        ("a\n!a", "a/y", True),
    ],
)
def test_directories_in_which_an_exception_may_apply(text: str, directory: str, may: bool) -> None:
    assert parse_ignore_file(text).may_keep_below(directory) is may


@pytest.mark.parametrize(
    ("text", "line", "shown"),
    [("a\n[", 2, "["), ("a\\", 1, "a\\\\"), ("!", 1, "!"), ("[]", 1, "[]")],
)
def test_a_wrong_pattern_is_named_with_its_line(text: str, line: int, shown: str) -> None:
    with pytest.raises(InvalidArgument) as raised:
        parse_ignore_file(text, "x/.dockerignore")
    start = f'x/.dockerignore:{line}: pattern "{shown}" is not valid: expected'
    assert str(raised.value).startswith(start)


def buildah(pattern: str) -> re.Pattern[str]:
    """The regular expression that buildah 1.28 makes of a line."""
    made, at = "", 0
    cleaned = pattern.strip().strip("/")
    while at < len(cleaned):
        letter = cleaned[at]
        at += 1
        if letter == "*":
            made += "[^/]*"
        elif letter == "?":
            made += "[^/]"
        elif letter in ".$":
            made += "\\" + letter
        elif letter == "\\":
            made += "\\" + cleaned[at]
            at += 1
        else:
            made += letter
    return re.compile(f"(?s)^{made}(/.*)?\\Z")


NAMES = st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=8)


@given(NAMES, NAMES)
def test_prop_a_literal_pattern_matches_its_path(name: str, other: str) -> None:
    line = literal(name)
    assert not line.startswith(("#", "!"))
    assert buildah(line).match(name)
    assert buildah(line).match(f"{name}/below")
    if not any(map(str.isspace, name)) and other != name:
        assert not buildah(line).match(other)


@given(st.text("a*?/.+(|{^$b", min_size=1, max_size=8), st.text("ab/.+(|{^$", min_size=1))
def test_prop_plain_patterns_mean_the_same_to_buildah(pattern: str, path: str) -> None:
    found = parse_ignore_file(pattern)
    if found.is_plain and "**" not in pattern and path == path.strip("/"):
        (line,) = found.lines() or [""]
        assert bool(line and buildah(line).match(path)) == found.excludes(path)
