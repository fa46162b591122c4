"""What a Docker user types about containers, on a real fleet and on a terminal."""

import io
import json
import re
import signal
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from ipaddress import ip_network
from itertools import count
from pathlib import Path

import pytest

from tests.e2e.acceptance.fleet import COMMAND_LIMIT_S, IMAGE, PYSWARM, Fleet
from tests.e2e.acceptance.web import reached
from tests.fixtures.terminal import Terminal

HOSTS = ("10.99.0.1", "10.99.0.2", "10.99.0.3")
AT_ONCE = ("--stop-timeout", "0")
"""Of programs that ignore the stop signal."""
_ports = count(28080)


@pytest.fixture
def name(fleet: Fleet, service: str) -> Iterator[str]:
    """The name of a container, which is removed if the test leaves it."""
    yield service
    fleet.run("rm", "-f", service)


def ran(fleet: Fleet, *words: str, stdin: bytes = b"") -> tuple[int, bytes, bytes]:
    """Exit code, standard output and error of `pyswarm WORDS`, as bytes."""
    done = subprocess.run(
        [PYSWARM, *words],
        env=fleet.environment,
        input=stdin,
        capture_output=True,
        timeout=COMMAND_LIMIT_S,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def typed(fleet: Fleet, *words: str) -> Terminal:
    return Terminal([str(PYSWARM), *words], fleet.environment)


def names(fleet: Fleet, *flags: str) -> list[str]:
    return [row["Names"] for row in fleet.rows("ps", *flags)]


def test_a_container_answers_on_every_host_and_is_stopped_started_renamed_and_removed(
    fleet: Fleet, name: str
) -> None:
    port = next(_ports)
    line = ("-d", "--name", name, "-p", f"{port}:80", "-e", "NODE_ENV=production", IMAGE)
    container_id = fleet("run", *line)
    for address in HOSTS:
        reached(fleet, "lan", address, port)
    (row,) = fleet.rows("ps", "--no-trunc")
    assert (row["ID"], row["Names"], row["Image"], row["State"]) == (
        container_id,
        name,
        IMAGE,
        "running",
    )
    assert row["Ports"] == f"0.0.0.0:{port}->80/tcp"
    assert row["Status"].startswith("Up ")
    assert fleet("inspect", "-f", "{{.State.Status}}", name) == "running"
    assert fleet("inspect", "-f", "{{.NetworkSettings.IPAddress}}", name).count(".") == 3
    assert "NODE_ENV=production" in fleet("inspect", "-f", "{{json .Config.Env}}", name)
    refused = fleet.run("run", "-d", "--name", name, IMAGE)
    assert (refused.code, "already in use" in refused.err) == (125, True)
    assert fleet("stop", name) == name
    assert names(fleet) == []
    (row,) = fleet.rows("ps", "-a")
    assert (row["Names"], row["State"]) == (name, "exited")
    assert row["Status"].startswith("Exited (")
    assert fleet("start", name) == name
    reached(fleet, "lan", HOSTS[0], port)
    old = f"{name}-old"
    fleet("rename", name, old)
    assert names(fleet) == [old]
    fleet("run", "-d", "--name", name, IMAGE)
    assert sorted(names(fleet)) == sorted([name, old])
    assert "stop the container before removing" in fleet.refused("rm", old)
    assert fleet("rm", "-f", old) == old
    assert fleet("rm", "-f", name) == name
    assert names(fleet, "-a") == []
    assert f"No such container: {name}: " in fleet.refused("stop", name)


def test_its_files_stay_over_stop_start_and_restart(fleet: Fleet, name: str) -> None:
    script = "cat /kept 2>/dev/null; echo run >>/kept; exec sleep 1000"
    fleet(
        "run",
        "-d",
        "--name",
        name,
        "--entrypoint",
        "sh",
        "--stop-timeout",
        "0",
        IMAGE,
        "-c",
        script,
    )
    where = fleet("inspect", "-f", "{{.Node.Name}}", name)
    fleet("stop", name)
    fleet("start", name)
    fleet("restart", "-t", "0", name)
    fleet.until(lambda: fleet("logs", name).split() == ["run"] * 3, "it has what it wrote")
    assert fleet("inspect", "-f", "{{.Node.Name}}", name) == where
    assert fleet("exec", name, "cat", "/kept").split() == ["run"] * 3


def test_limits_are_those_that_docker_sets(fleet: Fleet, name: str) -> None:
    fleet(
        "run", "-d", "--name", name, "--cpus=1.5", "--memory=64m", "--memory-swap=128m",
        "--pids-limit=100", IMAGE,
    )  # fmt: skip
    (row,) = fleet.rows("service", "ps", name, "--no-trunc")
    task = row["ID"]
    assert fleet.limit(task, "memory/memory.limit_in_bytes", "memory.max") == str(64 << 20)
    assert fleet.limit(task, "pids/pids.max", "pids.max") == "100"
    assert fleet.limit(task, "cpu/cpu.cfs_quota_us", "cpu.max").split()[0] == "150000"
    shown = fleet("inspect", "-f", "{{.HostConfig.Memory}} {{.HostConfig.MemorySwap}}", name)
    assert shown == f"{64 << 20} {128 << 20}"


def test_files_of_a_user_namespace_stay_over_stop_and_start(fleet: Fleet, name: str) -> None:
    script = "cut -c -33 /proc/self/uid_map; echo $(id -u) >> /kept; cat /kept; exec sleep 1000"
    line = f"run -d --name {name} --userns auto --stop-timeout 0 --entrypoint sh {IMAGE} -c"
    fleet(*line.split(), script)
    fleet.until(lambda: fleet("logs", name).endswith("\n0"), "it has written")
    fleet("stop", name)
    fleet("start", name)
    fleet.until(lambda: fleet("logs", name).endswith("\n0\n0"), "it has its file")
    ids = [row.split()[1] for row in fleet("logs", name).splitlines() if len(row.split()) == 3]
    assert len(ids) == 2
    assert ids[0] == ids[1] != "0"


def test_address_mac_and_cpus_are_those_that_were_chosen_also_after_a_restart(
    fleet: Fleet, name: str
) -> None:
    (network,) = json.loads(fleet("network", "inspect", "app"))
    address = str(ip_network(network["IPAM"]["Config"][0]["Subnet"])[30_000])
    mac = "02:42:ac:11:00:09"
    fleet(
        "run", "-d", "--name", name, "--network", "app", "--ip", address, "--mac-address", mac,
        "--cpuset-cpus", "0", "--net-egress", "10mbit", "--stop-timeout", "0", IMAGE,
    )  # fmt: skip
    for _ in range(2):
        shown = fleet("exec", name, "ip", "addr", "show", "eth0")
        assert (f"inet {address}/" in shown, mac in shown) == (True, True)
        assert "Cpus_allowed_list:\t0\n" in fleet("exec", name, "cat", "/proc/1/status")
        fleet("restart", "-t", "0", name)
    fleet("stop", name)
    said = fleet.refused("create", "--network", "app", "--ip", address, IMAGE)
    assert f'address {address} of network "app" is already that of container "{name}"' in said


def test_a_terminal_is_typed_on_and_nothing_is_left(fleet: Fleet) -> None:
    with typed(fleet, "run", "--rm", "-it", "--entrypoint", "sh", IMAGE) as shell:
        shell.until("# ")
        assert shell.is_raw()
        shell.type("stty size\n")
        shell.until("24 80")
        shell.resize(40, 100)
        shell.until("# ")
        shell.type("until [ \"$(stty size)\" = '40 100' ]; do :; done; echo re''sized\n")
        shell.until("resized")
        shell.type("echo g''o; cat\n")
        shell.until("go\r\n")
        shell.type("typed\n")
        shell.until("typed\r\ntyped")
        shell.type("\x03")
        shell.until("# ")
        shell.type("exit 3\n")
        assert shell.ended() == 3
        assert not shell.is_raw()
    assert names(fleet, "-a") == []


def test_exec_has_a_terminal_and_an_exit_code(fleet: Fleet, name: str) -> None:
    fleet("run", "-d", "--name", name, "-e", "A=1", IMAGE)
    with typed(fleet, "exec", "-it", name, "sh") as shell:
        shell.until("# ")
        shell.type("echo $A; exit 4\n")
        shell.until("\r\n1\r\n")
        assert shell.ended() == 4
    assert "A=1" in fleet("exec", name, "env").split()


def test_standard_output_and_error_are_apart_and_input_ends(fleet: Fleet) -> None:
    script = "cat; echo out; echo err >&2; exit 7"
    line = ("run", "--rm", "-i", "--entrypoint", "sh", IMAGE, "-c", script)
    data = bytes(range(256)) * 4096
    assert ran(fleet, *line, stdin=data) == (7, data + b"out\n", b"err\n")
    assert names(fleet, "-a") == []


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("--entrypoint /nope IMAGE", 127),
        ("--entrypoint /etc IMAGE", 126),
        ("--bogus IMAGE", 125),
        ("--entrypoint sh IMAGE -c 'exit 9'", 9),
        ("--entrypoint true IMAGE", 0),
    ],
)
def test_exit_codes_are_dockers(line: str, code: int, fleet: Fleet) -> None:
    words = [word.strip("'") for word in line.replace("exit 9", "exit_9").split()]
    words = [IMAGE if word == "IMAGE" else word.replace("_", " ") for word in words]
    assert ran(fleet, "run", "--rm", *words)[0] == code
    fleet.until(lambda: names(fleet, "-a") == [], "nothing is left")


