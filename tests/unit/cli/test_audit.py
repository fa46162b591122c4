"""`pyswarm audit`: records as a table, JSON, a template, and as a log that goes on."""

import msgspec
import pytest

from pyswarm_core.api.v1 import audit_pb2
from pyswarm_core.clock import SECOND, Instant
from pyswarm_core.codec import to_proto
from pyswarm_core.identity.audit import AuditRecord, FieldChange
from tests.unit.cli.conftest import Pyswarm
from tests.unit.cli.golden import assert_golden
from tests.unit.cli.scripted import Script

T0 = 1_700_000_000 * SECOND
RECORDS = (
    AuditRecord(
        sequence=41,
        at=Instant(T0),
        caller_kind="user",
        caller_id="u1",
        caller="alice",
        role="operator",
        address="192.0.2.7",
        verb="service update",
        object_kind="service",
        object_id="j4u0o1b9d7xg2",
        object_name="web",
        version=7,
        changes=(
            FieldChange(field="Image", before="web:1", after="web:2"),
            FieldChange(field="Env", before="DB_PASSWORD=***", after="DB_PASSWORD=***, MODE=prod"),
            FieldChange(field="Labels.tier", before="front", after=""),
        ),
        omitted=2,
    ),
    AuditRecord(
        sequence=42,
        at=Instant(T0 + 5 * SECOND + 7),
        caller_kind="root",
        caller="root",
        role="admin",
        address="socket",
        verb="node update",
        object_kind="node",
        object_id="9y1t",
        object_name="host2",
        version=3,
        changes=(FieldChange(field="Availability", before="active", after="drain"),),
    ),
    AuditRecord(
        sequence=43,
        at=Instant(T0 + 9 * SECOND),
        caller_kind="user",
        caller_id="u2",
        caller="bob",
        role="viewer",
        address="192.0.2.8",
        verb="service rm",
        object_kind="service",
        object_name="web",
        result="permission denied: service rm requires the role operator,\nbob is a viewer",
        skipped=3,
    ),
)


@pytest.fixture
def scripted(script: Script) -> Script:
    parts = [audit_pb2.ListAuditReply(), audit_pb2.ListAuditReply()]
    for number, record in enumerate(RECORDS):
        to_proto(record, parts[number // 2].records.add())
    script.on("ListAudit", parts)
    return script


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("audit", ()),
        ("audit-no-trunc", ("--no-trunc",)),
        ("audit-json", ("--format", "json")),
        ("audit-follow", ("--follow",)),
        ("audit-template", ("--format", "table {{.Verb}}\t{{.Object}}\t{{.Version}}")),
        ("audit-follow-template", ("-f", "--format", "table {{.Verb}}\t{{.Object}}")),
    ],
)
def test_the_log(name: str, arguments: tuple[str, ...], scripted: Script, pyswarm: Pyswarm) -> None:
    ran = pyswarm("audit", *arguments)
    assert (ran.code, ran.err) == (0, "")
    assert_golden(name, ran.out)


def test_the_request_has_times_and_filters(scripted: Script, pyswarm: Pyswarm) -> None:
    filters = ["--user", "alice", "--user", "bob", "--object", "service/web"]
    times = ["--since", "2023-11-14T22:00:00Z", "--until", "2023-11-14T23:00:00Z"]
    assert pyswarm("audit", "--follow", *times, *filters).code == 0
    (request,) = scripted.requests("ListAudit")
    assert list(request.users) == ["alice", "bob"]
    assert list(request.objects) == ["service/web"]
    assert (request.since, request.until) == (1699999200 * SECOND, 1700002800 * SECOND)
    assert not request.follow  # the end is over


def test_a_format_is_checked_before_the_request(script: Script, pyswarm: Pyswarm) -> None:
    ran = pyswarm("audit", "--format", "{{.Nope}}")
    assert ran.code == 2
    assert "Nope" in ran.err


def test_times_that_end_before_they_begin_are_refused(pyswarm: Pyswarm) -> None:
    ran = pyswarm("audit", "--since", "1m", "--until", "2m")
    assert (ran.code, "expected a time after --since 1m" in ran.err) == (2, True)


def test_json_is_a_line_for_each_record(scripted: Script, pyswarm: Pyswarm) -> None:
    lines = pyswarm("audit", "--format", "json").out.splitlines()
    found = [msgspec.json.decode(line) for line in lines]
    assert [one["Sequence"] for one in found] == [41, 42, 43]
    assert found[0]["Changes"][0] == {"Field": "Image", "Before": "web:1", "After": "web:2"}
