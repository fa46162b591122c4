"""Volumes and mounts on a real fleet: data stays where it is, and tasks run there."""

import json
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from tests.e2e.acceptance.fleet import IMAGE, PATIENT, PYSWARM, Fleet
from tests.fixtures.commands import Done

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


def logged(fleet: Fleet, service: str, lines: list[str]) -> None:
    """Wait until it has these lines: a task runs a little before it writes."""
    fleet.until(lambda: log(fleet, service) == lines, f"{service} has written {lines}")


def test_a_file_survives_update_agent_kill_removal_and_creation_of_its_service(
    fleet: Fleet, data: str, service: str
) -> None:
    created(fleet, service, data)
    (home,) = hosts(fleet, service)
    logged(fleet, service, ["run"])
    fleet("service", "update", "--env-add", "A=1", service)
    logged(fleet, service, ["run"] * 2)
    fleet.kill(home)
    fleet.until(lambda: fleet.daemon(home), "the agent is back")
    fleet("service", "update", "--env-add", "A=2", "--update-order", "start-first", service)
    logged(fleet, service, ["run"] * 3)
    fleet("service", "rm", service)
    created(fleet, service, data, "--replicas", "3")
    assert hosts(fleet, service) == {home}
    logged(fleet, service, ["run"] * 6)
    (row,) = fleet.rows("volume", "ls", "--filter", f"name={data}")
    assert (row["Name"], row["Node"], row["UsedBy"]) == (data, home, service)
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
    logged(fleet, service, ["run"])
    assert fleet.on(home, "cat", f"{path}/log").out == "run\n"
    fleet("service", "rm", service)
    fleet.until(lambda: fleet.run("volume", "rm", data).code == 0, "its last task is gone")
    fleet.until(lambda: fleet.on(home, "ls", path).code, "its host has deleted it")
    created(fleet, service, data)
    logged(fleet, service, ["run"])
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


def test_a_path_in_a_volume_is_mounted_while_others_exchange_it(fleet: Fleet, data: str) -> None:
    shell = ("--entrypoint", "sh", IMAGE, "-c")
    fleet("run", "--rm", "-v", f"{data}:/d", *shell, "mkdir -p /d/a/b; echo mine >/d/a/b/f")
    below = ("--mount", f"source={data},target=/x,volume-subpath=a/b")
    assert fleet("run", "--rm", *below, *shell, "cat /x/f; ls /x") == "mine\nf"
    told = fleet.run("run", "--rm", "--mount", f"source={data},dst=/x,volume-subpath=c", IMAGE).err
    assert f"volume {data}: volume-subpath: no such file or directory: c" in told
    swap = "cd /d; while :; do mv a was; ln -s / a; rm a; mv was a; done"
    swapping = f"swapping-{data}"
    fleet("run", "-d", "--name", swapping, "-v", f"{data}:/d", *shell, swap)
    try:
        seen = {fleet.run("run", "--rm", *below, *shell, "ls /x").out for _ in range(6)}
    finally:
        fleet("rm", "-f", swapping)
    assert seen <= {"f\n", ""}, "the link leads to the host"


def test_volume_of_an_image_makes_one_for_each_task_and_container(
    fleet: Fleet, service: str, tmp_path: Path
) -> None:
    image = f"{service}:1"
    lines = [f"FROM {IMAGE}", "RUN mkdir -p /own && echo image >/own/f && chown -R 70 /own"]
    (tmp_path / "Containerfile").write_text("\n".join([*lines, "VOLUME /own"]))
    fleet("image", "build", "-q", "-t", image, str(tmp_path))
    shell = ("--entrypoint", "sh", image, "-c")
    assert fleet("run", "--rm", "--read-only", *shell, "cat /own/f; echo x >/own/g") == "image"
    fleet("run", "--name", service, *shell, "cat /own/f; echo more >>/own/f")
    fleet("start", "-a", service)
    assert fleet("logs", service).split() == ["image", "image", "more"]
    assert "/own/f" not in fleet("diff", service)
    fleet("rm", service)
    mount = ("--mount", f"source=named-{service},target=/own")
    assert fleet("run", "--rm", *mount, *shell, "stat -c %u /own/f") == "70"
    fleet("volume", "rm", f"named-{service}")