def test_signals_reach_the_program(fleet: Fleet) -> None:
    script = "trap 'echo got it; exit 5' TERM; echo ready; while :; do sleep 0.1; done"
    process = subprocess.Popen(
        [PYSWARM, "run", "--rm", "--entrypoint", "sh", IMAGE, "-c", script],
        env=fleet.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGTERM)
        assert process.stdout.read() == "got it\n"
    assert process.returncode == 5
    assert names(fleet, "-a") == []


def test_a_created_container_is_started_attached(fleet: Fleet, name: str) -> None:
    fleet("create", "-i", "--name", name, "--entrypoint", "sh", IMAGE, "-c", "cat; exit 6")
    assert [row["State"] for row in fleet.rows("ps", "-a")] == ["created"]
    assert ran(fleet, "start", "-ai", name, stdin=b"hello\n") == (6, b"hello\n", b"")
    assert fleet("inspect", "-f", "{{.State.ExitCode}}", name) == "6"


def test_a_detached_terminal_leaves_the_container_running(fleet: Fleet, name: str) -> None:
    with typed(fleet, "run", "-it", "--name", name, "--entrypoint", "sh", IMAGE) as shell:
        shell.until("# ")
        shell.type("\x10\x11")
        assert shell.ended() == 0
    assert names(fleet) == [name]


