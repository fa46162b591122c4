"""Encodes and decodes DNS messages (RFC 1035, RFC 6891). PURE: bytes in, bytes out.

dnslib parses the wire format (`parsing.py`, imported with the first query). Only the header, the
question and EDNS of a query are read, and malformed ones result in a value, never in an exception.
An answer's records all belong to the question's name, so each is a pointer to it and ten fixed
bytes: they are encoded here, because a library's object per record would cost a hundred times more.
"""

import struct
from collections.abc import Sequence

import msgspec

A, PTR, AAAA, OPT, ANY = 1, 12, 28, 41, 255
INTERNET = 1
NO_ERROR, FORMAT_ERROR, SERVER_FAILURE, NAME_ERROR, NOT_IMPLEMENTED, REFUSED = range(6)

TTL_S = 2
"""How long a resolver may cache an answer: about as long as the fleet takes to replace a task.

With Swarm's 600 s, clients keep the addresses of tasks that are long gone. A query costs a task a
fifth of a millisecond.
"""

QUERY_BYTES_MAX = 4096
UDP_BYTES = 512
"""The datagram size that every resolver accepts (RFC 1035)."""
UDP_BYTES_MAX = 1232
"""The maximum datagram sent to clients that accept more: it is never fragmented (DNS flag day
2020).
"""
TCP_BYTES = 65535

HEADER = struct.Struct("!HHHHHH")
_ROW = struct.Struct("!HHHIH")
_POINTER = 0xC00C
_REPLY, _TRUNCATED, _DESIRED, _AVAILABLE = 0x8000, 0x0200, 0x0100, 0x0080


class Query(msgspec.Struct, frozen=True, gc=False):
    """One query. `name` is in lower case, without the last dot."""

    raw: bytes
    id: int
    flags: int
    name: str
    kind: int
    klass: int
    question: bytes
    """The question as sent: clients may mix upper and lower case to recognise their answers."""
    payload: int = 0
    """The largest datagram that the client accepts by EDNS; 0: no EDNS."""


class Unreadable(msgspec.Struct, frozen=True, gc=False):
    """A message that is not a valid query. `reply` empty: it gets no answer."""

    reply: bytes = b""


def read(raw: bytes) -> Query | Unreadable:
    """Parse a message."""
    if len(raw) < HEADER.size:
        return Unreadable()
    ident, flags, questions, *_, additional = HEADER.unpack_from(raw)
    if flags & _REPLY:
        return Unreadable()
    if flags & 0x7800:
        return Unreadable(_bare(ident, flags, NOT_IMPLEMENTED))
    if questions != 1 or len(raw) > QUERY_BYTES_MAX:
        return Unreadable(_bare(ident, flags, FORMAT_ERROR))
    from agent.network.dns import parsing

    try:
        return parsing.query(raw, ident, flags, additional)
    except parsing.MALFORMED:
        return Unreadable(_bare(ident, flags, FORMAT_ERROR))


def datagram_bytes(query: Query) -> int:
    """The maximum size of a datagram that answers the query."""
    return min(max(UDP_BYTES, query.payload), UDP_BYTES_MAX)


def rows_that_fit(query: Query, row_bytes: int, limit_bytes: int) -> int:
    """How many records of that size fit into an answer."""
    room = limit_bytes - HEADER.size - len(query.question) - len(_edns(query))
    return max(room // (_ROW.size + row_bytes), 0)


def answer(
    query: Query, rows: Sequence[bytes] = (), *, more: bool = False, code: int = NO_ERROR
) -> bytes:
    """The answer, of the question's type. `more`: rows are missing, so the client retries over
    TCP.
    """
    flags = _REPLY | _AVAILABLE | query.flags & _DESIRED | code | (_TRUNCATED if more else 0)
    kind = A if query.kind == ANY else query.kind
    edns = _edns(query)
    parts = [HEADER.pack(query.id, flags, 1, len(rows), 0, bool(edns)), query.question]
    for row in rows:
        parts += (_ROW.pack(_POINTER, kind, INTERNET, TTL_S, len(row)), row)
    return b"".join((*parts, edns))


def encoded(name: str) -> bytes:
    """A name as the data of a record."""
    from agent.network.dns import parsing

    return parsing.encoded(name)


def is_reply(query: Query, raw: bytes) -> bool:
    """Whether the message answers this query. An error may omit the question."""
    from agent.network.dns import parsing

    return parsing.is_reply(query, raw)


def is_truncated(raw: bytes) -> bool:
    """Whether the message is truncated."""
    return bool(HEADER.unpack_from(raw)[1] & _TRUNCATED)


def code_of(raw: bytes) -> int:
    """The message's response code."""
    return int(HEADER.unpack_from(raw)[1] & 0xF)


def _bare(ident: int, flags: int, code: int) -> bytes:
    kept = flags & (0x7800 | _DESIRED)
    return HEADER.pack(ident, _REPLY | _AVAILABLE | kept | code, 0, 0, 0, 0)


def _edns(query: Query) -> bytes:
    # The root name, OPT, our largest datagram, no flags, no options.
    return struct.pack("!BHHIH", 0, OPT, UDP_BYTES_MAX, 0, 0) if query.payload else b""
