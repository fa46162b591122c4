"""Bad input and absent fleets: one line, the right exit code, never a traceback."""

import subprocess
import sys
from pathlib import Path

import pytest

from pyswarm_core.errors import (
    NO_LEADER,
    AlreadyExists,
    InvalidArgument,
    PermissionDenied,
    Unavailable,
)
from tests.fixtures.source import ROOT
from tests.unit.cli.conftest import Pyswarm
from tests.unit.cli.objects import service_reply, services_reply
from tests.unit.cli.scripted import Script

WRONG = [
    (["bogus"], '"bogus" is not a command of pyswarm'),
    (["service", "bogus"], '"bogus" is not a command of pyswarm service'),
    (["servce", "ls"], '"servce" is not a command of pyswarm: did you mean service'),
    (["service", "crate"], "did you mean create"),
    (["playground", "kil"], '"kil" is not a command of pyswarm playground: did you mean kill?'),
    (["playground", "up", "--disk", "2q"], '--disk: value "2q"'),
    (["playground", "up", "--nodes", "0"], '--nodes: value "0" is not valid: expected 1 to 200'),
    (["playground", "up", "--name", "No Good"], '--name: value "No Good"'),
    *(
        (["playground", "up", "--disk", value], f'--disk: value "{value}" is not valid: {told}')
        for value, told in {
            "0": "expected 192MiB to 256TiB",
            "1k": "expected 192MiB to 256TiB",
            "191m": "expected 192MiB to 256TiB",
            "5000p": "expected at most 256TiB",
        }.items()
    ),
    *(
        (["playground", "up", flag, value], f'{flag}: value "{value}" is not valid: {told}')
        for flag, told in (("--cpus", "expected a number"), ("--memory", "expected a number"))
        for value in ("nan", "inf", "-inf", "1e3", "-1")
    ),
    (["playground", "up", "--cpus", "0"], '--cpus: value "0" is not valid: expected more than 0'),
    (["playground", "up", "--cpus", "99999"], "--cpus: value"),
    (["playground", "up", "--memory", "0"], '--memory: value "0" is not valid: expected more than'),
    (["playground", "up", "--memory", "5000p"], "expected at most 256TiB"),
    (["service", "create", "--replica", "1", "web"], "'--replicas'"),
    (["service", "create"], "IMAGE"),
    (["service", "create", "--nmae", "x", "web"], "--nmae"),
    (
        ["service", "create", "-p", "80:x", "web"],
        '--publish: value "80:x" is not valid: expected [[IP:]',
    ),
    (["service", "create", "-p", "65536", "web"], "expected ports of 1 to 65535"),
    (
        ["service", "create", "-p", "1-65535", "web"],
        "--publish: count 65535 is not valid: expected at most 1000",
    ),
    (["service", "create", "-p", "80-70:80-70", "web"], "80-70 ends before it begins"),
    (["service", "create", "-p", "80-82:80-81", "web"], "expected ranges of the same length"),
    (["service", "create", "-p", "80/icmp", "web"], "expected one of tcp, udp, sctp"),
    (["service", "create", "-p", "published=80", "web"], "expected target=PORT"),
    (["service", "create", "-p", "target=80,mode=mesh", "web"], "expected one of ingress, host"),
    (["service", "create", "-p", "target=80,port=80", "web"], "or published=,target=,protocol="),
    (["service", "create", "-p", "10.0.0.300:80:80", "web"], 'host_ip "10.0.0.300"'),
    (
        ["service", "create", "--restart-condition", "maybe", "web"],
        "is not valid: expected one of",
    ),
    (["service", "create", "web:1:2"], "web:1:2"),
    (["service", "create", "../../etc/passwd"], "../../etc/passwd"),
    (["service", "create", "web@sha256:12"], "web@sha256:12"),
    (
        ["service", "create", "--label", "a=" + 200_000 * "x", "--entrypoint", 99_999 * "y", "web"],
        "256KiB",
    ),
    (["service", "create", "--endpoint-mode", "lb", "web"], "--endpoint-mode"),
    (["service", "create", "--endpoint-mode", "dnsrr", "-p", "80:80", "web"], "endpoint-mode"),
    (["service", "create", "--network", "host", "--network", "app", "web"], "no other network"),
    (["service", "create", "--dns", "dns.example", "web"], '--dns: value "dns.example"'),
    (["service", "create", "--dns-search", "a b", "web"], '--dns-search: value "a b"'),
    (["service", "create", "--dns-option", "a b", "web"], '--dns-option: value "a b"'),
    (
        ["service", "create", "--host", "db", "web"],
        '--host: value "db" is not valid: expected NAME:IP',
    ),
    (["service", "create", "--host", "db:db", "web"], '--host: value "db db"'),
    (["secret", "create", "--driver", "x", "db", "-"], "--driver is not supported"),
    (["secret", "create", "a/b", "-"], 'secret name: value "a/b" is not valid'),
    (
        ["secret", "create", "db", "/no/such/file"],
        "error reading from /no/such/file: no such file or directory",
    ),
    (["secret", "update", "--keep-versions", "101", "db", "-"], "expected 0 to 100"),
    (["secret", "update", "--reload", "HUP", "db", "-"], "expected signal=SIGNAL, such as"),
    (["secret", "update", "--reload", "signal=NO", "db", "-"], "expected a signal such as SIGHUP"),
    (["config", "create", "--template-driver", "x", "db", "-"], "expected golang, the only"),
    (["service", "create", "--secret", "a,target=x", "web"], "it must be a key=value pair"),
    (["service", "create", "--secret", "source=a,key=x", "web"], 'unexpected key "key"'),
    (["service", "create", "--secret", "source=a,mode=9", "web"], "invalid mode specified: 9"),
    (["service", "create", "--secret", "source=a,uid=www-data", "web"], "expected a number"),
    (["service", "create", "--secret", "source=a,target=../x", "web"], "without . and .."),
    (["service", "create", "--secret", "a@0", "web"], "expected NAME@NUMBER"),
    (
        ["service", "create", "--secret", "a", "--secret", "source=b,target=a", "web"],
        "have a conflicting target",
    ),
    (["service", "create", "--log-driver=x", "web"], '--log-driver: value "x" is not valid'),
    (["service", "create", "UPPER"], 'image: value "UPPER" is not valid'),
    (["service", "create", "web:\x1b[31m"], '"web:\\x1b[31m"'),
    (["service", "create", "--name", "a b", "web"], '--name: value "a b"'),
    (["service", "create", "--name", "x" * 5000, "web"], '--name: value "xxx'),
    (["service", "create", "--replicas", "-1", "web"], '--replicas: value "-1"'),
    (
        ["service", "create", "--replicas", "x", "web"],
        '--replicas: value "x" is not valid: expected an integer',
    ),
    (["service", "create", "--mode", "job", "web"], "--mode"),
    (["service", "create", "--mode", "global", "--replicas", "2", "web"], "replicated mode"),
    (["service", "create", "--limit-memory", "64Q", "web"], '--limit-memory: value "64Q"'),
    (["service", "create", "--limit-memory", "1M", "web"], "expected 0, or 6MiB to 256TiB"),
    *(
        (["service", "create", flag, value, "web"], f'{flag}: value "{value}" is not valid: {told}')
        for flag in ("--limit-memory", "--reserve-memory", "--memory-swap")
        for value, told in {
            "9223372036854775807": "expected ",
            "5000p": "expected ",
            "256.1t": "expected ",
        }.items()
    ),
    *(
        (["service", "create", flag, value, "web"], f'{flag}: value "{value}" is not valid: {told}')
        for flag in ("--limit-cpu", "--reserve-cpu")
        for value, told in {
            "nan": "expected 0, or 0.0",
            "inf": "expected 0, or 0.0",
            "0.5000000001": "expected 0, or 0.0",
            "9223372036.854775807": "expected 0, or 0.0",
        }.items()
    ),
    (["service", "create", "--limit-cpu", "much", "web"], '--limit-cpu: value "much"'),
    (["service", "create", "--stop-grace-period", "10", "web"], "--stop-grace-period: value"),
    (["service", "create", "--constraint", "node.role=worker", "web"], "KEY==VALUE"),
    (["service", "create", "--placement-pref", "pack=x", "web"], "expected spread="),
    (
        ["service", "create", "--env-file", "/nonexistent", "web"],
        '--env-file "/nonexistent" cannot be read',
    ),
    (["service", "create", "-e", "=x", "web"], '--env: value "=x"'),
    (["service", "create", "--label", "=x", "web"], '--label: value "=x"'),
    (["service", "create", "--network", "alias=x", "web"], "expected name=NAME"),
    (["service", "create", "--network", "name=a,mac=1", "web"], "expected NAME or name=NAME"),
    (["service", "create", "--ulimit", "nofile", "web"], "expected NAME=SOFT[:HARD]"),
    (["service", "create", "--cap-add", "FLY", "web"], '--cap-add: value "FLY"'),
    (
        ["service", "create", "--sysctl", "vm.swappiness=1", "web"],
        '--sysctl: value "vm.swappiness"',
    ),
    (["service", "create", "--entrypoint", "'open", "web"], "no closing quotation"),
    (["service", "create", "--tty=maybe", "web"], "expected true or false"),
    (["service", "scale", "web"], "expected a service and a number, as in web=5"),
    (["swarm", "join", "--token", "x", "10.0.0.1:99999"], "with a port of 1 to 65535"),
    (["service", "scale", "web=-1"], "SERVICE=REPLICAS"),
    (["service", "scale", "web=٣"], "SERVICE=REPLICAS"),
    (["service", "scale", "web=999999999"], "expected 0 to 100000 for REPLICAS"),
    (
        ["service", "update", "--rollback", "--env-add", "A=1", "web"],
        "--rollback conflicts with --env-add: expected one of them",
    ),
    (["service", "update", "--rollback", "--force", "web"], "--rollback conflicts with --force"),
    (
        ["service", "update", "--rollback", "--with-registry-auth", "web"],
        "--rollback conflicts with --with-registry-auth",
    ),
    (
        ["service", "rollback", "--to", "0", "web"],
        '--to: value "0" is not valid: expected 1 to 9223372036854775807',
    ),
    (
        ["task", "signal", "-s", "SIGNOW", "web.1"],
        '--signal: value "SIGNOW" is not valid: expected a signal such as SIGHUP, or a number of 1',
    ),
    (["task", "signal", "web.1"], "Missing option '-s' / '--signal'"),
    (["service", "rollback", "--to", "x", "web"], '--to: value "x" is not valid'),
    (
        ["service", "history", "--diff", "--format", "json", "web"],
        "--diff conflicts with --format",
    ),
    (
        ["service", "logs", "--tail", "few", "web"],
        '--tail: value "few" is not valid: expected all, or 0 to',
    ),
    (
        ["service", "logs", "--since", "yesterday", "web"],
        '--since: value "yesterday" is not valid: expected 2026',
    ),
    (
        ["logs", "--until", "yesterday", "web"],
        '--until: value "yesterday" is not valid: expected 2026',
    ),
    (
        ["logs", "--since", "1m", "--until", "2m", "web"],
        '--until: value "2m" is not valid: expected a time after --since 1m',
    ),
    (
        ["logs", "--grep", "(", "web"],
        '--grep: value "(" is not valid: expected a regular expression of RE2: missing ): (',
    ),
    (["logs", "--grep", "", "web"], '--grep: value "" is not valid: expected a regular'),
    (
        ["service", "logs", "--follow", "--previous", "web"],
        "--follow and --previous cannot be used together",
    ),
    (["service", "rm"], "SERVICE..."),
    (["node", "update", "host1"], "nothing to update"),
    (
        ["node", "update", "--availability", "asleep", "host1"],
        '--availability: value "asleep" is not valid: expected one of active, pause, drain',
    ),
    (["network", "create", "-d", "macvlan", "app"], '--driver: value "macvlan"'),
    (["network", "create", "--subnet", "10.0.0.1/16", "app"], '--subnet: value "10.0.0.1/16"'),
    (["network", "create", "-o", "mtu=big", "app"], '--opt: value "mtu=big"'),
    (["network", "create", "-o", "encrypted=maybe", "app"], "expected encrypted, mtu=BYTES or com"),
    (["network", "create", "-o", "com.pyswarm.block-metadata=1", "app"], "com.pyswarm.block-meta"),
    (["network", "create", "host"], 'name: value "host" is not valid'),
    (["network", "create", "--gateway", "10.0.0.1", "app"], "expected --subnet as well"),
    (["network", "create", "--ip-range", "10.0.4.0/24", "app"], "expected --subnet as well"),
    (
        ["network", "create", "--subnet", "10.0.0.0/16", "--gateway", "10.1.0.1", "app"],
        '--gateway: value "10.1.0.1"',
    ),
    (
        [
            "network",
            "create",
            "--subnet=10.0.0.0/16",
            "--gateway=10.0.0.1",
            "--gateway=10.0.0.2",
            "app",
        ],
        '--gateway: value "10.0.0.2" is not valid: subnet 10.0.0.0/16 has a gateway already',
    ),
    (["network", "create", "--subnet", "fd00::/64", "app"], "expected --ipv6 as well"),
    (["network", "create", "--ingress", "--internal", "mesh"], "expected false with --ingress"),
    (["image", "pull", "web@sha256:12"], "expected a digest"),
    (["image", "rm", "a b"], 'image: value "a b"'),
    (["image", "build", "-t", f"web@sha256:{'a' * 64}", "."], "expected a name without a digest"),
    (["events", "--since", "1m", "--until", "2m"], "expected a time after --since 1m"),
    (
        ["swarm", "init", "--advertise-addr", "me"],
        '--advertise-addr: value "me" is not valid: expected IP[:PORT]',
    ),
    (["swarm", "init", "--advertise-addr", "127.0.0.1"], "not a loopback address"),
    (["swarm", "init", "--default-addr-pool", "127.0.0.0/8"], "default-addr-pool"),
    (["swarm", "init", "--dispatcher-heartbeat", "1"], '--dispatcher-heartbeat: value "1"'),
    (["swarm", "init", "--cert-expiry", "1s"], '--cert-expiry: value "1s"'),
    (["swarm", "update"], "nothing to update: specify at least one flag"),
    (["swarm", "update", "--cert-expiry", "1s"], "expected 5s to 365d"),
    (
        ["swarm", "update", "--cert-expiry", "366d"],
        'value "366d" is not valid: expected 5s to 365d',
    ),
    (["swarm", "update", "--cert-expiry", "d"], "expected 5s to 365d, as in 90d, 12h or 30m"),
    (["swarm", "update", "--autolock=maybe"], '--autolock: value "maybe" is not valid'),
    (["swarm", "ca", "--status", "--rotate"], "--status cannot be used with --rotate"),
    (["swarm", "ca", "--detach"], "--detach can only be used with --rotate"),
    (["swarm", "ca", "--status", "-q"], "--quiet can only be used with --rotate"),
    (["swarm", "ca", "--external-ca", "x"], "--external-ca is not supported yet: controllers"),
    (["swarm", "ca", "--ca-cert", "x"], "--ca-cert is not supported yet: a rotation makes"),
    (["swarm", "ca", "--ca-key=x"], "--ca-key is not supported yet: a rotation makes"),
    (["swarm", "ca", "--cert-expiry", "1h"], "use `pyswarm swarm update --cert-expiry`"),
    (
        ["swarm", "init", "--external-ca", "x"],
        "--external-ca is not supported yet: controllers",
    ),
    (
        ["swarm", "update", "--external-ca", "x"],
        "--external-ca is not supported yet: controllers",
    ),
    (["swarm", "update", "--max-snapshots", "1"], "--max-snapshots is not supported yet: the"),
    (["swarm", "update", "--snapshot-interval", "1"], "--snapshot-interval is not supported yet"),
    (["swarm", "join", "192.0.2.1:2377"], "--token"),
    (["swarm", "join", "--token", "t", "192.0.2.1:port"], "HOST:PORT"),
    (["swarm", "join", "--token", "t", "192.0.2.1"], "the token is not valid: it does not begin"),
    (["swarm", "join-token", "boss"], 'value "boss" is not valid: expected one of worker'),
    (["swarm", "join-token", "manager"], "a further controller is started on the same etcd"),
    (["node", "promote", "host2"], "node promote host2: a worker cannot become a manager"),
    (["node", "demote", "host1"], "node demote host1: a manager cannot become a worker"),
    (["completion", "tcsh"], "tcsh"),
    (["-H", "/nope", "service", "ls"], "expected unix:///PATH or HOST:PORT"),
    (["-H", "host:99999", "service", "ls"], "expected unix:///PATH or HOST:PORT"),
]


