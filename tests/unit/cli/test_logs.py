"""`logs` and `service logs`: what is requested, and how lines are printed."""

from collections.abc import Sequence

import pytest

from cli.render.loglines import COLOURS, Form, Renderer
from pyswarm_core.api.v1 import control_pb2 as pb
from pyswarm_core.api.v1 import dispatcher_pb2 as dp
from pyswarm_core.clock import SECOND
from pyswarm_core.errors import NotFound, Unavailable
from pyswarm_core.logs.lines import PARTIAL, STDERR, LogLines
from pyswarm_core.views import Logs, LogSource
from tests.unit.cli.conftest import Pyswarm
from tests.unit.cli.scripted import Script

AT = 1_700_000_000 * SECOND
ID = "t" * 25
OF_SERVICE = pb.LogsReply(of_service=True)
OF_CONTAINER = pb.LogsReply()


def reply(*lines: tuple[int, bytes], details: str = "") -> pb.LogsReply:
    """Lines of web.1: marks and text."""
    return pb.LogsReply(
        sources=[
            pb.LogSource(task_id=ID, task_name=f"web.1.{ID}", node_name="host1", details=details)
        ],
        lines=dp.LogLines(
            at=[AT + number for number in range(len(lines))],
            marks=bytes(marks for marks, _ in lines),
            texts=[text for _, text in lines],
        ),
    )


def test_logs_keep_the_streams_apart(script: Script, pyswarm: Pyswarm) -> None:
    warned = pb.LogsReply(warning="logs of node host2 are missing: down")
    script.on("Logs", [OF_SERVICE, reply((0, b"to out"), (STDERR, b"to err")), warned])
    ran = pyswarm("service", "logs", "-n", "5", "web")
    assert ran.out == "web.1.tttttttttttt@host1    | to out\n"
    assert ran.err.splitlines() == [
        "web.1.tttttttttttt@host1    | to err",
        "warning: logs of node host2 are missing: down",
    ]
    (asked,) = script.requests("Logs")
    assert (asked.ref, asked.tail, asked.container) == ("web", 5, False)


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        ("--raw", "text\n"),
        ("--no-log-prefix", "text\n"),
        ("-t --raw", "2023-11-14T22:13:20.000000000Z text\n"),
        ("--no-trunc", f"web.1.{ID}@host1    | text\n"),
        ("--no-task-ids", "web.1@host1    | text\n"),
        ("--no-resolve", "tttttttttttt@host1    | text\n"),
        ("--raw --details", "a=b,c=d text\n"),
        ("--raw --details -t", "2023-11-14T22:13:20.000000000Z a=b,c=d text\n"),
        ("--details", "web.1.tttttttttttt@host1    | a=b,c=d text\n"),
    ],
)
def test_log_lines_have_what_is_requested_in_front(
    flags: str, line: str, script: Script, pyswarm: Pyswarm
) -> None:
    script.on("Logs", [OF_SERVICE, reply((0, b"text"), details="a=b,c=d")])
    assert pyswarm("service", "logs", *flags.split(), "web").out == line


def test_without_attributes_there_are_no_details(script: Script, pyswarm: Pyswarm) -> None:
    script.on("Logs", [OF_CONTAINER, reply((0, b"text"))])
    assert pyswarm("logs", "--details", "db").out == "text\n"


@pytest.mark.parametrize("verb", ["logs", "service logs"])
@pytest.mark.parametrize("flags", ["", "--details"])
def test_details_are_requested_only_if_they_are_shown(
    verb: str, flags: str, script: Script, pyswarm: Pyswarm
) -> None:
    script.on("Logs", [OF_CONTAINER])
    pyswarm(*verb.split(), *flags.split(), "db")
    (asked,) = script.requests("Logs")
    assert asked.details == bool(flags)


def test_logs_of_a_container_have_no_prefix_and_need_one_request(
    script: Script, pyswarm: Pyswarm
) -> None:
    script.on("Logs", [OF_CONTAINER, reply((0, b"ready"))])
    ran = pyswarm("logs", "--tail", "10", "db")
    assert (ran.code, ran.out) == (0, "ready\n")
    ((rpc, asked),) = script.asked
    assert (rpc, asked.ref, asked.tail, asked.container) == ("Logs", "db", 10, True)  # type: ignore[attr-defined]


def test_logs_of_a_service_have_the_replica_in_front(script: Script, pyswarm: Pyswarm) -> None:
    script.on("Logs", [OF_SERVICE, reply((0, b"ready"))])
    assert pyswarm("logs", "web").out == "web.1@host1    | ready\n"
    assert pyswarm("logs", "--no-log-prefix", "web").out == "ready\n"


