"""Dockerfiles: lines, stages, images, and what is wrong in them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyswarm_core.docker.building.dockerfile import INSTRUCTIONS, expanded, parse_dockerfile
from pyswarm_core.errors import InvalidArgument

STAGES = """\
# syntax=docker/dockerfile:1
ARG VERSION=18
ARG FLAVOUR

FROM node:${VERSION}${FLAVOUR:+-$FLAVOUR} AS Builder
WORKDIR /app
# a comment
COPY --chown=1:1 a \\
  # within
  b \\

  /app/
run make && \\
    make install

FROM --platform=linux/amd64 builder
COPY --from=builder /a /b
COPY --from=busybox:1 /c /d
COPY --from=0 /e /f
RUN --mount=type=bind,from=tools:2,target=/x ls
"""


def test_instructions_have_their_lines_and_stages() -> None:
    found = parse_dockerfile(STAGES)
    assert [each.line for each in found.heading] == [2, 3]
    assert [(each.name, each.base, each.start.line) for each in found.stages] == [
        ("builder", "node:${VERSION}${FLAVOUR:+-$FLAVOUR}", 5),
        ("1", "builder", 16),
    ]
    first = [(each.name, each.line, each.flags) for each in found.stages[0].steps]
    assert first == [("WORKDIR", 6, ()), ("COPY", 8, ("--chown=1:1",)), ("RUN", 13, ())]
    assert found.stages[0].steps[1].text.split() == ["COPY", "--chown=1:1", "a", "b", "/app/"]


def test_images_are_those_that_no_stage_makes() -> None:
    found = parse_dockerfile(STAGES)
    assert found.images({}) == ("node:18", "busybox:1", "tools:2")
    assert found.images({"FLAVOUR": "slim", "VERSION": "20"}, "builder") == ("node:20-slim",)
    assert parse_dockerfile("FROM scratch\nCOPY a /").images({}) == ()


def test_a_target_is_a_name_or_a_number() -> None:
    found = parse_dockerfile(STAGES)
    assert len(found.until("BUILDER")) == len(found.until("0")) == 1
    assert len(found.until("")) == len(found.until("1")) == 2
    with pytest.raises(InvalidArgument) as raised:
        found.until("build")
    expected = "expected a stage of Dockerfile: builder, 1; did you mean builder?"
    assert str(raised.value) == f'--target: value "build" is not valid: {expected}'


def test_layers_are_counted_through_stages() -> None:
    found = parse_dockerfile(STAGES)
    assert (found.layers(), found.layers("builder")) == (6, 2)
    assert parse_dockerfile("FROM a\nENV A=1\nADD a /\nUSER 1").layers() == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "Dockerfile has no instructions: expected FROM IMAGE first"),
        ("# nothing\n", "Dockerfile has no instructions"),
        ("ARG A=1", "Dockerfile has no FROM"),
        ("FROM a\n\nRUNN b", 'Dockerfile:3: instruction "RUNN" is not valid: expected one of ADD,'),
        ("FROM a\nrunn b", "WORKDIR; did you mean RUN?"),
        ("RUN a", 'Dockerfile:1: instruction "RUN a" is not valid: expected FROM IMAGE before it'),
        ("FROM", 'Dockerfile:1: instruction "FROM" is not valid: expected at least one argument'),
        ("FROM a as", "Dockerfile:1"),
        ("FROM a AS b c", "expected FROM IMAGE or FROM IMAGE AS STAGE"),
        ("FROM a # the base", "or FROM IMAGE AS STAGE; a comment has a line of its own"),
        ("FROM a\nENV A", 'Dockerfile:2: instruction "ENV A" is not valid: expected KEY=VALUE'),
        ("FROM a\nENV A=1 B", 'expected KEY=VALUE in place of "B"'),
        ("FROM a\nLABEL A=x y", 'expected KEY=VALUE in place of "y"'),
        ("FROM a\nCOPY", "Dockerfile:2"),
        ("FROM a\nCOPY --chown=1", "Dockerfile:2"),
        ("FROM a\nRUN echo " + "x" * 70_000, "Dockerfile:2: a line has more than 65535 bytes"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(text: str, said: str) -> None:
    with pytest.raises(InvalidArgument) as raised:
        parse_dockerfile(text)
    assert said in str(raised.value)


def test_an_unknown_instruction_is_answered_with_those_that_exist() -> None:
    with pytest.raises(InvalidArgument) as raised:
        parse_dockerfile("FROM a\nINCLUDE b")
    assert all(name in str(raised.value) for name in INSTRUCTIONS)


@pytest.mark.parametrize(
    "text",
    [
        "FROM a\nENV A 1 2\nENV B=\"x y\" C='z w' D=a\\ b\nLABEL a=b",
        "\ufeffFROM a\r\nRUN b\r\n",
        "# escape=`\nFROM a\nRUN b `\n  c",
        "FROM\ta\nRUN\tb <<EOF",
        "FROM a\nRUN echo $((1 << 2)) <<< x",
        'FROM a\nCMD ["a", "b"]\nENTRYPOINT []',
        "FROM a\nHEALTHCHECK NONE",
        "FROM a\nONBUILD RUN b",
    ],
)
def test_valid_files_are_accepted(text: str) -> None:
    assert not parse_dockerfile(text).heredocs


def test_heredocs_are_found_with_their_lines() -> None:
    text = "FROM a\nRUN <<EOF\nRUNN x\nEOF\nCOPY <<-'ONE' <<TWO /a/\n\ta\n\tONE\nb\nTWO\nUSER x\n"
    found = parse_dockerfile(text)
    assert [each.line for each in found.heredocs] == [2, 5]
    assert [each.line for each in found.stages[0].steps] == [2, 5, 10]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("$A-${B}", "1-"),
        ("${B:-x}${A:-x}", "x1"),
        ("${A:+y}${B:+y}", "y"),
        ("${B-z}", "z"),
        ("a:b", "a:b"),
    ],
)
def test_variables_are_replaced(text: str, value: str) -> None:
    assert expanded(text, {"A": "1"}) == value


@given(st.text(max_size=200), st.text(" \\\"'=<#`\n\tENVRUNFROM-a[]", max_size=200))
def test_prop_any_text_is_read_or_refused(text: str, other: str) -> None:
    for one in (text, other, f"FROM a\n{other}", f"FROM a\nENV {other}"):
        try:
            found = parse_dockerfile(one)
        except InvalidArgument:
            continue
        assert found.stages
        assert all(0 < step.line <= len(found.lines) for step in found.stages[-1].steps)