@pytest.mark.parametrize(("line", "told"), WRONG, ids=lambda value: " ".join(value)[:60])
def test_wrong_use_is_refused_before_any_connection(
    line: list[str], told: str, pyswarm: Pyswarm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYSWARM_HOST", "unix:///nonexistent/api.sock")
    ran = pyswarm(*line)
    assert (ran.code, ran.out) == (2, "")
    first, *more = ran.err.splitlines()
    assert first.startswith("Error: ")
    assert told in first
    assert len(first) < 400
    assert all(hint.startswith("See `pyswarm") for hint in more)


def test_unreachable_fleet_says_what_to_do(pyswarm: Pyswarm, tmp_path: Path) -> None:
    ran = pyswarm("-H", f"unix://{tmp_path}/none.sock", "service", "ls")
    assert ran.code == 1
    assert ran.err.startswith(f"Error: cannot reach a controller at unix://{tmp_path}")
    assert "pyswarm swarm init" in ran.err
    assert len(ran.err.splitlines()) == 1


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InvalidArgument("name 'x' is not valid"), 2),
        (AlreadyExists("service 'web' exists already"), 1),
        (PermissionDenied("not with this token"), 1),
    ],
)
def test_refusals_of_the_controller_are_told_as_they_are(
    error: Exception, code: int, script: Script, pyswarm: Pyswarm
) -> None:
    script.on("CreateService", error)
    ran = pyswarm("service", "create", "--name", "web", "web:1")
    assert (ran.code, ran.err) == (code, f"Error: {error}\n")