def test_owners_in_a_volume_are_the_same_in_a_user_namespace(fleet: Fleet, data: str) -> None:
    shell = ("--entrypoint", "sh", IMAGE, "-c")
    mount = ("-v", f"{data}:/d")
    fleet("run", "--rm", *mount, *shell, "echo x >/d/f; chown 70:71 /d/f")
    inside = "stat -c %u:%g /d/f; echo y >/d/g; cat /proc/self/uid_map"
    found = fleet("run", "--rm", "--userns", "auto", *mount, *shell, inside).split()
    assert found[0] == "70:71"
    assert found[2] != "0", "it has a user namespace"
    assert fleet("run", "--rm", *mount, *shell, "stat -c %u:%g /d/g") == "0:0"


def test_an_image_is_mounted_read_only(fleet: Fleet, service: str) -> None:
    mount = f"type=image,source={IMAGE},target=/i"
    shell = ("--entrypoint", "sh", IMAGE, "-c")
    done = fleet.run("run", "--rm", "--mount", mount, *shell, "ls -d /i/etc; touch /i/x")
    assert done.out == "/i/etc\n"
    assert "Read-only file system" in done.err
    part = f"{mount},image-subpath=etc/hosts-none"
    told = fleet.run("run", "--rm", "--mount", part, *shell, "true").err
    assert "image-subpath: no such file or directory" in told


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


def test_a_bind_is_read_only_with_all_below_it_and_a_tmpfs_has_its_size(fleet: Fleet) -> None:
    read = ("--entrypoint", "sh", IMAGE, "-c", "touch /m/x; df -k /t | tail -1; ls /m")
    bind = "type=bind,source=/sys,target=/m,readonly"
    done = fleet.run(
        "run", "--rm", "--mount", bind, "--mount", "type=tmpfs,dst=/t,tmpfs-size=1m", *read
    )
    assert "Read-only file system" in done.err
    assert done.out.split()[1] == "1024"
    assert "kernel" in done.out.split()


HOSTILE = (
    "for name in -rf '*' '$(touch owned)' 'a b' ... .hidden \"$(printf 'new\\nline')\""
    " \"$(printf 'tab\\t')\" \"$(printf '\\377\\376')\" 'it is \"quoted\"' 'back\\\\slash' '#' '{}'"
    ' "$(printf \'%0255d\' 7)"; do : >"./$name"; done'
)


def test_ten_thousand_files_and_hostile_names_are_written_read_and_removed(
    fleet: Fleet, data: str
) -> None:
    shell = ("run", "--rm", "-v", f"{data}:/data", "-w", "/data", "--entrypoint", "sh", IMAGE, "-c")
    many = "mkdir many; seq 10000 | sed s,^,many/, | xargs touch; "
    fleet(*shell, many + HOSTILE)
    counts = (
        "find . -type f -print0 | tr -cd '\\0' | wc -c; find . | sort | md5sum; ls -A many | wc -l"
    )
    first, again = fleet(*shell, counts), fleet(*shell, counts)
    assert first == again
    assert first.split()[0] == str(10_000 + 14)
    assert first.split()[-1] == "10000"
    (volume,) = json.loads(fleet("volume", "inspect", data))
    (home,) = volume["Nodes"]
    fleet.until(lambda: fleet.run("volume", "rm", data).code == 0, "its last task is gone")
    gone = ("test", "-e", f"{fleet.state_dir}/{home}/{volume['Mountpoint']}")
    fleet.until(lambda: fleet.on(home, *gone).code, "its host has deleted it")


TUTORIAL = """
pyswarm volume create pgdata
pyswarm run -d --name postgres -v pgdata:/var/lib/postgresql/data postgres:15
pyswarm run -d --name bound -v $(pwd)/src:/app/src node:18-alpine
pyswarm run -d --name unnamed -v /app/data myapp
pyswarm volume ls
pyswarm volume inspect pgdata
pyswarm stop postgres
pyswarm start postgres
pyswarm restart postgres
pyswarm rename postgres database
pyswarm rm -f database
pyswarm run -d --name postgres -v pgdata:/var/lib/postgresql/data postgres:15
pyswarm rm -f postgres bound unnamed
pyswarm volume rm pgdata
yes | pyswarm volume prune
"""


