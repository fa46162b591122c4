"""Every number, duration and size that a command takes: what is too low, too high or no number is
refused with the flag, the value as it was typed, and the bounds.
"""

import shlex

import click
import pytest

from cli.main import root
from tests.unit.cli.conftest import Pyswarm
from tests.unit.cli.test_service_flags import ROWS, options_of

INTEGERS = ("-1", "99999999999999999999", "many")
DURATIONS = ("-1s", "3000000h", "soon")
CHECKS = ("1us", "3000000h", "soon")
SIZES = ("-1", "5000p", "64Q")
CPUS = ("-1", "65537", "half")
A_YEAR = "0s to 8760h0m0s"
TASKS = "0 to 100000"

SPECS: dict[str, tuple[tuple[str, str, str], str]] = {
    "--replicas": (INTEGERS, TASKS),
    "--replicas-max-per-node": (INTEGERS, TASKS),
    "--limit-cpu": (CPUS, "0, or 0.01 to 65536"),
    "--limit-memory": (SIZES, "0, or 6MiB to 256TiB"),
    "--limit-pids": (INTEGERS, "0 to 4194304"),
    "--reserve-cpu": (CPUS, "0, or 0.001 to 65536"),
    "--reserve-memory": (SIZES, "0, or 4MiB to 256TiB"),
    "--memory-swap": (("-2", "5000p", "lots"), "-1 for unlimited, or 0B to 256TiB"),
    "--memory-swappiness": (("-2", "101", "many"), "-1 to 100"),
    "--memory-reservation": (SIZES, "0, or 6MiB to 256TiB"),
    "--cpu-shares": (("1", "262145", "many"), "0, or 2 to 262144"),
    "--cpu-period": (("999", "1000001", "many"), "0, or 1000 to 1000000"),
    "--cpu-quota": (("999", "65536000001", "many"), "0, or 1000 to 65536000000"),
    "--blkio-weight": (("9", "1001", "many"), "0, or 10 to 1000"),
    "--net-egress": (("7kbit", "2tbit", "10m"), "0, or 8Kbit to 1000Gbit"),
    "--net-ingress": (("7kbit", "2tbit", "fast"), "0, or 8Kbit to 1000Gbit"),
    "--oom-score-adj": (("-1001", "1001", "many"), "-1000 to 1000"),
    "--stop-grace-period": (DURATIONS, A_YEAR),
    "--stop-timeout": (INTEGERS, "0 to 31536000"),
    "--shm-size": (SIZES, "0, or 4KiB to 256TiB"),
    "--restart-delay": (DURATIONS, A_YEAR),
    "--restart-max-attempts": (INTEGERS, "0 to 1000000"),
    "--restart-max-delay": (DURATIONS, A_YEAR),
    "--restart-window": (DURATIONS, A_YEAR),
    **{
        f"--{check}-{name}": (CHECKS, "0s, or 1ms to 8760h0m0s")
        for check in ("health", "ready")
        for name in ("interval", "timeout", "start-period", "start-interval")
    },
    "--health-retries": (INTEGERS, "0 to 1000000"),
    "--ready-retries": (INTEGERS, "0 to 1000000"),
    **{
        f"--{of}-{name}": expected
        for of in ("update", "rollback")
        for name, expected in {
            "parallelism": (INTEGERS, TASKS),
            "delay": (DURATIONS, A_YEAR),
            "monitor": (DURATIONS, A_YEAR),
            "max-failure-ratio": (("-0.1", "2", "nan"), "0 to 1"),
        }.items()
    },
}
"""Flag of `service create` and `update` -> too low, too high and no number; the bounds."""
PORTS = ("0", "65536", "x")
OTHERS: tuple[tuple[str, str, tuple[str, ...], str], ...] = (
    ("service create -p {} web", "--publish", ("65536", "80:65536"), "1 to 65535"),
    ("service create --health-tcp {} web", "--health-tcp", PORTS, "1 to 65535"),
    ("service create --health-http {} web", "--health-http", PORTS, "1 to 65535"),
    ("service create --ready-grpc {} web", "--ready-grpc", PORTS, "1 to 65535"),
    (
        "service create --ulimit {} web",
        "--ulimit",
        ("nofile=-2", "nofile=99999999999999999999", "nofile=-99999999999999999999"),
        "-1 for unlimited, or 0 to 9223372036854775807",
    ),
    ("service create --stop-signal {} web", "--stop-signal", ("0", "65", "99"), "1 to 64"),
    ("service update --stop-grace-period {} web", "--stop-grace-period", DURATIONS, A_YEAR),
    (
        "service scale {}",
        "SERVICE=REPLICAS",
        ("web=-1", "web=100001", "web=99999999999999999999", "web=many", "web="),
        f"{TASKS} for REPLICAS",
    ),
    (
        "service rollback --to {} web",
        "--to",
        ("0", "99999999999999999999", "x"),
        "1 to 9223372036854775807",
    ),
    ("service logs --tail {} web", "--tail", INTEGERS, "0 to 2147483647"),
    ("task signal --signal {} web.1", "--signal", ("0", "65", "99", "x"), "1 to 64"),
    ("network create -o {} app", "--opt", ("mtu=-1", "mtu=big"), "576 to 65485"),
    ("swarm init --data-path-port {}", "--data-path-port", PORTS, "1024 to 49151"),
    ("swarm init --task-history-limit {}", "--task-history-limit", INTEGERS, "0 to 20"),
    ("swarm init --dispatcher-heartbeat {}", "--dispatcher-heartbeat", DURATIONS, "100ms to 1m0s"),
    ("swarm init --agent-grace {}", "--agent-grace", DURATIONS, "0s to 1h0m0s"),
    ("playground up --nodes {}", "--nodes", ("0", "201", "x"), "1 to 200"),
)
CASES = [
    *(
        (f"service {verb} {flag} {{}} web", flag, value, bounds)
        for verb in ("create", "update")
        for flag, (values, bounds) in SPECS.items()
        for value in values
    ),
    *((line, flag, value, bounds) for line, flag, values, bounds in OTHERS for value in values),
]
NUMERIC = ("NUMBER", "DURATION", "BYTES", "DECIMAL", "RATIO", "RATE")