def test_an_older_controller_is_named(script: Script, pyswarm: Pyswarm) -> None:
    assert "upgrade it" in pyswarm("why", "web").err


def test_no_answer_in_time_is_not_a_failure(
    script: Script, pyswarm: Pyswarm, monkeypatch: pytest.MonkeyPatch
) -> None:
    import threading

    never = threading.Event()
    script.on("ListServices", lambda _: never.wait(5) or services_reply())
    from cli.client import Client

    monkeypatch.setattr(Client._ask, "__defaults__", (0.05,))
    ran = pyswarm("service", "ls")
    never.set()
    assert ran.code == 3
    assert "no answer from unix://" in ran.err


def test_a_controller_that_falls_silent_is_told_as_no_answer(
    script: Script, pyswarm: Pyswarm
) -> None:
    script.on("ListServices", Unavailable("Stream removed (ping timeout)"))
    ran = pyswarm("service", "ls")
    assert ran.code == 3
    assert ran.err.startswith("Error: no answer from unix://")
    assert "removed" not in ran.err


def test_reader_that_goes_away_is_no_error(script: Script) -> None:
    from tests.unit.cli.objects import service

    script.on("ListServices", services_reply(*[service() for _ in range(5000)]))
    command = [sys.executable, "-m", "tests.unit.cli.entry", "-H", script.host, "service", "ls"]
    process = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    told = process.stderr.read()
    process.stderr.close()
    assert (process.wait(), told) == (141, "")