def test_what_a_docker_tutorial_types_about_volumes(fleet: Fleet) -> None:
    for name in ("postgres:15", "node:18-alpine", "myapp"):
        fleet("image", "build", "-q", "-t", name, str(fleet.home / "image"))
    assert _on_host(fleet, "mkdir -p src; echo here >src/index.js").code == 0
    printed: dict[str, str] = {}
    lines: list[str] = []
    for line in TUTORIAL.strip().splitlines():
        fleet.until(lambda n=line: _typed(fleet, n, printed), f"{line} succeeds")  # type: ignore[misc]
        if line.startswith("pyswarm run") and "postgres" in line:
            log = "/var/lib/postgresql/data/log"
            fleet("exec", "postgres", "sh", "-c", f"echo started >>{log}")
            lines = fleet("exec", "postgres", "cat", log).split()
        if line.startswith("pyswarm run -d --name bound"):
            assert fleet("exec", "bound", "cat", "/app/src/index.js") == "here"
    assert lines == ["started"] * 2
    assert printed["pyswarm volume create pgdata"] == "pgdata\n"
    listed = printed["pyswarm volume ls"].splitlines()
    assert listed[0].split()[:3] == ["DRIVER", "VOLUME", "NAME"]
    names = [line.split()[1] for line in listed[1:]]
    assert "pgdata" in names
    (unnamed,) = [name for name in names if len(name) == 64]
    (found,) = json.loads(printed["pyswarm volume inspect pgdata"])
    keys = ("CreatedAt", "Driver", "Labels", "Mountpoint", "Name", "Options", "Scope")
    assert {*keys} <= found.keys()
    assert (found["Name"], found["Driver"], found["Scope"]) == ("pgdata", "local", "local")
    assert (
        "WARNING! This will remove anonymous local volumes" in printed["yes | pyswarm volume prune"]
    )
    assert f"Deleted Volumes:\n{unnamed}\n" in printed["yes | pyswarm volume prune"]
    assert fleet("volume", "ls", "-q") == ""


def _on_host(fleet: Fleet, shell: str) -> Done:
    """Run a line of shell in a folder of a host."""
    where = f"export PYSWARM_HOST=unix://{fleet.run_dir}/pyswarm.sock PATH={PYSWARM.parent}:$PATH"
    folder = "/var/lib/typed"
    return fleet.on("host2", "bash", "-c", f"mkdir -p {folder}; cd {folder}; {where}; {shell}")


def _typed(fleet: Fleet, line: str, printed: dict[str, str]) -> bool:
    """Whether the line succeeds; a volume may be removed once its container's task has ended."""
    done = _on_host(fleet, line)
    assert done.code == 0 or "volume is in use" in done.err, f"$ {line}\n{done.err}"
    printed[line] = done.out
    return done.code == 0


def test_errors_are_dockers(fleet: Fleet, data: str, service: str) -> None:
    created(fleet, service, data)
    refused = {
        ("rm", data): f"remove {data}: volume is in use - [{service}]",
        ("rm", "nothing"): "no such volume",
        ("inspect", "nothing"): "no such volume",
        ("create", "../x"): "includes invalid characters for a local volume name",
        ("create", "x"): "it is too short",
        ("ls", "--filter", "bogus=1"): "expected one of dangling",
        ("prune", "--filter", "bogus=1"): "expected label=KEY[=VALUE] or all=true",
    }
    for words, told in refused.items():
        assert told.lower() in fleet.refused("volume", *words).lower(), words
    assert fleet.run("volume", "inspect", "nothing").out == "[]\n"
    assert fleet.run("volume", "rm", "-f", "nothing").code == 0
    fleet("service", "rm", service)


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
    logged(fleet, service, ["run"] * 2)
    fleet("service", "rm", service)


def test_a_volume_for_any_node_has_a_copy_on_each(fleet: Fleet, data: str, service: str) -> None:
    assert fleet("volume", "create", "--placement", "any", data) == data
    created(fleet, service, data, "--mode", "global")
    assert len(hosts(fleet, service)) == 3
    (row,) = fleet.rows("volume", "ls", "-f", f"name={data}")
    assert set(row["Node"].split(",")) == hosts(fleet, service)
    fleet("service", "rm", service)
