"""Services as a Docker user knows them."""

import json
from pathlib import Path

from tests.e2e.acceptance.fleet import IMAGE, RUNNING, Fleet


def test_a_service_is_created_scaled_looked_at_and_removed(fleet: Fleet, service: str) -> None:
    fleet("service", "create", "--name", service, "--network", "app", "--replicas", "5", IMAGE)
    assert [row["Replicas"] for row in fleet.rows("service", "ls")] == ["5/5"]
    assert len({task["Node"] for task in fleet.running(service)}) == 3
    fleet("service", "scale", f"{service}=2")
    assert len(fleet.running(service)) == 2
    assert fleet("service", "inspect", service, "--format", "{{.Spec.Name}}") == service
    fleet("service", "rm", service)
    assert fleet.rows("service", "ls") == []
    fleet.until(lambda: not fleet.containers(), "no container is left")


def test_limits_and_settings_reach_the_container(fleet: Fleet, service: str) -> None:
    fleet(
        "service", "create", "--name", service, "--limit-memory", "64M", "--limit-cpu", "0.5",
        "--limit-pids", "50", "--env", "GREETING=hello", "--hostname", "greeter",
        "--workdir", "/tmp", "--user", "7:7", "--stop-grace-period", "1s",
        "--cpuset-cpus", "0", "--memory-reservation", "32M", "--net-egress", "10mbit",
        "--mac-address", "02:42:ac:11:00:09", "--annotation", "org.example.team=shop",
        "--entrypoint", "sh", IMAGE,
        "-c", "echo $GREETING $(hostname) $(pwd) $(id -u); exec sleep 1000",
    )  # fmt: skip
    (task,) = fleet.running(service)
    limit = fleet.limit(task["ID"], "memory/memory.limit_in_bytes", "memory.max")
    assert limit == str(64 * 2**20)
    assert fleet.limit(task["ID"], "pids/pids.max", "pids.max") == "50"
    assert fleet.limit(task["ID"], "cpu/cpu.cfs_quota_us", "cpu.max").split()[0] == "50000"
    soft = fleet.limit(task["ID"], "memory/memory.soft_limit_in_bytes", "memory.low")
    assert soft == str(32 * 2**20)
    seen = fleet.contained(task["ID"], "cat", "/proc/1/status", "/sys/class/net/eth0/address").out
    assert ("Cpus_allowed_list:\t0\n" in seen, "02:42:ac:11:00:09" in seen) == (True, True)
    assert "rate 10Mbit" in fleet.inside(task["ID"], "tc", "qdisc", "show", "dev", "eth0").out
    said = "hello greeter /tmp 7"
    fleet.until(lambda: said in fleet("service", "logs", "--raw", service), f"it says {said!r}")


def test_isolation_reaches_the_container(fleet: Fleet, service: str) -> None:
    script = (
        "echo $(id -u) $(cut -c -40 /proc/self/uid_map); grep -c shm.*size=1024k /proc/mounts;"
        " touch /root/x || echo read-only; touch /run/x && echo writable; grep CapEff"
        " /proc/self/status; ls /dev/own; exec sleep 1000"
    )
    fleet(
        "service", "create", "--name", service, "--network", "app", "--userns", "auto",
        "--read-only", "--tmpfs", "/run:size=1m", "--shm-size", "1m", "--cap-drop", "ALL",
        "--device", "/dev/zero:/dev/own:r", "--security-opt", "no-new-privileges",
        "--entrypoint", "sh", IMAGE, "-c", script,
    )  # fmt: skip
    (task,) = fleet.running(service)
    fleet.until(lambda: "/dev/own" in fleet("service", "logs", "--raw", service), "it has said all")
    said = fleet("service", "logs", "--raw", service).splitlines()
    user, inside, outside, count = said[0].split()
    assert (user, inside, count) == ("0", "0", "65536")
    assert Path(f"/proc/{fleet.pid(task['ID'])}").stat().st_uid == int(outside) > 1 << 30
    assert {"1", "read-only", "writable", "CapEff:\t0000000000000000", "/dev/own"} <= set(said)
    answers = dict(
        line.split("=")
        for line in fleet(
            "service", "inspect", "--security", "--format", "{{.Check}}={{.Followed}}", service
        ).splitlines()
    )
    assert answers["not root"] == answers["read-only root"] == "yes"
    fleet(
        "service", "update", "--userns", "host", "--privileged", "--device-rm", "/dev/own", service
    )
    (task,) = fleet.running(service)
    assert Path(f"/proc/{fleet.pid(task['ID'])}").stat().st_uid == 0


