"""`pyswarm stats`: Docker's columns and numbers, one table or a live one."""

import json

import pytest

from cli.container import stats
from cli.render.usage import Usage, fitting
from pyswarm_core.api.v1 import stats_pb2
from pyswarm_core.clock import SECOND
from pyswarm_core.codec import from_proto
from pyswarm_core.errors import NotFound, Unavailable
from pyswarm_core.views import NamedStats, StatsPart, TaskStats
from tests.unit.cli.conftest import Pyswarm
from tests.unit.cli.golden import assert_golden
from tests.unit.cli.scripted import Script

MIB = 1 << 20
IDS = {name: f"{number}{'x' * 24}" for number, name in enumerate(("web.1", "web.2", "web.10"))}


def part(second: int, node: str, *names: str) -> stats_pb2.StatsReply:
    """A node's sample of that second."""
    reply = stats_pb2.StatsReply(node_name=node)
    for name in names:
        reply.tasks.add(
            name=name,
            node_name=node,
            stats=stats_pb2.TaskStats(
                task_id=IDS[name],
                at=second * SECOND,
                cpu_ns=second * SECOND // 4,
                memory_bytes=16 * MIB,
                memory_limit_bytes=64 * MIB,
                pids=2,
                received_bytes=12_300 * second,
                sent_bytes=500,
                read_bytes=4_270_000,
                written_bytes=0,
            ),
        )
    return reply


IDLE = stats_pb2.StatsReply(
    tasks=[
        stats_pb2.NamedStats(
            name="web.2", node_name="host2", stats=stats_pb2.TaskStats(task_id=IDS["web.2"])
        )
    ]
)
TWICE = [
    part(1, "host1", "web.10", "web.1"),
    part(1, "host2", "web.2"),
    part(2, "host2", "web.2"),
    part(2, "host1", "web.10", "web.1"),
]
GONE = stats_pb2.StatsReply(
    node_name="host2", warning="stats of node host2 are missing: it is down"
)


def test_one_table_has_docker_s_columns_and_the_node(script: Script, pyswarm: Pyswarm) -> None:
    script.on("Stats", TWICE)
    ran = pyswarm("stats", "--no-stream")
    assert (ran.code, ran.err) == (0, "")
    assert_golden("stats", ran.out)
    (request,) = script.requests("Stats")
    assert request == stats_pb2.StatsRequest()


def test_names_and_all_are_asked_for(script: Script, pyswarm: Pyswarm) -> None:
    script.on("Stats", [*TWICE[:1], IDLE])
    ran = pyswarm("container", "stats", "-a", "--no-stream", "--no-trunc", "web", "db.1")
    assert_golden("stats_all", ran.out)
    (request,) = script.requests("Stats")
    assert request == stats_pb2.StatsRequest(refs=["web", "db.1"], all=True)


def test_json_has_docker_s_keys(script: Script, pyswarm: Pyswarm) -> None:
    script.on("Stats", TWICE)
    lines = pyswarm("stats", "--no-stream", "--format", "json").out.splitlines()
    assert len(lines) == 3
    assert json.loads(lines[0]) == {
        "BlockIO": "4.27MB / 0B",
        "CPUPerc": "25.00%",
        "Container": "0xxxxxxxxxxx",
        "ID": "0xxxxxxxxxxx",
        "MemPerc": "25.00%",
        "MemUsage": "16MiB / 64MiB",
        "Name": "web.1",
        "NetIO": "24.6kB / 500B",
        "Node": "host1",
        "PIDs": "2",
    }


def test_a_container_has_the_id_that_ps_shows(script: Script, pyswarm: Pyswarm) -> None:
    of_db = part(1, "host1", "web.1")
    of_db.tasks[0].container_id = f"db{'y' * 23}"
    script.on("Stats", [of_db])
    ran = pyswarm("stats", "--no-stream", "--format", "{{.ID}} {{.Container}}")
    assert ran.out == f"db{'y' * 10} db{'y' * 10}\n"
    ran = pyswarm("stats", "--no-stream", "--no-trunc", "--format", "{{.ID}}")
    assert ran.out == f"db{'y' * 23}\n"


def test_templates_are_rendered(script: Script, pyswarm: Pyswarm) -> None:
    script.on("Stats", TWICE)
    ran = pyswarm("stats", "--no-stream", "--format", "{{.Name}} {{.CPUPerc}}")
    assert ran.out == "web.1 25.00%\nweb.2 25.00%\nweb.10 25.00%\n"


def test_a_format_that_is_not_valid_asks_nothing(script: Script, pyswarm: Pyswarm) -> None:
    ran = pyswarm("stats", "--format", "{{.Nosuch}}")
    assert ran.code == 2
    assert "Nosuch" in ran.err
    assert script.asked == []


def test_a_node_that_is_gone_costs_one_line(script: Script, pyswarm: Pyswarm) -> None:
    script.on("Stats", [*TWICE, GONE])
    ran = pyswarm("stats", "--no-stream", "--format", "{{.Name}}")
    assert ran.out == "web.1\nweb.10\n"
    assert ran.err == "warning: stats of node host2 are missing: it is down\n"


