"""The keys of the store. PURE: the only module that builds one.

<prefix>/cluster               Cluster
<prefix>/<kind>/<id>           an object of one of the kinds of kinds.py: node/…, service/…
<prefix>/chunk/<service>/<n>   TaskChunk: the tasks of one service with slot // 128 == n
<prefix>/unreadable/chunk/…    bytes found under a chunk's key that are no chunk
<prefix>/audit/<class>/<n>     AuditRecord: a requested change, by its sequence
<prefix>/event/<n>             EventsReply: the events n * 100 to n * 100 + 99 of the fleet
<prefix>/controller/<id>       a running controller's name and address, attached to its lease
<prefix>/leader                the leader's name, attached to its lease
"""

from typing import Any, NamedTuple

from pyswarm_core.identity.audit import AuditClass
from pyswarm_core.ids import ServiceId
from pyswarm_core.kinds import Kind
from pyswarm_core.limits import CHUNK_SLOTS

DEFAULT_PREFIX = "/pyswarm"


class ChunkKey(NamedTuple):
    """The key of a chunk of tasks."""

    service_id: ServiceId
    block: int


def chunk_of(service_id: ServiceId, slot: int) -> ChunkKey:
    """The chunk that holds this slot."""
    return ChunkKey(service_id, slot // CHUNK_SLOTS)


class Keys:
    """The keys of one fleet, which owns everything under `prefix`."""

    def __init__(self, prefix: str = DEFAULT_PREFIX) -> None:
        self.root = f"{prefix.rstrip('/')}/".encode()
        self.cluster = self.root + b"cluster"
        self.leader = self.root + b"leader"
        self.controllers = self.root + b"controller/"
        self.listening = self.root + b"listening/"
        self.chunks = self.root + b"chunk/"
        self.unreadable = self.root + b"unreadable/"
        self.audits = self.root + b"audit/"
        self.events = self.root + b"event/"

    def controller(self, controller_id: str) -> bytes:
        return self.controllers + controller_id.encode()

    def listening_of(self, controller_id: str) -> bytes:
        return self.listening + controller_id.encode()

    def objects(self, kind: Kind[Any, Any]) -> bytes:
        """The prefix of all objects of a kind."""
        return self.root + kind.name.encode() + b"/"

    def object(self, kind: Kind[Any, Any], object_id: str) -> bytes:
        return self.objects(kind) + object_id.encode()

    def chunks_of(self, service_id: ServiceId) -> bytes:
        """The prefix of all chunks of a service."""
        return self.chunks + service_id.encode() + b"/"

    def chunk(self, key: ChunkKey) -> bytes:
        return self.chunks_of(key.service_id) + b"%08d" % key.block

    def audit(self, class_: AuditClass, sequence: int) -> bytes:
        """The key of an audit record; of one class, the order of keys is that of the sequence."""
        return self.audits + b"%s/%020d" % (class_.encode(), sequence)

    def parse_audit(self, key: bytes) -> tuple[AuditClass, int]:
        """The inverse of `audit`. Raises ValueError."""
        class_, _, sequence = key[len(self.audits) :].decode().partition("/")
        return AuditClass(class_), int(sequence)

    def event_page(self, number: int) -> bytes:
        """The key of a page of events."""
        return self.events + b"%012d" % number

    def parse_event_page(self, key: bytes) -> int:
        """The inverse of `event_page`. Raises ValueError."""
        return int(key[len(self.events) :])

    def name_of(self, key: bytes) -> str:
        """The key without the fleet's prefix: `service/<id>`, `chunk/<service>/<n>`, `cluster`."""
        return key[len(self.root) :].decode(errors="replace")

    def aside(self, key: bytes) -> bytes:
        """The key under which the bytes of an unreadable chunk are kept."""
        return self.unreadable + key[len(self.root) :]

    def parse_chunk(self, key: bytes) -> ChunkKey:
        """The inverse of `chunk`."""
        service_id, block = key[len(self.chunks) :].decode().split("/")
        return ChunkKey(ServiceId(service_id), int(block))