def test_what_a_host_lacks_is_the_error_of_the_task(fleet: Fleet, service: str) -> None:
    words = ("--cpuset-cpus", "8000", "--restart-condition", "none")
    done = fleet.run("service", "create", "--name", service, *words, IMAGE)
    assert done.code == 4
    assert "invalid cpuset 8000: this host has CPUs 0" in done.err


def test_a_global_service_runs_once_on_every_host(fleet: Fleet, service: str) -> None:
    fleet("service", "create", "--name", service, "--mode", "global", IMAGE)
    assert sorted(task["Node"] for task in fleet.running(service)) == ["host1", "host2", "host3"]


def test_a_changed_template_replaces_every_task(fleet: Fleet, service: str) -> None:
    fleet("service", "create", "--name", service, "--replicas", "3", IMAGE)
    before = {task["ID"] for task in fleet.running(service)}
    fleet("service", "update", "--env-add", "A=1", service)
    after = fleet.running(service)
    assert len(after) == 3
    assert not before & {task["ID"] for task in after}
    assert all("A=1" in fleet.task(task["ID"])["Spec"]["ContainerSpec"]["Env"] for task in after)


def test_labels_and_replicas_change_without_touching_a_task(fleet: Fleet, service: str) -> None:
    fleet("service", "create", "--name", service, "--replicas", "2", IMAGE)
    before = {task["ID"] for task in fleet.running(service)}
    fleet("service", "update", "--label-add", "team=a", "--replicas", "3", service)
    assert before < {task["ID"] for task in fleet.running(service)}
    labels = json.loads(fleet("service", "inspect", service))[0]["Spec"]["Labels"]
    assert labels == {"team": "a"}


def test_a_task_that_ends_is_replaced_as_the_policy_says(fleet: Fleet, service: str) -> None:
    fleet(
        "service", "create", "-d", "--name", service, "--restart-condition", "on-failure",
        "--restart-delay", "100ms", "--restart-max-attempts", "1",
        "--entrypoint", "sh", IMAGE, "-c", "exit 3",
    )  # fmt: skip
    fleet.until(lambda: len(fleet.tasks(service)) == 2, "one restart was attempted")
    fleet.until(
        lambda: all(t["CurrentState"].startswith("Failed") for t in fleet.tasks(service)),
        "both have failed",
    )
    assert fleet.error_of(service) == "non-zero exit (3)"
    assert "restart" in fleet("why", service)


def test_a_drained_host_is_emptied_and_comes_back(fleet: Fleet, service: str) -> None:
    fleet("service", "create", "--name", service, "--replicas", "6", IMAGE)
    fleet("node", "update", "--availability", "drain", "host2")
    fleet.until(
        lambda: (
            {task["Node"] for task in fleet.running(service)} == {"host1", "host3"}
            and len(fleet.running(service)) == 6
        ),
        "six run on the other two",
    )
    fleet("node", "update", "--availability", "active", "host2")
    fleet("service", "scale", f"{service}=9")
    assert "host2" in {task["Node"] for task in fleet.running(service)}


def test_constraints_hold_and_follow_labels(fleet: Fleet, service: str) -> None:
    fleet("node", "update", "--label-add", "disk=ssd", "host3")
    constraint = "node.labels.disk==ssd"
    fleet("service", "create", "--name", service, "--constraint", constraint, IMAGE)
    assert [task["Node"] for task in fleet.running(service)] == ["host3"]
    fleet("node", "update", "--label-rm", "disk", "host3")
    fleet("node", "update", "--label-add", "disk=ssd", "host1")
    fleet.until(
        lambda: [task["Node"] for task in fleet.running(service)] == ["host1"],
        "it moved to where the label is",
    )
    fleet("node", "update", "--label-rm", "disk", "host1")