def test_an_unknown_name_is_refused(script: Script, pyswarm: Pyswarm) -> None:
    script.on("Stats", NotFound("No such container: nosuch"))
    for words in (("stats", "nosuch"), ("stats", "--no-stream", "nosuch")):
        ran = pyswarm(*words)
        assert (ran.code, ran.out) == (1, "")
        assert ran.err == "Error: No such container: nosuch\n"


LEADER_GONE = Unavailable("another term of leadership began: try again")


def test_a_live_table_goes_on_under_the_next_leader(
    script: Script, pyswarm: Pyswarm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cli.streams.resuming.PAUSE_S", 0.0)
    script.on("Stats", [*TWICE, LEADER_GONE], LEADER_GONE, [part(3, "host1", "web.1")])
    ran = pyswarm("stats", "--format", "{{.Name}} {{.CPUPerc}}")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.splitlines()[-1] == "web.1 25.00%"
    assert len(script.requests("Stats")) == 3
    assert all(one.follow for one in script.requests("Stats"))


def test_a_stream_that_is_not_taken_up_again_says_so(
    script: Script, pyswarm: Pyswarm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cli.streams.resuming.RECONNECT_S", -1.0)
    script.on("Stats", [*TWICE, LEADER_GONE])
    ran = pyswarm("stats")
    assert ran.code == 1
    assert ran.err == (
        "Error: the stream of stats ended: another term of leadership began: try again\n"
    )


def test_samples_of_the_next_leader_have_rates_and_replace_all_nodes() -> None:
    found = Usage()

    def shown() -> dict[str, str]:
        return {row["Name"]: row["CPUPerc"] for row in found.rows(truncate=True)}

    for one in TWICE:
        found.take(from_proto(StatsPart, one))
    assert len(shown()) == 3
    found.begin()
    found.take(from_proto(StatsPart, part(3, "host2", "web.2")))
    assert shown() == {"web.2": "25.00%"}


def test_a_live_table_in_a_pipe_has_no_control_codes(script: Script, pyswarm: Pyswarm) -> None:
    script.on("Stats", TWICE)
    ran = pyswarm("stats")
    assert_golden("stats", ran.out)
    (request,) = script.requests("Stats")
    assert request.follow


def test_a_live_table_is_drawn_in_place_on_a_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "10")
    monkeypatch.setenv("LINES", "24")
    tables = iter([["CONTAINER ID", "a"], ["CONTAINER ID", "a", "b"]])
    draw = stats.drawer(Usage(), lambda: next(tables))
    draw()
    draw()
    assert capsys.readouterr().out == (
        "\r\x1b[2KCONTAINER…\n\r\x1b[2Ka\n\x1b[J"
        "\x1b[2A\r\x1b[2KCONTAINER…\n\r\x1b[2Ka\n\r\x1b[2Kb\n\x1b[J"
    )


def test_what_exceeds_a_terminal_is_counted() -> None:
    lines = [str(number) for number in range(10)]
    assert fitting(lines, 11) == lines
    assert fitting(lines, 10) == [*lines[:8], "2 more: the terminal is too small"]
    assert fitting(lines, 1) == ["0", "9 more: the terminal is too small"]


def sample(at: int, *names: str, node: str = "host1", cpu_ns: int = 0) -> StatsPart:
    named = [
        NamedStats(name, node, TaskStats(IDS[name], at=at * SECOND, cpu_ns=cpu_ns))
        for name in names
    ]
    return StatsPart(node, tuple(named), "")


def cpus(usage: Usage) -> dict[str, str]:
    return {row["Name"]: row["CPUPerc"] for row in usage.rows(truncate=True)}


def test_a_sample_replaces_that_of_its_node_and_rates_come_from_the_last_two() -> None:
    usage = Usage()
    usage.take(sample(1, "web.1", "web.2"))
    usage.take(sample(1, "web.10", node="host2"))
    assert cpus(usage) == {"web.1": "--", "web.2": "--", "web.10": "--"}
    assert [usage.is_rated] == [False]
    usage.take(sample(2, "web.1", cpu_ns=SECOND))
    assert cpus(usage) == {"web.1": "100.00%", "web.10": "--"}
    assert [usage.is_rated] == [True]
    usage.take(sample(4, "web.1", "web.2", cpu_ns=SECOND))
    assert cpus(usage) == {"web.1": "0.00%", "web.2": "--", "web.10": "--"}


def test_a_node_that_is_gone_has_no_rows_until_it_is_back() -> None:
    usage = Usage()
    usage.take(sample(1, "web.1"))
    usage.take(StatsPart("host1", (), "gone"))
    assert cpus(usage) == {}
    usage.take(sample(2, "web.1"))
    assert cpus(usage) == {"web.1": "--"}


def test_a_task_that_just_began_has_one_row_and_a_rate() -> None:
    usage = Usage()
    idle = StatsPart("", (NamedStats("web.1", "host1", TaskStats(IDS["web.1"])),), "")
    usage.take(idle)
    assert cpus(usage) == {"web.1": "0.00%"}
    usage.take(sample(1, "web.1"))
    assert cpus(usage) == {"web.1": "--"}
    usage.take(idle)
    usage.take(sample(2, "web.1", cpu_ns=SECOND))
    usage.take(idle)
    assert cpus(usage) == {"web.1": "100.00%"}
    assert len(usage.rows(truncate=True)) == 1
