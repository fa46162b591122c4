"""Audit records: who requested which change, and its result. PURE values.

A record is stored, listed and written to files in this form; field names are those of audit.proto.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

import msgspec

from pyswarm_core.api.v1 import audit_pb2
from pyswarm_core.clock import Instant
from pyswarm_core.codec import from_proto, to_proto
from pyswarm_core.docker.units import format_time
from pyswarm_core.model import Model

MASK = "***"
"""Stands for a value that nobody may see."""
SECRET_NAMES = "PASS|PWD|TOKEN|SECRET|KEY|CREDENTIAL|AUTH|BEARER"
"""A pattern of names whose values are secrets, in any case."""
OK = "ok"
"""The result of a change that was made."""


class AuditClass(StrEnum):
    """Records that share a bound: those of one class never replace those of another."""

    CHANGE = "change"
    """Changes of users and of root."""
    HOST = "host"
    """Changes that hosts requested: joins and certificates."""
    REFUSED = "refused"
    """Requests that failed or were denied."""


class FieldChange(Model, frozen=True):
    """A field of the object before and after; of a list what was removed and what was added."""

    field: str
    """Its path in the object's document, as `inspect` shows it: `TaskTemplate.ForceUpdate`."""
    before: str = ""
    """Empty: it was not set."""
    after: str = ""


class AuditRecord(Model, frozen=True):
    """One requested change."""

    sequence: int
    """Increases with every record of the fleet."""
    at: Instant
    """By the leader's clock."""
    caller_kind: str
    caller_id: str = ""
    caller: str = ""
    """The caller's name."""
    role: str = ""
    address: str = ""
    verb: str = ""
    """As on the command line: `service update`."""
    object_kind: str = ""
    object_id: str = ""
    object_name: str = ""
    version: int = 0
    """The object's version after the change; 0: it was removed, or not found."""
    changes: tuple[FieldChange, ...] = ()
    omitted: int = 0
    """Further changes that did not fit into the record."""
    result: str = OK
    """`ok`, or the error that the caller got."""
    skipped: int = 0
    """Requests of the caller that were refused before this one and have no record."""

    @property
    def object(self) -> str:
        """`service/web`; empty if the request named none."""
        return f"{self.object_kind}/{self.object_name or self.object_id}".strip("/")


def fields_of(record: AuditRecord) -> Mapping[str, Any]:
    """The record as JSON output and the files of the audit log have it."""
    changes = [
        {"Field": one.field, "Before": one.before, "After": one.after} for one in record.changes
    ]
    return {
        "Sequence": record.sequence,
        "Time": format_time(record.at),
        "Caller": record.caller,
        "CallerKind": record.caller_kind,
        "CallerID": record.caller_id,
        "Role": record.role,
        "Address": record.address,
        "Verb": record.verb,
        "Object": record.object,
        "Kind": record.object_kind,
        "ID": record.object_id,
        "Name": record.object_name,
        "Version": record.version,
        "Changes": changes,
        "Omitted": record.omitted,
        "Result": record.result,
        "Skipped": record.skipped,
    }


def json_line(record: AuditRecord) -> str:
    """The record as one line of JSON."""
    return msgspec.json.encode(fields_of(record)).decode()


def encode_record(record: AuditRecord) -> bytes:
    """The record as it is stored."""
    return to_proto(record, audit_pb2.AuditRecord()).SerializeToString()


def decode_record(value: bytes) -> AuditRecord:
    """The inverse of `encode_record`. Raises an error for other bytes."""
    return from_proto(AuditRecord, audit_pb2.AuditRecord.FromString(value))
