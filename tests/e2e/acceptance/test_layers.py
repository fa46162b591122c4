"""What a container wrote stays on its node, over stops, restarts and kills, until it is removed."""

import pytest

from tests.e2e.acceptance.fleet import IMAGE, PATIENT, Fleet

pytestmark = pytest.mark.slow
ENVIRONMENT = PATIENT
HOSTS = ("host1", "host2", "host3")


@pytest.fixture(scope="module")
def fleet(own_fleet: Fleet) -> Fleet:
    """Agents, controllers and hosts of it are killed."""
    return own_fleet


def run(fleet: Fleet, name: str, *flags: str) -> str:
    """A container that writes one line to /data at each start; its id."""
    script = "echo started >> /data; trap 'exit 0' TERM; while :; do sleep 0.1; done"
    return fleet("run", "-d", "--name", name, *flags, "--entrypoint", "sh", IMAGE, "-c", script)


def starts(fleet: Fleet, name: str) -> int:
    """How many lines it wrote, as seen from inside."""
    (task,) = fleet.running(name)
    return fleet.contained(task["ID"], "cat", "/data").out.count("started")


def started(fleet: Fleet, name: str, count: int) -> None:
    """Wait until it has written so many lines: it runs a little earlier."""
    fleet.until(lambda: starts(fleet, name) == count, f"{name} has started {count} times")


def host_of(fleet: Fleet, name: str) -> str:
    (task,) = fleet.running(name)
    return task["Node"]


def layers(fleet: Fleet) -> list[str]:
    """The layers on the disks of all hosts."""
    return [path.name for host in HOSTS for path in (fleet.state_dir / host / "layers").iterdir()]


def test_files_stay_over_stop_start_and_restart_until_the_container_is_removed(
    fleet: Fleet, service: str
) -> None:
    container = run(fleet, service)
    host = host_of(fleet, service)
    fleet("stop", service)
    fleet("start", service)
    fleet("restart", service)
    started(fleet, service, 3)
    assert host_of(fleet, service) == host
    assert layers(fleet) == [container]
    fleet("service", "update", "-q", "--env-add", "a=b", service)
    started(fleet, service, 4)
    assert host_of(fleet, service) == host
    fleet("rm", "-f", service)
    fleet.until(lambda: not layers(fleet), "the layer is deleted")


def test_files_stay_when_everybody_is_killed(fleet: Fleet, service: str) -> None:
    run(fleet, service)
    host = host_of(fleet, service)
    for number in range(2, 5):
        fleet.kill(host)
        fleet.kill("host1", "controller")
        fleet.until(lambda: fleet.run("service", "ls").code == 0, "a controller leads")
        fleet("restart", service)
        fleet.until(lambda: len(fleet.running(service)) == 1, "it runs")
        started(fleet, service, number)
        assert host_of(fleet, service) == host


def test_a_container_waits_for_its_node_and_says_so(fleet: Fleet, service: str) -> None:
    run(fleet, service, "--restart", "always")
    host = host_of(fleet, service)
    fleet("node", "update", "--availability", "drain", host)
    kept = f"container {service} keeps its writable layer on {host}, which is drained"
    fleet.until(lambda: kept in fleet("service", "ps", "--no-trunc", service), "it says why")
    assert f"--availability active {host}" in fleet("why", service)
    fleet("node", "update", "--availability", "active", host)
    fleet.until(lambda: len(fleet.running(service)) == 1, "it runs again")
    started(fleet, service, 2)
    assert host_of(fleet, service) == host


def test_a_container_comes_back_with_its_host_as_its_policy_says(
    fleet: Fleet, service: str
) -> None:
    other = f"{service}-once"
    run(fleet, service, "--restart", "always", "--constraint", "node.hostname!=host1")
    host = host_of(fleet, service)  # not that of the controller
    run(fleet, other, "--constraint", f"node.hostname=={host}")
    fleet("playground", "kill", host)
    fleet.until(lambda: "Down" in fleet("node", "ls", "-f", f"name={host}"), "it is down")
    fleet("playground", "heal", host)
    fleet.until(
        lambda: len(fleet.running(service)) == 1 and starts(fleet, service) == 2,
        "it runs again, with its file",
    )
    assert host_of(fleet, service) == host
    assert "Exited (137)" in fleet("ps", "-a", "-f", f"name={other}")
    fleet("start", other)
    started(fleet, other, 2)
    fleet("rm", "-f", other)


def test_a_renamed_container_is_found_by_its_new_name_alone(fleet: Fleet, service: str) -> None:
    run(fleet, service, "--network", "app")
    run(fleet, f"{service}-asks", "--network", "app")
    (asking,) = fleet.running(f"{service}-asks")

    def found(name: str) -> bool:
        return fleet.contained(asking["ID"], "nslookup", name).code == 0

    fleet.until(lambda: found(service), "its name resolves")
    fleet("rename", service, f"{service}-new")
    fleet.until(lambda: found(f"{service}-new"), "its new name resolves")
    fleet.until(lambda: not found(service), "its former name does not")
    run(fleet, service, "--network", "app")
    fleet.until(lambda: found(service), "the name of another")
    fleet("rm", "-f", f"{service}-new", f"{service}-asks")


def test_a_container_removes_itself_and_its_layer(fleet: Fleet, service: str) -> None:
    for _ in range(2):
        fleet("run", "-d", "--rm", "--name", service, "--entrypoint", "true", IMAGE)
        fleet.until(lambda: service not in fleet("ps", "-a"), "its name is free")
    fleet.until(lambda: not layers(fleet), "its layers are deleted")
