"""Commands in containers, their terminals and their ports, while everything else dies."""

import os
import signal
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.e2e.acceptance.fleet import IMAGE, PATIENT, PYSWARM, Fleet, playground
from tests.fixtures.terminal import Terminal

SLEEPS = ("sh", "-c", "sleep 7654 & sleep 7654; true")


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Two hosts, with a service of one task."""
    with playground(tmp_path_factory.mktemp("home"), 2, **PATIENT) as found:
        found("service", "create", "--name", "box", "--stop-grace-period", "1s",
              "--entrypoint", "sh", IMAGE, "-c", "while :; do sleep 1; done")  # fmt: skip
        yield found


def typed(fleet: Fleet, *words: str, rows: int = 24, columns: int = 80) -> Terminal:
    """`pyswarm WORDS` on a terminal."""
    return Terminal([str(PYSWARM), *words], fleet.environment, rows, columns)


def host_of(fleet: Fleet) -> str:
    (task,) = fleet.running("box")
    return task["Node"]


def sleepers(fleet: Fleet) -> list[int]:
    """The pids of the processes above in the task's container: three."""
    (task,) = fleet.running("box")
    top = "pids" if Path("/sys/fs/cgroup/pids").is_dir() else "."
    found = []
    for procs in Path("/sys/fs/cgroup").glob(
        f"{top}/pyswarm-{fleet.name}/host*/containers/{task['ID']}/**/cgroup.procs"
    ):
        for pid in procs.read_text().split():
            try:
                if b"7654" in Path(f"/proc/{pid}/cmdline").read_bytes():
                    found.append(int(pid))
            except OSError:
                continue
    return found


def end(fleet: Fleet) -> None:
    """Kill them."""
    for pid in sleepers(fleet):
        with suppress(ProcessLookupError):  # they end with each other
            os.kill(pid, signal.SIGKILL)
    fleet.until(lambda: not sleepers(fleet), "the command has ended")


