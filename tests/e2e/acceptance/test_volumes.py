"""Volumes and mounts on a real fleet: data stays where it is, and tasks run there."""

import json
from collections.abc import Iterator
from itertools import count

import pytest

from tests.e2e.acceptance.fleet import IMAGE, PATIENT, Fleet

ENVIRONMENT = PATIENT
APPEND = "echo run >>/data/log; exec sleep 1000"
"""A program that leaves a line in its volume at each start."""
_numbers = count(1)


@pytest.fixture(scope="module")
def fleet(own_fleet: Fleet) -> Fleet:
    return own_fleet


@pytest.fixture
def data(fleet: Fleet) -> Iterator[str]:
    """The name of a volume, removed after the services and containers that use it."""
    name = f"data{next(_numbers)}"
    yield name
    fleet.until(lambda: fleet.run("volume", "rm", "-f", name).code == 0, "nothing uses it")


def created(fleet: Fleet, name: str, data: str, *flags: str) -> None:
    mount = ("--mount", f"source={data},target=/data", "--stop-grace-period", "0s")
    shell = ("--entrypoint", "sh", *flags, IMAGE, "-c", APPEND)
    fleet("service", "create", "--name", name, *mount, *shell)


def hosts(fleet: Fleet, service: str) -> set[str]:
    return {task["Node"] for task in fleet.running(service)}


def log(fleet: Fleet, service: str) -> list[str]:
    (task, *_) = fleet.running(service)
    return fleet.contained(task["ID"], "cat", "/data/log").out.split()


def test_a_file_survives_update_agent_kill_removal_and_creation_of_its_service(
    fleet: Fleet, data: str, service: str
) -> None:
    created(fleet, service, data)
    (home,) = hosts(fleet, service)
    assert log(fleet, service) == ["run"]
    fleet("service", "update", "--env-add", "A=1", service)
    assert log(fleet, service) == ["run"] * 2
    fleet.kill(home)
    fleet.until(lambda: fleet.daemon(home), "the agent is back")
    fleet("service", "update", "--env-add", "A=2", "--update-order", "start-first", service)
    assert log(fleet, service) == ["run"] * 3
    fleet("service", "rm", service)
    created(fleet, service, data, "--replicas", "3")
    assert hosts(fleet, service) == {home}
    assert log(fleet, service) == ["run"] * 6
    assert fleet.rows("volume", "ls", "--filter", f"name={data}") == [
        row for row in fleet.rows("volume", "ls") if row["Name"] == data and row["Node"] == home
    ]
    refused = fleet.refused("volume", "rm", data)
    assert f"remove {data}: volume is in use - [{service}]" in refused
    fleet("service", "rm", service)


def test_a_removed_volume_is_gone_from_its_host_and_a_new_one_of_its_name_is_empty(
    fleet: Fleet, data: str, service: str
) -> None:
    created(fleet, service, data)
    old = json.loads(fleet("volume", "inspect", data))[0]
    (home,) = old["Nodes"]
    path = f"{fleet.state_dir}/{home}/{old['Mountpoint']}"
    assert fleet.on(home, "cat", f"{path}/log").out == "run\n"
    fleet("service", "rm", service)
    fleet.until(lambda: fleet.run("volume", "rm", data).code == 0, "its last task is gone")
    fleet.until(lambda: fleet.on(home, "ls", path).code, "its host has deleted it")
    created(fleet, service, data)
    assert log(fleet, service) == ["run"]
    assert json.loads(fleet("volume", "inspect", data))[0]["ID"] != old["ID"]
    fleet("service", "rm", service)


def test_a_new_volume_has_the_files_of_the_image_unless_nocopy(fleet: Fleet, data: str) -> None:
    count_files = ("--entrypoint", "sh", IMAGE, "-c", "ls /etc | wc -l; stat -c %a-%u /etc")
    in_image = fleet("run", "--rm", *count_files)
    assert fleet("run", "--rm", "-v", f"{data}:/etc", *count_files) == in_image
    assert fleet("run", "--rm", "-v", "/etc", *count_files) == in_image
    empty = fleet("run", "--rm", "-v", "/etc:/etc:ro", *count_files)  # the host's
    assert empty != in_image
    (number, _) = fleet("run", "--rm", "--mount", "dst=/etc,volume-nocopy", *count_files).split()
    assert int(number) <= 3  # the files that the agent mounts there


def test_anonymous_volumes_of_containers_stay_until_rm_v_or_prune(
    fleet: Fleet, service: str
) -> None:
    shell = ("--entrypoint", "sh", IMAGE, "-c", "cat /data/log; " + APPEND.partition(";")[0])

    def anonymous() -> list[str]:
        return fleet("volume", "ls", "-q", "-f", "dangling=false").split()

    fleet("run", "--rm", "-v", "/data", *shell)
    fleet.until(lambda: not anonymous(), "--rm removes its volume")
    fleet("run", "--name", service, "-v", "/data", *shell)
    (made,) = anonymous()
    assert len(made) == 64
    fleet("start", "-a", service)
    assert fleet("inspect", "-f", "{{(index .Mounts 0).Name}}", service) == made
    assert fleet("logs", service).split() == ["run"]
    fleet("rm", service)
    assert made in fleet("volume", "ls", "-q", "-f", "dangling=true").split()
    assert made in fleet("volume", "prune", "--force")
    fleet("run", "--name", service, "-v", "/data", *shell)
    fleet("rm", "-v", service)
    assert not fleet("volume", "ls", "-q")


def test_a_bind_needs_its_source_and_a_tmpfs_its_size(fleet: Fleet, service: str) -> None:
    missing = "/no/such/directory"
    flags = ("--restart-condition", "none", "--detach")
    mount = f"type=bind,source={missing},target=/m"
    fleet("service", "create", "--name", service, *flags, "--mount", mount, IMAGE)
    told = f'invalid mount config for type "bind": bind source path does not exist: {missing}'
    fleet.until(lambda: fleet.error_of(service) == told, "its task fails")
    read = ("--entrypoint", "sh", IMAGE, "-c", "touch /m/x; df -k /t | tail -1; ls /m")
    bind = "type=bind,source=/sys,target=/m,readonly"
    done = fleet.run(
        "run", "--rm", "--mount", bind, "--mount", "type=tmpfs,dst=/t,tmpfs-size=1m", *read
    )
    assert "Read-only file system" in done.err
    assert done.out.split()[1] == "1024"
    assert "kernel" in done.out.split()


def test_a_task_waits_for_the_node_of_its_volume_and_why_names_both(
    fleet: Fleet, data: str, service: str
) -> None:
    created(fleet, service, data)
    (home,) = hosts(fleet, service)
    fleet("node", "update", "--availability", "drain", home)
    waits = f"volume {data} has its only copy on {home}, which is drained"
    fleet.until(lambda: waits in fleet("why", service), "it says what it waits for")
    assert f"pyswarm node update --availability active {home}" in fleet("why", service)
    fleet("node", "update", "--availability", "active", home)
    fleet.until(lambda: hosts(fleet, service) == {home}, "it runs there again")
    assert log(fleet, service) == ["run"] * 2
    fleet("service", "rm", service)


def test_a_volume_for_any_node_has_a_copy_on_each(fleet: Fleet, data: str, service: str) -> None:
    assert fleet("volume", "create", "--placement", "any", data) == data
    created(fleet, service, data, "--mode", "global")
    assert len(hosts(fleet, service)) == 3
    (row,) = fleet.rows("volume", "ls", "-f", f"name={data}")
    assert set(row["Node"].split(",")) == hosts(fleet, service)
    fleet("service", "rm", service)
