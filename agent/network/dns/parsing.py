"""Parses DNS messages by dnslib. PURE: bytes in, values out.

Imported with the first query: dnslib takes 1.5 MB of memory, which a host does without whose tasks
look up no names.
"""

from typing import Any

from dnslib import DNSError, DNSHeader, DNSQuestion
from dnslib.buffer import BufferError as EndOfMessage
from dnslib.dns import RR
from dnslib.label import DNSBuffer, DNSLabel, DNSLabelError

from agent.network.dns.wire import HEADER, OPT, UDP_BYTES, Query

MALFORMED = (DNSError, DNSLabelError, EndOfMessage, RecursionError, ValueError)
"""What parsing raises."""
_LABEL_MAX, _NAME_MAX = 63, 253


def query(raw: bytes, ident: int, flags: int, additional: int) -> Query:
    """The query of a message with this header. Raises one of MALFORMED."""
    buffer = DNSBuffer(raw)
    buffer.offset = HEADER.size
    question = DNSQuestion.parse(buffer)
    labels: tuple[bytes, ...] = question.qname.label
    name = b".".join(labels)
    if len(name) > _NAME_MAX or any(len(label) > _LABEL_MAX for label in labels):
        raise ValueError("a label or a name is too long")
    payload = 0
    if additional:
        record = RR.parse(buffer)
        if record.rtype == OPT:
            payload = max(UDP_BYTES, record.rclass)
    again = DNSBuffer()
    question.pack(again)
    return Query(
        raw=raw,
        id=ident,
        flags=flags,
        name=name.decode().lower(),
        kind=question.qtype,
        klass=question.qclass,
        question=bytes(again.data),
        payload=payload,
    )


def encoded(name: str) -> bytes:
    """A name as the data of a record."""
    buffer = DNSBuffer()
    buffer.encode_name_nocompress(DNSLabel(name.encode()))
    return bytes(buffer.data)


def is_reply(query: Query, raw: bytes) -> bool:
    """Whether the message answers this query. An error may omit the question."""
    try:
        buffer = DNSBuffer(raw)
        header: Any = DNSHeader.parse(buffer)
        if not header.qr or header.id != query.id:
            return False
        if header.q != 1:
            return bool(header.q == 0 and header.rcode)
        asked = DNSQuestion.parse(buffer)
        mine = DNSQuestion.parse(DNSBuffer(query.question))
    except MALFORMED:
        return False
    return bool(asked == mine)
