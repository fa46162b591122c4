"""Binds on a real fleet: which node a source means, and what a container may reach through one."""

import pytest

from tests.e2e.acceptance.fleet import IMAGE, PATIENT, PYSWARM, Fleet
from tests.fixtures.commands import Done

ENVIRONMENT = PATIENT
FOLDER = "/var/lib/work"
"""Each host has a /var/lib of its own."""
READ = ("--entrypoint", "cat", IMAGE, "/conf/name")


@pytest.fixture(scope="module")
def fleet(own_fleet: Fleet) -> Fleet:
    for host in ("host1", "host2"):
        script = f"mkdir -p {FOLDER}/conf && echo {host} >{FOLDER}/conf/name"
        assert own_fleet.on(host, "sh", "-c", script).code == 0
    return own_fleet


def on(fleet: Fleet, host: str, *words: str) -> Done:
    """Run `pyswarm WORDS` on a host, in the working directory."""
    script = f'cd {FOLDER} && exec {PYSWARM} --host unix://{fleet.run_dir}/pyswarm.sock "$@"'
    return fleet.on(host, "sh", "-c", script, "sh", *words)


@pytest.mark.parametrize("host", ["host1", "host2"])
@pytest.mark.parametrize("source", ["./conf", f"{FOLDER}/conf"])
def test_a_relative_source_means_the_host_of_the_command(
    fleet: Fleet, host: str, source: str
) -> None:
    done = on(fleet, host, "run", "--rm", "-v", f"{source}:/conf:ro", *READ)
    assert (done.code, done.out) == (0, f"{host}\n")
    assert f"bind {source}: the container runs on this host, {host}\n" in done.err


def test_a_host_that_is_no_node_is_refused_before_anything_changes(fleet: Fleet) -> None:
    before = fleet("ps", "-aq")
    done = fleet.run("run", "-d", "-v", "./conf:/conf", *READ)
    assert done.code == 125
    assert "bind ./conf is on this host, and this host is no node" in done.err
    assert fleet("ps", "-aq") == before


def test_a_missing_source_leaves_no_container(fleet: Fleet) -> None:
    before = fleet("ps", "-aq")
    for flags in ((), ("-d",)):
        done = fleet.run("run", *flags, "-v", "/no/such:/conf", *READ)
        assert done.code == 125
        told = 'invalid mount config for type "bind": bind source path does not exist: /no/such'
        assert told in done.err
    assert fleet("ps", "-aq") == before


def test_a_source_behind_a_magic_link_fails_the_task(fleet: Fleet) -> None:
    flags = ("--rm", "--node", "host1", "--mount", "type=bind,src=/proc/self/root/etc,dst=/conf")
    done = fleet.run("run", *flags, "--entrypoint", "ls", IMAGE, "/conf")
    assert done.code == 125
    assert "it leads through a magic link of /proc" in done.err


def test_a_service_runs_where_its_source_is_and_waits_for_one_that_no_node_has(
    fleet: Fleet, service: str
) -> None:
    mount = f"type=bind,src={FOLDER}/conf,dst=/conf"
    shell = ("--stop-grace-period", "0s", "--entrypoint", "sleep", IMAGE, "1000")
    fleet("service", "create", "--name", service, "--replicas", "4", "--mount", mount, *shell)
    tasks = fleet.running(service)
    assert sorted(task["Node"] for task in tasks) == ["host1", "host1", "host2", "host2"]
    assert fleet.contained(tasks[0]["ID"], "cat", "/conf/name").out == f"{tasks[0]['Node']}\n"
    fleet("service", "rm", service)
    later = f"{FOLDER}/later"
    mount = f"type=bind,src={later},dst=/conf"
    fleet("service", "create", "-d", "--name", service, "--mount", mount, *shell)
    told = f"3 of 3 nodes lack the bind source {later}: no node has {later}"
    fleet.until(lambda: told in fleet("why", service), "it says what no node has")
    assert f"make {later} on host" in fleet("why", service)
    assert fleet.on("host3", "mkdir", "-p", later).code == 0
    fleet.until(lambda: fleet.running(service), "it runs once a node has it")
    assert [task["Node"] for task in fleet.running(service)] == ["host3"]
    fleet("service", "rm", service)


def test_operators_bind_what_is_beneath_the_allowed_paths_and_no_link_leads_out(
    fleet: Fleet, service: str
) -> None:
    """CVE-2017-1002101, CVE-2021-25741: a container with a bind makes links beneath the path."""
    allowed = f"{FOLDER}/allowed"
    script = f"mkdir -p {allowed}/app && echo secret >{FOLDER}/secret"
    assert fleet.on("host1", "sh", "-c", script).code == 0
    fleet("swarm", "update", "--allowed-bind-paths", f"{allowed}/")
    assert f"Allowed Bind Paths: {allowed}" in fleet("swarm", "info")
    fleet("user", "create", "--role", "operator", "ann")
    fleet("context", "create", "--user", "ann", "ann")
    try:
        ann = ("--context", "ann", "run", "--rm", "--node", "host1")

        def run(source: str, *command: str) -> Done:
            entry = ("-v", f"{source}:/m", "--entrypoint", command[0], IMAGE, *command[1:])
            return fleet.outside(str(PYSWARM), *ann, *entry)

        done = run(allowed, "sh", "-c", f"ln -s {FOLDER} /m/out && ln -s app /m/in && ls /m")
        assert (done.code, done.out.split()) == (0, ["app", "in", "out"]), done.err
        assert run(f"{allowed}/in", "touch", "/m/x").code == 0
        assert fleet.on("host1", "ls", f"{allowed}/app").out == "x\n"
        for source in (f"{allowed}/out", f"{allowed}/out/conf"):
            done = run(source, "cat", "/m/secret")
            assert done.code == 125
            assert f"it leads out of the allowed path {allowed} by a symbolic link" in done.err
        for source in (FOLDER, f"{allowed}2", "/etc"):
            done = run(source, "ls", "/m")
            assert done.code == 125
            assert "that gives a container power over its host and needs the role admin" in done.err
    finally:
        fleet("swarm", "update", "--allowed-bind-paths", "")
        fleet("context", "rm", "ann")
        fleet("user", "rm", "ann")