@contextmanager
def started(fleet: Fleet, *words: str) -> Iterator[subprocess.Popen[bytes]]:
    """A command in the background, whose output is read by nobody but the test."""
    process = subprocess.Popen(
        [PYSWARM, *words], env=fleet.environment,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    with process:
        try:
            yield process
        finally:
            process.kill()


def resident(pid: int) -> int:
    """Bytes of memory of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096


def test_output_and_exit_code_are_the_command_s(fleet: Fleet) -> None:
    done = fleet.run("exec", "box", "sh", "-c", "echo out; echo err >&2; exit 7")
    assert (done.code, done.out, done.err) == (7, "out\n", "err\n")
    done = fleet.run("exec", "box.1", "nothing")
    assert (done.code, done.out) == (127, "")
    assert 'exec: "nothing": executable file not found in $PATH' in done.err
    done = fleet.run("exec", "-u", "nobody-here", "box", "true")
    assert done.code == 126
    assert "unable to find user nobody-here: no matching entries in passwd file" in done.err
    done = fleet.run("exec", "-w", "/no/such", "box", "true")
    assert (done.code, done.out) == (127, "")
    assert done.err == 'Error: working directory "/no/such": no such file or directory\n'
    said = fleet.refused("exec", "-w", "relative", "box", "true")
    assert '--workdir: value "relative" is not valid: expected an absolute path' in said
    pipeline = f"{PYSWARM} exec box yes | head -1; exit ${{PIPESTATUS[0]}}"
    done = fleet.on_machine(["bash", "-c", pipeline])
    assert (done.code, done.out, done.err) == (141, "y\n", "")
    echoed = subprocess.run(
        [PYSWARM, "exec", "-i", "box", "cat"],
        env=fleet.environment,
        input=b"x" * 200_000,
        capture_output=True,
        check=True,
    )
    assert len(echoed.stdout) == 200_000


def test_a_shell_at_a_terminal(fleet: Fleet) -> None:
    with typed(fleet, "exec", "-it", "-e", "PS1=> ", "box", "sh", rows=30, columns=90) as shell:
        shell.until("> ")
        shell.type("busybox stty size\r")
        shell.until("30 90")
        shell.until("> ")
        shell.resize(40, 100)
        shell.type("until [ \"$(busybox stty size)\" = '40 100' ]; do :; done; echo re''sized\r")
        shell.until("resized")
        # Printed by the job: while the shell starts it, Ctrl-C may be lost.
        shell.type("sh -c \"echo beg''un; exec sleep 1000\"\r")
        shell.until("begun")
        shell.type("\x03")
        shell.until("> ")
        shell.type("exit 5\r")
        assert shell.ended() == 5


def test_a_terminal_that_is_detached_leaves_the_program(fleet: Fleet) -> None:
    with typed(fleet, "exec", "-it", "box", *SLEEPS) as shell:
        fleet.until(lambda: len(sleepers(fleet)) == 3, "the command runs")
        shell.type("\x10\x11")
        assert shell.ended() == 0
    assert len(sleepers(fleet)) == 3
    fleet("exec", "box", "true")
    assert len(sleepers(fleet)) == 3, "further commands leave it alone"
    end(fleet)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_command_ends_with_its_caller(fleet: Fleet, number: int) -> None:
    with typed(fleet, "exec", "-it", "box", *SLEEPS) as shell:
        fleet.until(lambda: len(sleepers(fleet)) == 3, "the command runs")
        shell.kill(number)
        if number != signal.SIGKILL:
            assert shell.ended() == 128 + number
        fleet.until(lambda: not sleepers(fleet), "the command is gone")


def test_a_command_ends_with_its_terminal(fleet: Fleet) -> None:
    with typed(fleet, "exec", "-it", "box", *SLEEPS) as shell:
        fleet.until(lambda: len(sleepers(fleet)) == 3, "the command runs")
        shell.hang_up()
        fleet.until(lambda: not sleepers(fleet), "the command is gone")
        assert shell.ended() != 0


def test_a_reader_that_does_not_read_costs_no_memory(fleet: Fleet) -> None:
    agent, controller = fleet.daemon(host_of(fleet)), fleet.daemon("host1", "controller")
    fleet("exec", "box", "true")
    before = resident(agent), resident(controller)
    script = "dd if=/dev/zero bs=1M count=256 2>/dev/null"
    with started(fleet, "exec", "box", "sh", "-c", script) as process:
        output = process.stdout
        assert output
        output.read(1)
        fleet("exec", "box", "true")
        grown = resident(agent) - before[0], resident(controller) - before[1]
        assert max(grown) < 16 << 20
        rest = 0
        while part := output.read(1 << 20):
            rest += len(part)
        assert (process.wait(), rest) == (0, (256 << 20) - 1)
    assert max(resident(agent) - before[0], resident(controller) - before[1]) < 24 << 20


def test_a_hundred_commands_at_once(fleet: Fleet) -> None:
    def run(number: int) -> tuple[int, str]:
        done = fleet.run("exec", "box", "sh", "-c", f"echo {number}; exit {number % 7}")
        return done.code, done.out

    with ThreadPoolExecutor(100) as pool:
        found = list(pool.map(run, range(100)))
    assert found == [(number % 7, f"{number}\n") for number in range(100)]


def test_a_command_in_every_replica(fleet: Fleet) -> None:
    fleet("service", "create", "--name", "many", "--replicas", "3", IMAGE)
    done = fleet.run("exec", "--all", "many", "sh", "-c", "echo hello; exit 3")
    assert (done.code, sorted(done.out.splitlines())) == (
        3,
        ["many.1 | hello", "many.2 | hello", "many.3 | hello"],
    )
    said = fleet.refused("exec", "many", "true")
    assert "service many has 3 running tasks: name one of them, as many.1, many.2, many.3" in said
    fleet("service", "rm", "many")


def test_a_command_in_the_background_outlives_the_agent(fleet: Fleet) -> None:
    fleet("exec", "-d", "box", *SLEEPS)
    fleet.until(lambda: len(sleepers(fleet)) == 3, "the command runs")
    assert fleet.run("exec", "-d", "box", "nothing").code == 127
    host = host_of(fleet)
    fleet.kill(host)
    fleet.until(lambda: fleet.run("exec", "box", "true").code == 0, "the agent is back")
    assert len(sleepers(fleet)) == 3
    end(fleet)


def test_a_client_attached_to_the_program(fleet: Fleet) -> None:
    script = "trap 'echo interrupted; exit 4' INT; while :; do echo tick; sleep 0.2; done"
    fleet("service", "create", "--name", "talk", "--restart-condition", "none",
          "--entrypoint", "sh", IMAGE, "-c", script)  # fmt: skip
    with typed(fleet, "attach", "--no-sig-proxy", "talk") as client:
        client.until("tick")
        client.type("\x03")
        assert client.ended() == 130, "the program goes on"
    with typed(fleet, "attach", "talk.1") as client:
        client.until("tick")
        client.type("\x03")
        client.until("interrupted")
        assert client.ended() == 4
    assert "does not run: it is failed" in fleet.refused("attach", "talk.1")
    fleet("service", "rm", "talk")


def test_a_port_of_a_task(fleet: Fleet) -> None:
    fleet("service", "create", "--name", "www", IMAGE)
    with started(fleet, "port-forward", "www", "0:80") as process:
        assert process.stdout
        line = process.stdout.readline().decode()
        port = line.split(":")[1].split()[0]
        for _ in range(3):
            got = fleet.on_machine(["curl", "-sS", f"http://127.0.0.1:{port}/"])
            assert got.code == 0, got
            assert got.out
        refused = fleet.run("port-forward", "www", f"{port}:80")
        assert "address already in use" in refused.err
    fleet("service", "rm", "www")


def test_commands_are_in_the_audit_log(fleet: Fleet) -> None:
    fleet("exec", "-e", "TOKEN=hidden-value", "box", "echo", "shown")
    fleet.until(lambda: "Command: echo shown, Env: TOKEN" in fleet("audit"), "it is recorded")
    assert "hidden-value" not in fleet("audit", "--format", "{{json .}}")


def test_the_death_of_the_agent_breaks_the_stream_and_ends_the_command(fleet: Fleet) -> None:
    host = host_of(fleet)
    with typed(fleet, "exec", "-it", "box", *SLEEPS) as shell:
        fleet.until(lambda: len(sleepers(fleet)) == 3, "the command runs")
        os.kill(fleet.daemon(host), signal.SIGKILL)
        shell.until("Error: the stream broke: ")
        assert shell.ended() == 125
    fleet.until(lambda: fleet.daemon(host), "the agent is back")
    fleet.until(lambda: fleet.run("exec", "box", "true").code == 0, "it runs commands")
    fleet.until(lambda: not sleepers(fleet), "the command is gone")


def test_the_death_of_the_controller_breaks_the_stream(fleet: Fleet) -> None:
    with typed(fleet, "exec", "-it", "box", *SLEEPS) as shell:
        fleet.until(lambda: len(sleepers(fleet)) == 3, "the command runs")
        fleet.kill("host1", "controller")
        shell.until("Error: the stream broke: ")
        assert shell.ended() == 125
    fleet.until(lambda: fleet.run("service", "ls").code == 0, "the controller is back")
    fleet.until(lambda: not sleepers(fleet), "the command is gone")