def test_logs_are_as_dockers(fleet: Fleet, name: str) -> None:
    wait = "until [ -e /go ]; do sleep 0.05; done"  # conmon reads both streams in no order
    script = f"for n in 1 2 3; do echo line $n; done; {wait}; echo wrong >&2; exec sleep 1000"
    fleet(
        "run",
        "-d",
        "--name",
        name,
        "--stop-timeout",
        "0",
        "--entrypoint",
        "sh",
        IMAGE,
        "-c",
        script,
    )
    fleet.until(lambda: "line 3" in fleet.run("logs", name).out, "it has written")
    fleet("exec", name, "touch", "/go")
    fleet.until(lambda: "wrong" in fleet.run("logs", name).err, "it has written more")
    done = fleet.run("logs", name)
    assert (done.out, done.err) == ("line 1\nline 2\nline 3\n", "wrong\n")
    assert fleet.run("logs", "--tail", "2", name).out == "line 3\n"
    assert fleet.run("logs", "-t", name).out.splitlines()[0].endswith("Z line 1")
    with typed(fleet, "logs", "-f", name) as shown:
        shown.until("line 3")
        shown.type("\x03")
        assert shown.ended() == 130


def test_a_port_of_a_foreign_process_is_refused_with_its_holder(fleet: Fleet, name: str) -> None:
    port = next(_ports)
    listen = f"import socket; s = socket.create_server(('', {port})); print(s); s.accept()"
    enter = ["nsenter", f"--net={fleet.netns('host1')}", "--", sys.executable, "-uc", listen]
    with subprocess.Popen(enter, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline(), "it listens"
        done = fleet.run("run", "-d", "--name", name, "--node", "host1", "-p", f"{port}:80", IMAGE)
        holder.kill()
    assert done.code == 125
    taken = rf"port {port}/tcp is in use on this host by python\S* \(process {holder.pid}\)"
    assert re.search(taken, done.err)


def test_tasks_of_services_are_listed_and_stopped_as_containers(fleet: Fleet, service: str) -> None:
    fleet("service", "create", "--name", service, "--replicas", "2", IMAGE)
    rows = fleet.rows("ps", "-f", f"service={service}", "--no-trunc")
    assert sorted(row["Names"].rpartition(".")[0] for row in rows) == [
        f"{service}.1",
        f"{service}.2",
    ]
    assert len({row["Node"] for row in rows}) == 2
    (document,) = json.loads(fleet("inspect", f"{service}.2"))
    assert document["Service"]["Slot"] == 2
    assert fleet("restart", f"{service}.2") == f"{service}.2"
    again = fleet.rows("ps", "-f", f"service={service}", "--no-trunc")
    assert {row["ID"] for row in again} != {row["ID"] for row in rows}
    assert fleet("stop", service) == service
    assert fleet.rows("ps", "-f", f"service={service}") == []
    assert fleet("start", service) == service
    assert len(fleet.rows("ps", "-f", f"service={service}")) == 2


def test_stopped_containers_are_pruned(fleet: Fleet, name: str) -> None:
    fleet("run", "-d", "--name", name, "--entrypoint", "true", IMAGE)
    fleet.until(lambda: not names(fleet), "it has ended")
    with typed(fleet, "container", "prune") as asked:
        asked.until(r"continue\? \[y/N\]: ")
        asked.type("y\n")
        asked.until("Deleted Containers:")
        assert asked.ended() == 0
    assert names(fleet, "-a") == []


def test_files_are_copied_while_it_runs_and_while_it_is_stopped(
    fleet: Fleet, name: str, tmp_path: Path
) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "index.html").write_text("hello\n")
    (tmp_path / "site" / "link").symlink_to("index.html")
    sleeps = ("--entrypoint", "sleep", IMAGE, "1000")
    fleet("run", "-d", "--name", name, "--stop-timeout", "0", *sleeps)
    fleet("cp", f"{tmp_path}/site", f"{name}:/srv")
    assert fleet("exec", name, "cat", "/srv/link").strip() == "hello"
    assert "A /srv/index.html" in fleet("diff", name).split("\n")
    assert "sleep 1000" in fleet("top", name, "-o", "pid,args")
    code, archive, error = ran(fleet, "cp", f"{name}:/srv/.", "-")
    assert not error, error.decode()
    assert code == 0
    code, _, error = ran(fleet, "cp", "-", f"{name}:/tmp", stdin=archive)
    assert (code, error) == (0, b"")
    assert fleet("exec", name, "cat", "/tmp/index.html").strip() == "hello"
    fleet("stop", name)
    fleet("cp", f"{name}:/srv", f"{tmp_path}/back")
    assert (tmp_path / "back" / "link").readlink() == Path("index.html")
    (tmp_path / "site" / "index.html").write_text("changed\n")
    fleet("cp", f"{tmp_path}/site/index.html", f"{name}:/srv/")
    fleet("export", "-o", f"{tmp_path}/all.tar", name)
    with tarfile.open(tmp_path / "all.tar") as whole:
        assert "srv/index.html" in whole.getnames()
    fleet("start", name)
    assert fleet("exec", name, "cat", "/srv/link").strip() == "changed"
    hostile = io.BytesIO()
    with tarfile.open(fileobj=hostile, mode="w") as made:
        made.addfile(tarfile.TarInfo("good"))
        made.addfile(tarfile.TarInfo("../evil"))
    code, _, error = ran(fleet, "cp", "-", f"{name}:/tmp", stdin=hostile.getvalue())
    assert (code, b'entry "../evil"' in error) == (2, True)
    assert "good" not in fleet("exec", name, "ls", "/tmp")
    for words in (("cp", f"{name}:/none", "."), ("cp", f"{name}:/srv", "/none/there/x")):
        assert "no such" in fleet.refused(*words)


