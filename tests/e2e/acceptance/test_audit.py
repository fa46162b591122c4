"""Who changed what: the audit log of a real fleet."""

import json
from typing import Any

from tests.e2e.acceptance.fleet import IMAGE, Fleet


def records(fleet: Fleet, *arguments: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in fleet("audit", "--format", "json", *arguments).split("\n")]


def test_changes_of_a_service_are_in_the_audit_log(fleet: Fleet, service: str) -> None:
    fleet("service", "create", "--name", service, "--replicas", "1", IMAGE)
    fleet("service", "update", "--env-add", "DB_PASSWORD=hunter2", "--env-add", "A=1", service)
    fleet("service", "scale", f"{service}=2")
    fleet("service", "rm", service)
    rows = records(fleet, "--object", f"service/{service}")
    assert [row["Verb"] for row in rows] == [
        "service create",
        "service update",
        "service scale",
        "service rm",
    ]
    assert {row["Result"] for row in rows} == {"ok"}
    assert [row["Sequence"] for row in rows] == sorted(row["Sequence"] for row in rows)
    changes = {one["Field"]: one["After"] for one in rows[1]["Changes"]}
    assert changes == {"Env": "DB_PASSWORD=***, A=1"}
    assert rows[2]["Changes"] == [{"Field": "Replicas", "Before": "1", "After": "2"}]
    assert "hunter2" not in fleet("audit", "--no-trunc")


def test_the_joins_of_the_fleet_are_in_the_audit_log(fleet: Fleet) -> None:
    joined = [row for row in records(fleet) if row["Verb"] == "swarm join"]
    assert {"host1", "host2", "host3"} <= {row["Name"] for row in joined}
    table = fleet("audit").splitlines()
    assert table[0].split() == "TIME CALLER ADDRESS VERB OBJECT CHANGE RESULT".split()
    assert "\n".join(table).count("swarm join") >= len(joined)
