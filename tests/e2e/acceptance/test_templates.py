"""Swarm's templates on a real fleet: what a task finds, and a volume for each slot."""

import pytest

from tests.e2e.acceptance.fleet import IMAGE, PATIENT, Fleet

ENVIRONMENT = PATIENT
APPEND = "echo $NAME >>/data/log; exec sleep 1000"


@pytest.fixture(scope="module")
def fleet(own_fleet: Fleet) -> Fleet:
    return own_fleet


def slots(fleet: Fleet, service: str) -> dict[str, tuple[str, str]]:
    """By slot, the node of its task and the lines in its volume."""
    return {
        task["Name"].partition(".")[2]: (
            task["Node"],
            fleet.contained(task["ID"], "cat", "/data/log").out,
        )
        for task in fleet.running(service)
    }


def test_a_task_finds_its_own_values(fleet: Fleet, service: str) -> None:
    env = (
        "A={{.Service.Name}} {{.Node.Hostname}} {{.Task.Slot}}",
        "B={{.Task.Name}}",
        'C={{"{{"}}.x}} {{index .Service.Labels "tier"}}',
    )
    flags = [word for one in env for word in ("--env", one)]
    fleet(
        "service", "create", "--name", service, "--label", "tier=back", *flags,
        "--hostname", "{{.Service.Name}}-{{.Task.Slot}}", "--entrypoint", "sh", IMAGE,
        "-c", "exec sleep 1000",
    )  # fmt: skip
    (task,) = fleet.running(service)
    shown = ("sh", "-c", 'echo "$A|$B|$C|$HOSTNAME|$(cat /etc/hostname)"')
    found = fleet("exec", f"{service}.1", *shown).strip().split("|")
    name = f"{service}.1"
    assert found[0] == f"{service} {task['Node']} 1"
    assert found[1].startswith(f"{name}.{task['ID']}")
    assert found[2:] == ["{{.x}} back", f"{service}-1", f"{service}-1"]
    fleet("service", "rm", service)


def test_each_slot_keeps_its_volume(fleet: Fleet, service: str) -> None:
    mount = f"source={service}-{{{{.Task.Slot}}}},target=/data"
    flags = ("--replicas", "3", "--mount", mount, "--env", "NAME={{.Task.Slot}}")
    shell = ("--stop-grace-period", "0s", "--entrypoint", "sh", IMAGE, "-c", APPEND)
    fleet("service", "create", "--name", service, *flags, *shell)
    fleet.until(lambda: all(lines for _, lines in slots(fleet, service).values()), "all have begun")
    before = slots(fleet, service)
    assert {slot: lines for slot, (_, lines) in before.items()} == {
        slot: f"{slot}\n" for slot in ("1", "2", "3")
    }
    volumes = {row["Name"]: row["Node"] for row in fleet.rows("volume", "ls")}
    assert {f"{service}-{slot}": node for slot, (node, _) in before.items()} == volumes
    fleet("service", "scale", f"{service}=1")
    fleet("service", "scale", f"{service}=3")
    fleet("service", "update", "--env-add", "B=1", service)
    after = slots(fleet, service)
    assert {slot: node for slot, (node, _) in after.items()} == {
        slot: node for slot, (node, _) in before.items()
    }
    assert all({*lines.split()} == {slot} for slot, (_, lines) in after.items())
    assert "is in use" in fleet.refused("volume", "rm", f"{service}-2")
    fleet("service", "rm", service)
    removed = ("volume", "rm", *volumes)
    fleet.until(lambda: fleet.run(*removed).code == 0, "the volumes are unused")


def test_what_is_not_valid_is_refused_before_anything_changes(fleet: Fleet, service: str) -> None:
    created = ("service", "create", "--name", service)
    told = fleet.refused(*created, "--mount", "source={{.Task.ID}},target=/d", IMAGE)
    assert '--mount: template "{{.Task.ID}}" is not valid: .Task.ID is not known there' in told
    assert service not in fleet("service", "ls")
