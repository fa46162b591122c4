"""Text from users: what ends a line, what is no UTF-8, what is malformed."""

import subprocess
import sys
from pathlib import Path

import click
import pytest

from agent.etcfiles import hosts_of_host, nameservers
from agent.runtime.program.users import resolve_user
from cli.render.output import echo_lines
from pyswarm_core.docker import entries
from pyswarm_core.docker.entries import Entry
from pyswarm_core.errors import InvalidArgument
from pyswarm_core.plaintext import split_lines
from tests.fixtures.source import PACKAGES, ROOT, sources
from tests.unit.cli.conftest import Pyswarm
from tests.unit.cli.objects import service_reply
from tests.unit.cli.scripted import Script

NO_LINE_ENDS = ["\v", "\f", "\x1c", "\x1d", "\x1e", "\x85", "\u2028", "\u2029", "\r"]


@pytest.mark.parametrize("inside", NO_LINE_ENDS, ids=ascii)
def test_only_line_feeds_end_lines(inside: str) -> None:
    text = f"a{inside}b"
    assert split_lines(f"{text}\r\nc\n\nd") == [text, "c", "", "d"]
    assert split_lines("") == []
    assert entries.env_lines("f", f"A={text}\n".encode()) == [Entry("f line 1", f"A={text}")]
    assert hosts_of_host(f"::1 {text}\n") == f"::1 {text}\n".encode()
    assert nameservers(f"# {text}\nnameserver ::1") == ("::1",)
    passwd = f"x:x:1:1:{text}:/home:/sh\n".encode()
    assert resolve_user("x", (), passwd, b"").home == "/home"


def test_no_product_code_uses_splitlines() -> None:
    users = [source.name for source in sources(*PACKAGES) if ".splitlines(" in source.text]
    assert users == []


def test_hostile_numbers_in_a_passwd_file_are_no_ids() -> None:
    passwd = f"x:x:{'9' * 5000}:1::/:/\ny:x:٣:1::/:/\nz:x:7:8::/z:/\n".encode()
    assert resolve_user("z", (), passwd, b"").uid == 7
    for name in "xy":
        with pytest.raises(InvalidArgument):
            resolve_user(name, (), passwd, b"")


@pytest.mark.parametrize(
    "text", ["MODE production", "MODE:prod", "", "=x", "A B=1", "A\u2028=1", "1A", "A\0B=1", "é"]
)
def test_a_malformed_variable_is_refused_with_its_source(text: str) -> None:
    with pytest.raises(
        InvalidArgument, match=r"^--env: value .* is not valid: expected NAME=VALUE"
    ):
        entries.environment([Entry("--env", text)], {text: "own"})


def test_an_env_file_names_the_line_that_is_wrong(tmp_path: Path, pyswarm: Pyswarm) -> None:
    file = tmp_path / "env"
    for content, told in (
        (
            b"\xef\xbb\xbfA=1\n# c\n\tMODE production\n",
            'line 3: value "MODE production" is not valid',
        ),
        (b"A=1\nB=\xff\n", "line 2 is not UTF-8"),
        (b"A=1\nB=\0\n", "expected no NUL in the value"),
    ):
        file.write_bytes(content)
        ran = pyswarm("service", "create", "--env-file", str(file), "web")
        assert (ran.code, ran.out) == (2, "")
        assert told in ran.err


def test_values_arrive_as_they_were_written(
    tmp_path: Path, script: Script, pyswarm: Pyswarm, monkeypatch: pytest.MonkeyPatch
) -> None:
    script.on("CreateService", service_reply())
    monkeypatch.setenv("OWN", "a\u2028b")
    file = tmp_path / "env"
    file.write_bytes('A="q"\r\nB=x\u2028y\x85z \nOWN\nUNSET_ANYWHERE\n'.encode())
    line = ["service", "create", "-d", "--env-file", str(file), "-e", "C=1\v2", "web"]
    assert pyswarm(*line).code == 0
    (sent,) = script.requests("CreateService")
    env = list(sent.spec.task_template.container_spec.env)
    assert env == ['A="q"', "B=x\u2028y\x85z ", "OWN=a\u2028b", "C=1\v2"]


