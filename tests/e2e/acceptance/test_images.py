"""The image lines of a Docker tutorial, as they are typed."""

import json
import shutil
from pathlib import Path

from tests.e2e.acceptance.fleet import IMAGE, Fleet

HOSTS = ("host1", "host2", "host3")


def test_an_image_is_tagged_pulled_looked_at_and_removed(fleet: Fleet, service: str) -> None:
    fleet("tag", IMAGE, f"{service}:v1.0")
    fleet("tag", f"{service}:v1.0", f"{service}:latest")
    assert service in fleet("search", service)
    assert fleet("pull", "-q", f"{service}:latest") == f"docker.io/library/{service}:latest"
    rows = fleet.rows("images", service)
    assert [(row["Tag"], row["Nodes"]) for row in rows] == [
        ("latest", ", ".join((*HOSTS, "registry"))),
        ("v1.0", ", ".join((*HOSTS, "registry"))),
    ]
    (found,) = json.loads(fleet("inspect", f"{service}:latest"))
    assert (found["Os"], found["Nodes"]) == ("linux", list(HOSTS))
    assert found["RootFS"]["Layers"]
    assert len(fleet("history", "-q", f"{service}:latest").splitlines()) >= 1
    fleet("service", "create", "--name", service, f"{service}:v1.0")
    told = fleet.refused("rmi", f"{service}:v1.0")
    assert f"image {service}:v1.0 is needed by service {service}" in told
    fleet("service", "update", "--image", IMAGE, service)
    assert "whose rollback returns to it" in fleet.refused("rmi", f"{service}:v1.0")
    fleet("service", "rm", service)
    fleet("rmi", f"{service}:latest", f"{service}:v1.0")
    assert fleet.rows("images", service) == []
    assert "No such image" in fleet.refused("rmi", f"{service}:latest")


def test_what_nothing_needs_is_shown_and_pruned(fleet: Fleet, service: str, tmp_path: Path) -> None:
    needed, spare = f"{service}needed:1", f"{service}spare:1"
    for name in (needed, spare):
        context = tmp_path / name.partition(":")[0]
        shutil.copytree(fleet.home / "image", context, symlinks=True)
        (context / "rootfs" / "made-for").write_text(name)
        fleet("build", "-q", "--label", f"of={service}", "-t", name, str(context))
        fleet("pull", "-q", name)
    host = ("--constraint", f"node.hostname=={HOSTS[0]}")
    fleet("service", "create", "--name", service, *host, needed)
    ends = ("--label", f"of={service}", "--entrypoint", "/bin/sh", spare, "-c", "exit 0")
    fleet("run", "-d", "--name", f"{service}c", *ends)
    fleet.until(
        lambda: fleet("ps", "-aqf", f"name={service}c", "-f", "status=exited"),
        "the container ended",
    )
    label = ("--filter", f"label=of={service}")
    would = fleet("system", "prune", "-a", "--dry-run", *label)
    assert f"containers: {service}c" in would
    assert would.count(f"{service}spare:1") == len(HOSTS)
    assert f"{service}needed:1" not in would
    done = fleet("system", "prune", "-af", *label)
    assert "Deleted Containers:" in done
    left = {row["Repository"]: row["Nodes"] for row in fleet.rows("images")}
    assert left[f"{service}spare"] == "registry"
    assert left[f"{service}needed"] == ", ".join((*HOSTS, "registry"))
    rows = {row["Type"]: row for row in fleet.rows("system", "df")}
    assert int(rows["Registry"]["Active"]) >= 1
    assert int(rows["Registry"]["TotalCount"]) >= 2
    fleet("service", "rm", service)
    fleet("rmi", needed, spare)