def test_filters_are_in_the_request(script: Script, pyswarm: Pyswarm) -> None:
    script.on("Logs", [OF_CONTAINER])
    flags = ("--since", "1700000000", "--until=1700000001.5", "--grep", "a|b", "--previous")
    assert pyswarm("logs", *flags, "db").code == 0
    (asked,) = script.requests("Logs")
    assert (asked.since, asked.until) == (AT, AT + 3 * SECOND // 2)
    assert (asked.grep, asked.previous, asked.follow, asked.tail) == ("a|b", True, False, -1)


def test_a_stream_that_broke_is_an_error(script: Script, pyswarm: Pyswarm) -> None:
    script.on("Logs", [OF_CONTAINER, reply((0, b"a")), Unavailable("this controller stops")])
    ran = pyswarm("logs", "-f", "db")
    assert (ran.code, ran.out) == (1, "a\n")
    assert ran.err == "Error: the log stream ended: this controller stops\n"
    script.on("Logs", NotFound("No such container: x"))
    assert pyswarm("logs", "x").err == "Error: No such container: x\n"


def web(number: int) -> LogSource:
    return LogSource(f"id{number}", f"web.{number}.id{number}", "")


def part(*lines: tuple[int, int, bytes], of: Sequence[LogSource] = (web(1), web(2))) -> Logs:
    """Lines: the index of the source, marks and text."""
    return Logs(
        sources=tuple(of),
        source_of=tuple(source for source, _, _ in lines),
        lines=LogLines(
            at=tuple(range(len(lines))),
            marks=bytes(marks for _, marks, _ in lines),
            texts=tuple(text for _, _, text in lines),
        ),
    )


def written(form: Form, *parts: Logs) -> bytes:
    """Everything in order, what goes to stderr in angle brackets."""
    renderer = Renderer(form)
    return b"".join(
        b"<%b>" % text if stream else text
        for each in parts
        for stream, text in renderer.rendered(each)
        if text
    )


PLAIN = Form(prefix=False)
NAMED = Form(task_ids=False)


def test_any_bytes_are_printed_as_they_were_written() -> None:
    everything = bytes(range(256)).replace(b"\n", b"")
    assert written(PLAIN, part((0, 0, everything), (0, 0, b"\xff\x00"))) == (
        everything + b"\n\xff\x00\n"
    )
    assert written(PLAIN, part((0, 0, b"a"), (0, PARTIAL, b"no end"))) == b"a\nno end"


def test_a_long_line_in_parts_is_one_line() -> None:
    parts = [part((0, PARTIAL, b"x" * 1000)) for _ in range(3)]
    assert written(PLAIN, *parts, part((0, 0, b""))) == b"x" * 3000 + b"\n"
    assert written(NAMED, *parts, part((0, 0, b"end"), (0, 0, b"b"))) == (
        b"web.1    | " + b"x" * 3000 + b"end\nweb.1    | b\n"
    )


def test_streams_of_one_task_do_not_end_each_others_lines() -> None:
    lines = part((0, PARTIAL, b"a"), (0, STDERR, b"err"), (0, 0, b"b"))
    assert written(PLAIN, lines) == b"a<err\n>b\n"
    assert written(NAMED, lines) == b"web.1    | a\n<web.1    | err\n>web.1    | b\n"


def test_another_tasks_line_begins_on_a_line_of_its_own() -> None:
    lines = part((0, PARTIAL, b"a"), (1, 0, b"b"), (0, 0, b"c"))
    assert written(PLAIN, lines) == b"a\nb\nc\n"
    assert written(NAMED, lines) == b"web.1    | a\nweb.2    | b\nweb.1    | c\n"


def test_a_replica_keeps_its_colour() -> None:
    def coloured(source: LogSource) -> bytes:
        code = COLOURS[int(source.task_name[4]) - 1]
        return b"\x1b[%dm%b    | \x1b[0mx\n" % (code, source.task_name[:5].encode())

    renderer = Renderer(NAMED, (True, False))
    first, second, replaced = web(1), web(2), LogSource("id3", "web.1.id3", "")
    for source in (first, second, replaced, second):
        ((stream, text),) = renderer.rendered(part((0, 0, b"x"), of=[source]))
        assert (stream, text) == (0, coloured(source))
    ((stream, text),) = renderer.rendered(part((0, STDERR, b"x"), of=[first]))
    assert (stream, text) == (1, b"web.1    | x\n")