def test_it_is_paused_updated_waited_for_and_killed(fleet: Fleet, name: str) -> None:
    port = next(_ports)
    line = ("--restart", "always", "-p", f"{port}:80", "--health-cmd", "true")
    fleet("run", "-d", "--name", name, *line, "--health-interval", "200ms", IMAGE)
    assert fleet("port", name) == f"80/tcp -> 0.0.0.0:{port}"
    assert fleet("port", name, "80") == f"0.0.0.0:{port}"
    reached(fleet, "lan", HOSTS[0], port)
    assert fleet("pause", name) == name
    (row,) = fleet.rows("ps")
    assert row["State"] == "paused"
    assert row["Status"].endswith("(Paused)")
    assert "is already paused" in fleet.refused("pause", name)
    assert "paused" in fleet.refused("exec", name, "true")
    assert fleet("unpause", name) == name
    reached(fleet, "lan", HOSTS[0], port)
    (task,) = fleet.tasks(name)
    fleet("update", "--memory", "48m", "--cpus", "0.5", name)
    assert fleet("exec", name, "true") == ""
    assert fleet.tasks(name)[0]["ID"] == task["ID"]
    assert fleet.limit(task["ID"], "memory/memory.limit_in_bytes", "memory.max") == str(48 << 20)
    waiting = subprocess.Popen(
        [PYSWARM, "wait", name], env=fleet.environment, stdout=subprocess.PIPE
    )
    with waiting:
        fleet("kill", name)
        assert waiting.stdout is not None
        assert waiting.stdout.read() == b"137\n"
    fleet.until(lambda: names(fleet) == [], "it does not run")
    (row,) = fleet.rows("ps", "-a")
    assert (row["State"], row["Status"][:12]) == ("exited", "Exited (137)")
    assert "is not running" in fleet.refused("kill", name)
    fleet("start", name)
    fleet("pause", name)
    fleet("stop", name)
    (row,) = fleet.rows("ps", "-a")
    assert (row["State"], row["Status"][:6]) == ("exited", "Exited")