COMMANDS = [
    ["service", "create", "--name", "\udcff", "web"],
    ["service", "create", "--label", "a=\udcff", "web"],
    ["service", "create", "web", "\udcff"],
    ["service", "update", "--env-add", "A=\ud800", "web"],
    ["service", "ls", "--filter", "name=\udcff"],
    ["service", "ls", "--format", "\udcff"],
    ["service", "ps", "\udcff"],
    ["service", "rm", "\udcff"],
    ["service", "logs", "\udcff"],
    ["service", "inspect", "\udcff"],
    ["node", "update", "--label-add", "\udcff", "host1"],
    ["network", "create", "\udcff"],
    ["net", "trace", "\udcff", "web"],
    ["image", "pull", "\udcff"],
    ["image", "build", "--tag", "web", "\udcff"],
    ["task", "inspect", "\udcff"],
    ["swarm", "join", "--token", "\udcff", "192.0.2.1:2377"],
    ["playground", "cut", "\udcff"],
    ["why", "\udcff"],
    ["-H", "unix:///\udcff", "service", "ls"],
    ["\udcff"],
]


@pytest.mark.parametrize("line", COMMANDS, ids=ascii)
def test_an_argument_that_is_no_utf8_is_refused_by_name(line: list[str], pyswarm: Pyswarm) -> None:
    ran = pyswarm(*line)
    assert (ran.code, ran.out) == (2, "")
    assert len(ran.err.splitlines()) == 1
    number = next(n for n, word in enumerate(line, 1) if not word.isascii())
    assert ran.err.startswith(f"Error: argument {number}")
    assert "is not valid UTF-8" in ran.err


def test_an_environment_that_is_no_utf8_is_no_traceback() -> None:
    bad = b"\xff"
    for name, line in (
        ("A", ["service", "create", "-e", "A", "web"]),
        ("PYSWARM_HOST", ["service", "ls"]),
        ("PYSWARM_PLAYGROUND", ["playground", "cut", "host1"]),
        ("XDG_CONFIG_HOME", ["service", "ls"]),
    ):
        command = [sys.executable, "-m", "tests.unit.cli.entry", *line]
        environment = {b"PATH": b"/bin:/usr/bin:/sbin:/usr/sbin", name.encode(): bad}
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, check=False)
        assert done.returncode in (1, 2)
        assert done.stderr.startswith(b"Error: ")
        assert len(done.stderr.splitlines()) == 1


MALFORMED = [
    ["-p", "target=80,mode="],
    ["-p", "target=80,target=81"],
    ["-p", "target=80,mode"],
    ["-p", "target=80,mode=host\u2028"],
    ["-p", "[::1:80:80"],
    ["--network", "name=a,alias="],
    ["--network", "name=a,name=b"],
    ["--network", "name=a,ip=10.0.0.5,ip=10.0.0.6"],
    ["--ulimit", "nofile=1_000"],
    ["--ulimit", "nofile=1:"],
    ["--ulimit", "nofile= 1"],
    ["--ulimit", "nofile=٣"],
    ["--replicas", "1_0"],
    ["--replicas", "٣"],
    ["--replicas", " 3"],
    ["--constraint", "node.labels.a==b\u2028"],
    ["--constraint", "node.labels.a==b\n"],
    ["--constraint", "node.labels.a=b"],
    ["--placement-pref", "spread=node.labels.a\u2028"],
    ["--label", "a b"],
    ["--label", "a\u2028b=1"],
]


@pytest.mark.parametrize("flags", MALFORMED, ids=lambda flags: ascii(flags[1]))
def test_malformed_pieces_are_refused(flags: list[str], pyswarm: Pyswarm) -> None:
    ran = pyswarm("service", "create", *flags, "web")
    assert (ran.code, ran.out) == (2, "")
    assert "is not valid: " in ran.err or "is not a valid integer" in ran.err


def test_lines_are_printed_as_they_are_with_few_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []
    monkeypatch.setattr(click, "echo", written.append)
    for lines in ([], [""], ["a", "", "b"], ["x" * 3_999, "y"], ["z" * 9_000, "é" * 50] * 100):
        written.clear()
        echo_lines(lines)
        assert "".join(f"{text}\n" for text in written) == "".join(f"{line}\n" for line in lines)
    written.clear()
    echo_lines(["x" * 99] * 1_000)
    assert len(written) == 25
