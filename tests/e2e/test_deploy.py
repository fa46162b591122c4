"""The main job: a service over a network, on several hosts, scaled and removed."""

from tests.e2e.fleet import Fleet


def test_replicas_run_on_all_hosts_and_follow_scale(fleet: Fleet) -> None:
    fleet.cli.run("network", "create", "-d", "overlay", "app")
    fleet.create("web", "--network", "app", "--replicas", "6")
    tasks = fleet.until_running("web", 6)
    assert sorted(task.node for task in tasks) == [
        "host1",
        "host1",
        "host2",
        "host2",
        "host3",
        "host3",
    ]
    assert {task.id for task in tasks} == set(fleet.containers())
    fleet.cli.run("service", "scale", "web=3")
    assert {task.id for task in fleet.until_running("web", 3)} == set(fleet.containers())
    fleet.cli.run("service", "rm", "web")
    assert fleet.containers() == {}
    assert fleet.cli.rows("service", "ls") == []