@pytest.mark.parametrize(
    ("line", "flag", "value", "bounds"), CASES, ids=[f"{c[0].format(c[2])}" for c in CASES]
)
def test_a_number_out_of_range_is_refused_as_typed_with_its_bounds(
    line: str,
    flag: str,
    value: str,
    bounds: str,
    pyswarm: Pyswarm,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PYSWARM_HOST", "unix:///nonexistent/api.sock")
    ran = pyswarm(*shlex.split(line.format(value)))
    first = ran.err.split("\n")[0]
    assert (ran.code, ran.out) == (2, "")
    assert first.startswith(f'Error: {flag}: value "{value}" is not valid: expected ')
    assert bounds in first


def test_every_numeric_flag_of_a_spec_is_in_the_table() -> None:
    for verb in ("create", "update"):
        found = {name: each for name, each in options_of(verb).items() if name.startswith("--")}
        assert {name for name, each in found.items() if each.metavar in NUMERIC} == SPECS.keys()
        numeric = {"int", "uint", "decimal", "duration", "bytes", "float"}
        dockers = {row["flag"] for of, row in ROWS if of == verb and row.get("type") in numeric}
        assert dockers - SPECS.keys() == {"--max-concurrent"}


def test_no_other_command_of_these_nouns_takes_a_number() -> None:
    """One that does belongs into OTHERS."""
    named = {tuple(line.split()[:2]) for line, *_ in OTHERS}
    for noun in ("service", "task", "node", "network"):
        group = root.get_command(click.Context(root), noun)
        assert isinstance(group, click.Group)
        for verb in group.list_commands(click.Context(group)):
            command = group.get_command(click.Context(group), verb)
            assert command is not None
            numeric = [
                one
                for one in command.params
                if one.metavar in NUMERIC or "number" in str(one.type).lower()
            ]
            assert not numeric or (noun, verb) in {*named, ("service", "create")}


@pytest.mark.parametrize(
    ("line", "told"),
    {
        "--memory-swap 1g": '--memory-swap: value "1g" is not valid: expected --limit-memory as',
        "--restart-max-delay 1000ms": '--restart-max-delay: value "1000ms" is not valid: '
        "expected 0s, or 5s (--restart-delay) to 8760h0m0s",
        "--restart-window 1m --restart-max-attempts 101": '--restart-max-attempts: value "101" is'
        " not valid: expected 0 to 100 with --restart-window",
        "--ready-interval 5000ms": '--ready-interval: value "5000ms" is not valid: expected --re',
        "--network none --health-http 80": '--health-http: value "80" is not valid: expected a',
    }.items(),
)
def test_a_value_that_conflicts_with_another_is_quoted_as_typed(
    line: str, told: str, pyswarm: Pyswarm
) -> None:
    ran = pyswarm("service", "create", *line.split(), "web")
    assert ran.code == 2
    assert told in ran.err