@pytest.mark.parametrize("line", ["--help", "service create --help", "service create --tty=x web"])
def test_what_needs_no_fleet_loads_no_grpc(line: str, tmp_path: Path) -> None:
    program = (
        "import sys; from cli.main import run; run(sys.argv[1:]); "
        "print(*sorted({'grpc', 'numpy', 'yaml', 'asyncio'} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *line.split()],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stderr.splitlines()[-1] == ""


def test_a_list_loads_neither_numpy_nor_yaml(script: Script) -> None:
    script.on("ListServices", services_reply())
    program = (
        "import sys; from cli.main import run; run(sys.argv[1:]); "
        "print(*sorted({'numpy', 'yaml', 'pyroute2', 'hypothesis'} & set(sys.modules)), 'end')"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, "-H", script.host, "service", "ls"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.splitlines()[-1] == "end"


def test_a_controller_that_leads_soon_is_waited_for(script: Script, pyswarm: Pyswarm) -> None:
    nobody = Unavailable(f"this controller does not lead: {NO_LEADER}")
    script.on("ListServices", nobody, nobody, services_reply())
    assert pyswarm("service", "ls").code == 0
    assert len(script.requests("ListServices")) == 3


def test_a_controller_that_names_another_is_asked_once(script: Script, pyswarm: Pyswarm) -> None:
    script.on("ListServices", Unavailable("this controller does not lead: the leader is at x:1"))
    assert "the leader is at x:1" in pyswarm("service", "ls").err
    assert len(script.requests("ListServices")) == 1


@pytest.mark.parametrize(
    ("line", "late"),
    [
        ("service create -d web:1 --replicas 3", "--replicas"),
        ("service create -d web:1 serve --publish=80:80", "--publish"),
        ("service create -d --replicas 3 web:1 --config /etc/web", ""),
        ("create web:1 --replicas 3", ""),
        ("create web:1 --volume data:/data", "--volume"),
    ],
)
def test_flags_after_the_image_are_arguments_with_a_warning(
    line: str, late: str, script: Script, pyswarm: Pyswarm
) -> None:
    script.on("CreateService", service_reply())
    words = line.split()
    ran = pyswarm(*words)
    command = "service create" if words[0] == "service" else "create"
    told = f"warning: {late} is an argument of the container: write flags of `pyswarm {command}`"
    assert (ran.code, ran.err) == (0, f"{told} before the image\n" if late else "")
    args = script.requests("CreateService")[-1].spec.task_template.container_spec.args
    assert list(args) == words[words.index("web:1") + 1 :]
