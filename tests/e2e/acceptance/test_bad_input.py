"""Bad input and hostile programs: a clear word, nothing half-made, nobody else harmed."""

import pytest

from tests.e2e.acceptance.fleet import IMAGE, RUNNING, Fleet

TIGHT = ("--restart-condition", "none", "--stop-grace-period", "1s")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--reserve-memory", "100T"), "lack memory (needs 100.0 TiB"),
        (("--constraint", "node.labels.no==such"), "node.labels.no==such"),
    ],
)
def test_a_task_that_fits_nowhere_says_why_in_numbers(
    fleet: Fleet, service: str, words: tuple[str, ...], said: str
) -> None:
    fleet("service", "create", "-d", "--name", service, *words, IMAGE)
    fleet.until(lambda: said in fleet.error_of(service), "the reason is shown")
    assert "3 of 3 nodes" in fleet.error_of(service)
    assert "remedy" in fleet("why", service)


def test_an_image_nobody_has_is_said_so(fleet: Fleet, service: str) -> None:
    image = "10.99.0.250:5000/library/nothing:1"
    fleet("service", "create", "-d", "--name", service, *TIGHT, image)
    fleet.until(lambda: "nothing:1" in fleet.error_of(service), "the error names the image")


def test_a_program_that_is_not_there_is_said_so(fleet: Fleet, service: str) -> None:
    fleet("service", "create", "-d", "--name", service, *TIGHT, "--entrypoint", "nope", IMAGE)
    fleet.until(lambda: "nope" in fleet.error_of(service), "the error names the program")


def test_running_out_of_memory_is_shown_as_such(fleet: Fleet, service: str) -> None:
    eater = "dd if=/dev/zero of=/dev/null bs=200M count=5"
    fleet(
        "service", "create", "-d", "--name", service, *TIGHT, "--limit-memory", "32M",
        "--memory-swap", "32M", "--entrypoint", "sh", IMAGE, "-c", f"exec {eater}",
    )  # fmt: skip
    fleet.until(lambda: "out of memory" in fleet.error_of(service), "the OOM is shown")


def test_a_program_that_ignores_sigterm_is_killed_after_its_grace(
    fleet: Fleet, service: str
) -> None:
    fleet(
        "service", "create", "--name", service, "--stop-grace-period", "1s",
        "--entrypoint", "sh", IMAGE, "-c", "trap '' TERM; while :; do sleep 1; done",
    )  # fmt: skip
    fleet("service", "rm", service)
    fleet.until(lambda: not fleet.containers(), "nothing is left of it")


def test_a_fork_bomb_stays_within_its_pids_and_is_removed(fleet: Fleet, service: str) -> None:
    bomb = "f() { f & f & }; f; sleep 1000"
    fleet(
        "service", "create", "-d", "--name", service, *TIGHT, "--limit-pids", "30",
        "--entrypoint", "sh", IMAGE, "-c", bomb,
    )  # fmt: skip
    fleet.until(lambda: fleet.tasks(service), "it was made")
    fleet("service", "create", "--name", f"{service}n", "--replicas", "3", IMAGE)
    assert len(fleet.tasks(f"{service}n", RUNNING)) == 3
    fleet("service", "rm", service, f"{service}n")
    fleet.until(lambda: not fleet.containers(), "nothing is left of either")


def test_a_thousand_lines_a_second_hold_up_nobody(fleet: Fleet, service: str) -> None:
    talk = "i=0; while :; do seq $i $((i+99)); i=$((i+100)); sleep 0.1; done"
    fleet(
        "service", "create", "--name", service, "--stop-grace-period", "1s",
        "--entrypoint", "sh", IMAGE, "-c", talk,
    )  # fmt: skip
    fleet("service", "create", "--name", f"{service}n", "--replicas", "3", IMAGE)
    fleet("service", "rm", f"{service}n")
    first = fleet("service", "logs", "--raw", service).split()[:2000]
    assert first == [str(number) for number in range(len(first))]
    assert len(first) > 100