def test_logs_are_told_apart_and_survive_their_container(fleet: Fleet, service: str) -> None:
    fleet(
        "service", "create", "-d", "--name", service, "--restart-condition", "none",
        "--entrypoint", "sh", IMAGE, "-c", "seq 1 1000; echo oops >&2",
    )  # fmt: skip
    fleet.until(
        lambda: fleet.tasks(service)[0]["CurrentState"].startswith("Complete"), "it completed"
    )
    done = fleet.run("service", "logs", "--raw", service)
    assert (done.code, done.err.strip()) == (0, "oops")
    assert done.out.split() == [str(number) for number in range(1, 1001)]
    assert fleet("service", "logs", "--raw", "--tail", "3", service).split()[-2:] == ["999", "1000"]


def test_events_tell_what_happened(fleet: Fleet, service: str) -> None:
    fleet("service", "create", "--name", service, IMAGE)
    told = fleet("events", "--since", "1m", "--until", "0s")
    assert f"service create {fleet('service', 'inspect', service, '--format', '{{.ID}}')}" in told


def test_images_are_listed_on_the_hosts_that_have_them(fleet: Fleet, service: str) -> None:
    fleet("service", "create", "--name", service, "--mode", "global", IMAGE)
    places = {one for row in fleet.rows("image", "ls") for one in row["Nodes"].split(", ")}
    assert places == {"host1", "host2", "host3", "registry"}
    assert len(fleet.tasks(service, RUNNING)) == 3


def test_limits_change_in_the_running_containers(fleet: Fleet, service: str) -> None:
    def memory_limits() -> set[str]:
        files = ("memory/memory.limit_in_bytes", "memory.max")
        return {fleet.limit(task["ID"], *files) for task in fleet.running(service)}

    fleet(
        "service", "create", "--name", service, "--replicas", "3", "--limit-memory", "64M",
        "--entrypoint", "sh", IMAGE, "-c",
        "until [ -e /tmp/fill ]; do sleep 0.1; done;"
        " dd if=/dev/zero of=/dev/shm/x bs=1M count=40; mv /dev/shm/x /dev/shm/full;"
        " exec sleep 1000",
    )  # fmt: skip
    before = {task["ID"]: fleet.pid(task["ID"]) for task in fleet.running(service)}
    fleet(
        "service", "update", "--limit-memory", "128M", "--limit-pids", "77", "--limit-cpu", "0.5",
        "--cpu-shares", "2048", "--net-egress", "20mbit", service,
    )  # fmt: skip
    after = {task["ID"]: fleet.pid(task["ID"]) for task in fleet.running(service)}
    assert after == before, "the same processes run on"
    assert memory_limits() == {str(128 << 20)}
    for task_id in after:
        assert fleet.limit(task_id, "pids/pids.max", "pids.max") == "77"
        assert fleet.limit(task_id, "cpu/cpu.cfs_quota_us", "cpu.max").split()[0] == "50000"
        assert fleet.limit(task_id, "cpu/cpu.shares", "cpu.weight") in ("2048", "79")
        assert "rate 20Mbit" in fleet.inside(task_id, "tc", "qdisc", "show", "dev", "eth0").out

    (full, *others) = sorted(after)
    assert fleet.contained(full, "touch", "/tmp/fill").code == 0
    fleet.until(
        lambda: fleet.contained(full, "test", "-e", "/dev/shm/full").code == 0, "it uses 40 MiB"
    )
    fleet("service", "update", "--limit-memory", "16M", service)
    replaced = {task["ID"] for task in fleet.running(service)}
    assert set(others) <= replaced
    assert full not in replaced, "it uses more than the new limit allows"
    assert memory_limits() == {str(16 << 20)}
