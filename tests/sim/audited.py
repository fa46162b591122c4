"""The audit log: each change of a user is stored together with its one record.

Every request of a run has a verb of its own, so that its record can be told from all others.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from msgspec.structs import replace

from controller.brain.slices import Slices
from controller.leader.audit import log
from controller.leader.leadership import Mutation, in_slices
from controller.leader.persistence import packing, saving
from pyswarm_core import limits
from pyswarm_core.clock import Instant
from pyswarm_core.decision import Writes
from pyswarm_core.identity.audit import OK, AuditClass, AuditRecord, decode_record
from pyswarm_core.identity.limits import AUDIT_DELETED, AUDIT_RECORDS
from pyswarm_core.ids import IdSource
from pyswarm_core.kinds import KINDS, STACK, Kind
from pyswarm_core.objects import Network, Object, Service
from pyswarm_core.payloads.references import Reference
from pyswarm_core.state import State
from tests.sim.controllers import KEYS
from tests.sim.membership import stack_of
from tests.sim.rules import Rule
from tests.sim.view import Change, View

KEPT = 40
"""Records of a class in a run with few: the oldest are deleted within a minute."""
SLACK = AUDIT_DELETED
"""Records that a leader could not delete before it died, at most."""


class Requests:
    """What users requested, by verb."""

    def __init__(self) -> None:
        self.count = 0
        self.changing: dict[str, bool] = {}
        """Whether the request changes anything, by the last decision about it."""
        self.confirmed: dict[str, None] = {}
        """Those whose success was answered and that are not checked yet."""

    def next(self) -> str:
        """The verb of another request."""
        self.count += 1
        return f"request {self.count}"

    def counted(self, verb: str, mutation: Mutation[Any]) -> Mutation[Any]:
        """The mutation of the request of that verb."""

        def decide(state: State, now: Instant, ids: IdSource) -> Slices[tuple[Writes, Any]]:
            writes, result = yield from in_slices(mutation(state, now, ids))
            self.changing[verb] = bool(writes)
            return writes, result

        return decide


@contextmanager
def bounded(puts: int) -> Iterator[None]:
    """While it lasts, transactions have so many operations at most; if that is few, the store keeps
    few records as well.
    """
    kept = KEPT if puts < limits.TXN_PUTS else AUDIT_RECORDS
    with (
        patch.object(saving, "TXN_PUTS", puts),
        patch.object(packing, "TXN_PUTS", puts),
        patch.object(log, "AUDIT_RECORDS", kept),
        patch.object(log, "AUDIT_RECORDS_OTHER", kept),
    ):
        yield


class ChangesAreRecorded:
    """A record comes with its change, a change with its record, and each once."""

    rule = Rule.AUDITED

    def __init__(self, requests: Requests) -> None:
        self._requests = requests
        self._values: dict[bytes, bytes] = {}
        self._verbs: dict[str, bytes] = {}
        self._kept: dict[AuditClass, dict[bytes, None]] = {one: {} for one in AuditClass}

    def broken_by(self, change: Change, view: View) -> Iterator[str]:
        """See `Law`."""
        fresh: list[AuditRecord] = []
        yield from self._taken(change, fresh)
        for record in fresh:
            yield from self._misplaced(record, change)
        for kind, old, new in change.objects:
            if not _is_of_stack(kind, new, view):
                yield from _unrecorded(kind.name, old, new, fresh)
        yield from self._unanswered()
        for class_, kept in self._kept.items():
            if len(kept) > vars(log)["AUDIT_RECORDS"] + SLACK:
                yield f"{len(kept)} records of class {class_} are stored"

    def _taken(self, change: Change, fresh: list[AuditRecord]) -> Iterator[str]:
        """Collect the new records."""
        for put in change.txn.puts:
            if not put.key.startswith(KEYS.audits):
                continue
            class_, sequence = KEYS.parse_audit(put.key)
            self._kept[class_][put.key] = None
            if put.key not in self._values:
                fresh.append(decode_record(put.value))
            elif self._values[put.key] != put.value:
                yield f"record {sequence} was written anew with another content"
            self._values[put.key] = put.value
        for delete in change.txn.deletes:
            for kept in self._kept.values():
                kept.pop(delete.key, None)

    def _misplaced(self, record: AuditRecord, change: Change) -> Iterator[str]:
        """A record without its change, or a second one of a request."""
        if record.result != OK:
            return
        if record.verb.startswith("request "):
            if record.verb in self._verbs:
                yield f"{record.verb} has two records"
            self._verbs[record.verb] = b""
        keys = [put.key for put in change.txn.puts] + [one.key for one in change.txn.deletes]
        if record.object_kind == "task":
            found = any(key.startswith(KEYS.chunks) for key in keys)
        elif record.object_kind == "cluster":
            found = KEYS.cluster in keys
        else:
            found = KEYS.object(KINDS[record.object_kind], record.object_id) in keys
        if not found:
            yield f"{record.verb} is recorded without its change of {record.object}"

    def _unanswered(self) -> Iterator[str]:
        """Requests that were confirmed and have no record."""
        for verb in self._requests.confirmed:
            if self._requests.changing.get(verb) and verb not in self._verbs:
                yield f"{verb} was confirmed and has no record"
        self._requests.confirmed.clear()


def _is_of_stack(kind: Kind[Any, Any], new: Object | None, view: View) -> bool:
    """Whether the record may be that of a stack, which may be stored sooner. Its first service that
    publishes a port makes the mesh's network.
    """
    is_mesh = isinstance(new, Network) and new.spec.ingress and bool(view.of(STACK))
    return is_mesh or (kind is not STACK and bool(stack_of(kind, new)))


def _unrecorded(
    kind: str, old: Object | None, new: Object | None, fresh: list[AuditRecord]
) -> Iterator[str]:
    """A new version that a user made, without a record in the same transaction."""
    author = getattr(new, "updated_by", None)
    if new is None or author is None or (old is not None and old.version == new.version):
        return
    if isinstance(old, Service) and isinstance(new, Service) and _follows(old, new):
        return  # the record is that of the secret or config, whose services may be many
    about = [one for one in fresh if (one.object_kind, one.object_id) == (kind, new.id)]
    is_beside = any(one.field.startswith(f"{kind} ") for each in fresh for one in each.changes)
    versions = [one.version for one in about]
    if isinstance(new, Service) and _references(old) != _references(new):
        # In the same turn a user made or changed it, and then a secret or config got a version.
        first = old.version.index if old is not None else 0
        versions = [new.version.index for one in versions if one > first]
    if not is_beside and new.version.index not in versions:
        yield f"version {new.version.index} of {kind} {new.id} has no record"


def _references(service: object) -> tuple[Reference, ...]:
    """The versions of secrets and configs that it names."""
    if not isinstance(service, Service):
        return ()
    return service.spec.task_template.container_spec.references


def _follows(old: Service, new: Service) -> bool:
    """Whether the service got other versions of secrets and configs, and nothing else changed."""
    blank = [
        replace(
            one.spec,
            task_template=replace(
                one.spec.task_template,
                container_spec=replace(
                    one.spec.task_template.container_spec, secrets=(), configs=()
                ),
            ),
        )
        for one in (old, new)
    ]
    return blank[0] == blank[1] and old.spec != new.spec