def test_its_files_are_measured_while_it_runs_and_when_it_is_stopped(
    fleet: Fleet, name: str
) -> None:
    fleet("run", "-d", "--name", name, *AT_ONCE, "--entrypoint", "sleep", IMAGE, "1000")
    fleet("exec", name, "sh", "-c", "head -c 3000000 /dev/zero >/big; ln /big /same")
    for _ in range(2):
        (row,) = fleet.rows("ps", "-a", "--size", "-f", f"name=^{name}$")
        assert re.fullmatch(r"3MB \(virtual [0-9.]+MB\)", row["Size"])
        (document,) = json.loads(fleet("inspect", "--size", name))
        assert document["SizeRw"] >= 3_000_000
        (image,) = json.loads(fleet("inspect", "--type", "image", IMAGE))
        assert document["SizeRootFs"] == document["SizeRw"] + image["Size"]
        fleet("stop", name)


def test_all_ports_of_the_image_are_published(fleet: Fleet, name: str) -> None:
    fleet("run", "-d", "--name", name, "-P", "--expose", "53/udp", IMAGE)
    lines = fleet("port", name).splitlines()
    assert [line.partition(" -> ")[0] for line in lines] == ["53/udp", "80/tcp"]
    port = int(fleet("port", name, "80").rpartition(":")[2])
    reached(fleet, "lan", HOSTS[0], port)
    missing = "10.99.0.250:5000/library/nothing:1"
    said = fleet.refused("create", "-P", "--name", f"{name}x", missing)
    assert f"--publish-all: the ports that image {missing} exposes are not known: " in said
    assert "No such container" in fleet.refused("container", "inspect", f"{name}x")


def test_a_running_container_is_looked_at_changed_and_killed(
    fleet: Fleet, name: str, tmp_path: Path
) -> None:
    port = next(_ports)
    fleet("run", "-d", "--name", name, "-p", f"{port}:80", "--entrypoint", "sleep", IMAGE, "1000")
    assert fleet("port", name) == f"80/tcp -> 0.0.0.0:{port}"
    assert "sleep 1000" in fleet("top", name)
    (row,) = fleet.rows("stats", "--no-stream", name)
    assert row["Name"] == name
    (tmp_path / "file").write_text("copied\n")
    fleet("cp", str(tmp_path / "file"), f"{name}:/copied")
    assert fleet("exec", name, "cat", "/copied") == "copied"
    fleet("cp", f"{name}:/copied", str(tmp_path / "back"))
    assert (tmp_path / "back").read_text() == "copied\n"
    assert "A /copied" in fleet("diff", name).splitlines()
    fleet("pause", name)
    (row,) = fleet.rows("ps")
    assert (row["State"], "(Paused)" in row["Status"]) == ("paused", True)
    fleet("unpause", name)
    with subprocess.Popen([PYSWARM, "wait", name], env=fleet.environment, stdout=subprocess.PIPE,
                          text=True) as waiting:  # fmt: skip
        fleet("kill", name)
        assert waiting.stdout is not None
        assert waiting.stdout.read() == "137\n"
    assert fleet("inspect", "-f", "{{.State.ExitCode}}", name) == "137"


def test_others_find_a_container_by_its_name(fleet: Fleet, name: str) -> None:
    fleet(
        "run", "-d", "--name", name, "--network", "app", "--network-alias", f"{name}-alias", IMAGE
    )
    own = ("exec", name, "wget", "-qO-", "http://localhost/healthy")
    fleet.until(lambda: fleet.run(*own).code == 0, "it listens")
    for known in (name, f"{name}-alias"):
        line = (
            "--network",
            "app",
            "--entrypoint",
            "wget",
            IMAGE,
            "-qO-",
            f"http://{known}/healthy",
        )
        assert fleet("run", "--rm", *line) == "yes"
