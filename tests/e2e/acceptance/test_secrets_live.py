"""Secrets in the environment, and new versions in containers that run on."""

from pathlib import Path

from tests.e2e.acceptance.fleet import IMAGE, PATIENT, Fleet
from tests.e2e.acceptance.test_secrets import created, fleet, held, inside, name, put

__all__ = ["fleet", "name"]

ENVIRONMENT = PATIENT
READS = "trap 'cat {0} >>/tmp/seen' HUP; cat {0} >/tmp/seen; while :; do sleep 0.1; done"
"""Appends the file to what it has seen when it starts, and with each SIGHUP."""


def reading(fleet: Fleet, service: str, path: str, *flags: str) -> None:
    shell = ("--entrypoint", "sh", *flags, IMAGE, "-c", READS.format(path))
    fleet("service", "create", "--name", service, "--stop-grace-period", "0s", *shell)
    seen = ("cat", "/tmp/seen")
    fleet.until(
        lambda: all(fleet.contained(one["ID"], *seen).out for one in fleet.running(service)),
        "all have read it, and trap the signal",
    )


def test_a_variable_is_in_the_container_and_nowhere_else(
    fleet: Fleet, name: str, service: str
) -> None:
    put(fleet, "secret", "create", name, "hunter2-variable\n")
    created(fleet, service, "--secret-env", f"PASSWORD={name}")
    environ = ("sh", "-c", "tr '\\0' '\\n' </proc/1/environ | grep PASSWORD")
    assert inside(fleet, service, *environ) == "PASSWORD=hunter2-variable\n"
    (task, *_) = fleet.running(service)
    for words in (
        ("service", "inspect", service),
        ("task", "inspect", task["ID"]),
        ("events", "--since", "10m", "--until", "0s"),
        ("audit",),
    ):
        assert "hunter2-variable" not in fleet(*words)
    put(fleet, "secret", "update", name, "second")
    assert inside(fleet, service, *environ) == "PASSWORD=second\n"
    fleet("service", "rm", service)


def test_a_new_version_reaches_running_containers_with_a_signal(
    fleet: Fleet, name: str, service: str
) -> None:
    path = f"/run/secrets/{name}"
    put(fleet, "secret", "create", name, "one ")
    reading(fleet, service, path, "--secret", name, "--replicas", "2")
    before = {task["ID"] for task in fleet.running(service)}
    put(fleet, "secret", "update", name, "two ", "--reload", "signal=HUP")
    seen = ("cat", "/tmp/seen")
    fleet.until(lambda: inside(fleet, service, *seen) == "one two ", "it has read both")
    put(fleet, "secret", "update", name, "three ", "--reload", "none")
    assert inside(fleet, service, "cat", path) == "three "
    assert inside(fleet, service, *seen) == "one two "
    fleet("service", "rollback", service)
    assert inside(fleet, service, "cat", path) == "two "
    assert {task["ID"] for task in fleet.running(service)} == before
    assert {len(ids) for ids in held(fleet).values()} <= {0, 1}
    fleet("service", "rm", service)


def test_a_file_elsewhere_is_refused_by_the_service_s_name(
    fleet: Fleet, name: str, service: str
) -> None:
    put(fleet, "config", "create", name, "one")
    created(fleet, service, "--config", name)
    file = str(Path(fleet.home) / "data")
    told = fleet.refused("config", "update", "--reload", "signal=HUP", name, file)
    assert f'service "{service}" has config {name} at /{name}' in told
    fleet("service", "rm", service)
