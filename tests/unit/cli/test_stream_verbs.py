"""Verbs over byte streams: what they refuse, keys that detach, and lines of replicas."""

import pytest

from cli.container.port_forward import parse
from cli.streams import keys
from cli.streams.replicas import Prefixed
from pyswarm_core.errors import InvalidArgument
from tests.unit.cli.conftest import Pyswarm


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ctrl-p,ctrl-q", b"\x10\x11"),
        ("a", b"a"),
        ("ctrl-@,ctrl-[,ctrl-\\,ctrl-],ctrl-^,ctrl-_", b"\x00\x1b\x1c\x1d\x1e\x1f"),
        ("ctrl-A,x", b"\x01x"),
    ],
)
def test_keys_are_docker_s(text: str, expected: bytes) -> None:
    assert keys.parse("--detach-keys", text) == expected


@pytest.mark.parametrize("text", ["", "ab", "ctrl-", "ctrl-ab", "ctrl-1", "a,", "é"])
def test_other_keys_are_refused(text: str) -> None:
    with pytest.raises(InvalidArgument, match="--detach-keys: value"):
        keys.parse("--detach-keys", text)


def fed(*parts: bytes) -> tuple[bytes, bool]:
    watch, sent = keys.Watch(b"\x10\x11"), b""
    for part in parts:
        more, is_complete = watch.feed(part)
        sent += more
        if is_complete:
            return sent, True
    return sent, False


def test_the_sequence_is_found_wherever_it_is_cut() -> None:
    assert fed(b"ab\x10\x11cd") == (b"ab", True)
    assert fed(b"ab\x10", b"\x11") == (b"ab", True)
    assert fed(b"\x10", b"\x10", b"\x11") == (b"\x10", True)


def test_keys_that_are_no_sequence_are_sent() -> None:
    assert fed(b"\x10", b"x") == (b"\x10x", False)
    assert fed(b"plain") == (b"plain", False)
    assert keys.Watch(b"").feed(b"x") == (b"x", False)


@pytest.mark.parametrize(
    ("text", "expected"), [("80", (80, 80)), ("8080:80", (8080, 80)), ("0:80", (0, 80))]
)
def test_ports(text: str, expected: tuple[int, int]) -> None:
    assert parse(text) == expected


@pytest.mark.parametrize("text", ["", "0", "80:0", "65536", "x", "80:", ":80", "1:2:3", "-1:80"])
def test_other_ports_are_refused(text: str) -> None:
    with pytest.raises(InvalidArgument, match="PORT: value"):
        parse(text)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("exec -it web sh", "the input device is not a TTY"),
        ("exec --all -t web sh", "--all: several tasks have no common stdin: leave out --tty"),
        ("exec --detach-keys ctrl-1 web sh", '--detach-keys: value "ctrl-1" is not valid'),
        ("exec --env =x web sh", '--env: value "=x" is not valid'),
        ("exec web", "Missing argument 'COMMAND [ARG...]'"),
        ("attach --detach-keys xx web", '--detach-keys: value "xx" is not valid'),
        ("port-forward web 99999", 'PORT: value "99999" is not valid'),
        ("port-forward --address x web 80", '--address: value "x" is not valid: expected an IP'),
    ],
)
def test_bad_input_is_refused(words: str, said: str, pyswarm: Pyswarm) -> None:
    ran = pyswarm(*words.split())
    assert ran.code == 2
    assert said in ran.err


async def test_lines_of_replicas_have_their_names() -> None:
    written = bytearray()

    async def write(data: bytes) -> None:
        written.extend(data)

    lines = Prefixed(b"web.1 | ", write)
    for part in (b"a\nb", b"c\n", b"\n", b"end"):
        await lines(part)
    await lines.end()
    assert bytes(written) == b"web.1 | a\nweb.1 | bc\nweb.1 | \nweb.1 | end\n"
    await lines(b"x" * 70_000)
    assert len(written) > 70_000, "a line without an end is not held for ever"
