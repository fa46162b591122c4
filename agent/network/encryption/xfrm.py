"""The kernel's IPsec as netlink messages: associations (`xfrm state`) and policies. PURE.

ESP (RFC 4303) in transport mode with AES-GCM (RFC 4106, 16 bytes of integrity), around the UDP
datagrams to one port. Numbers and layouts are those of <linux/xfrm.h>. Invariant: entries without a
request id of the fleet are ignored.
"""

import struct
from sys import byteorder

import msgspec

from agent.network.encryption.ipsec import KEY_BYTES, Association, Policy
from agent.network.message import AF_INET, CREATE, DUMP, EXCLUSIVE, attribute, attributes, message
from agent.network.names import ENCRYPTION_MASK, Names

NEW_STATE, DROP_STATE, GET_STATE = 16, 17, 18
DROP_POLICY, GET_POLICY, SET_POLICY = 20, 21, 25

# daddr, saddr, dport, its mask, sport, its mask, family, prefix lengths, protocol, device, user
_SELECTOR = struct.Struct("=16s16s2s2s2s2sHBBB3xiI")
# address, SPI, protocol
_ID = struct.Struct("=16s4sB3x")
# sequence, request id, family, mode, replay window, flags
_STATE_TAIL = struct.Struct("=IIHBBB7x")
# priority, index, direction, action, flags, share
_POLICY_TAIL = struct.Struct("=IIBBBB4x")
# family, saddr, request id, mode, share, optional, three sets of algorithms
_TEMPLATE_TAIL = struct.Struct("=H2x16sIBBBxIII")
_STATE_ID = struct.Struct("=16s4sHBx")
_POLICY_ID = struct.Struct("=56sIB3x")
_AEAD = struct.Struct("=64sII")
_MARK = struct.Struct("=II")

_UNLIMITED = struct.pack("=8Q", *[(1 << 64) - 1] * 4, 0, 0, 0, 0)
_UNUSED = bytes(32)
_STATISTICS = bytes(12)
_CIPHER = b"rfc4106(gcm(aes))"
_INTEGRITY_BITS = 128
_ESP, _UDP = 50, 17
_TRANSPORT = 0
_OUT, _ALLOW = 1, 0
_PRIORITY = 97
_ANY = 0xFFFF_FFFF
_TEMPLATE, _COUNTERS, _CIPHER_OF_STATE, _MARKED = 5, 10, 18, 21
_STATE_BYTES, _POLICY_BYTES = 224, 168


def _packed(address: str) -> bytes:
    return bytes(map(int, address.split("."))) + bytes(12)


def _dotted(raw: bytes) -> str:
    return ".".join(map(str, raw[:4]))


def _selector(entry: Association | Policy) -> bytes:
    return _SELECTOR.pack(
        _packed(entry.destination), _packed(entry.source), entry.port.to_bytes(2), b"\xff\xff",
        b"", b"", AF_INET, 32, 32, _UDP, 0, 0,
    )  # fmt: skip


def _mark(mark: int) -> bytes:
    return attribute(_MARKED, _MARK.pack(mark, ENCRYPTION_MASK))


def _cipher(key: bytes) -> bytes:
    return _AEAD.pack(_CIPHER, KEY_BYTES * 8, _INTEGRITY_BITS) + key


def add(entry: Association) -> bytes:
    """Add an association.

    It has no replay window: a host that restarts counts its packets from one again, under a key
    that it has used before (seqiv gives each boot its own nonces).
    """
    body = _selector(entry)
    body += _ID.pack(_packed(entry.destination), entry.spi.to_bytes(4), _ESP)
    body += _packed(entry.source) + _UNLIMITED + _UNUSED + _STATISTICS
    body += _STATE_TAIL.pack(0, entry.reqid, AF_INET, _TRANSPORT, 0, 0)
    return message(
        NEW_STATE, CREATE | EXCLUSIVE, body + attribute(_CIPHER_OF_STATE, _cipher(entry.key))
    )


def drop(entry: Association) -> bytes:
    """Remove an association."""
    name = _STATE_ID.pack(_packed(entry.destination), entry.spi.to_bytes(4), AF_INET, _ESP)
    return message(DROP_STATE, 0, name)


def set_policy(entry: Policy) -> bytes:
    """Add a policy, or make the policy of that name use another association."""
    body = _selector(entry) + _UNLIMITED + _UNUSED
    body += _POLICY_TAIL.pack(_PRIORITY, 0, _OUT, _ALLOW, 0, 0)
    return message(SET_POLICY, 0, body + attribute(_TEMPLATE, _template(entry)) + _mark(entry.mark))


def _template(entry: Policy) -> bytes:
    return _ID.pack(_packed(entry.destination), entry.spi.to_bytes(4), _ESP) + _TEMPLATE_TAIL.pack(
        AF_INET, _packed(entry.source), entry.reqid, _TRANSPORT, 0, 0, _ANY, _ANY, _ANY
    )


def drop_policy(entry: Policy) -> bytes:
    """Remove a policy."""
    body = _POLICY_ID.pack(_selector(entry), 0, _OUT)
    return message(DROP_POLICY, 0, body + _mark(entry.mark))


def dump_states() -> bytes:
    """Request all associations."""
    return message(GET_STATE, DUMP, b"")


def dump_policies() -> bytes:
    """Request all policies."""
    return message(GET_POLICY, DUMP, b"")


def read_state(body: bytes, names: Names) -> Association | None:
    """The association; None for one that is not the fleet's."""
    destination, spi, protocol = _ID.unpack_from(body, _SELECTOR.size)
    _, reqid, family, mode, _, _ = _STATE_TAIL.unpack_from(body, _STATE_BYTES - _STATE_TAIL.size)
    if family != AF_INET or not names.is_request_id(reqid):
        return None
    cipher = attributes(body, _STATE_BYTES).get(_CIPHER_OF_STATE, b"")
    key = cipher[_AEAD.size :]
    entry = Association(
        source=_dotted(body[_SELECTOR.size + _ID.size :]), destination=_dotted(destination),
        spi=int.from_bytes(spi), reqid=reqid, port=int.from_bytes(body[32:34]), key=key,
    )  # fmt: skip
    alike = (protocol, mode) == (_ESP, _TRANSPORT) and cipher == _cipher(key)
    alike = alike and body[: _SELECTOR.size] == _selector(entry)
    return entry if alike else msgspec.structs.replace(entry, key=b"")


def read_sent(body: bytes) -> int:
    """The number of packets sent under the association: the sequence number of the last one."""
    return int.from_bytes(attributes(body, _STATE_BYTES).get(_COUNTERS, b"")[:4], byteorder)


def read_policy(body: bytes, names: Names) -> Policy | None:
    """The policy; None for one that is not the fleet's. A policy that differs from the fleet's in
    anything else has SPI 0.
    """
    found = attributes(body, _POLICY_BYTES)
    template = found.get(_TEMPLATE, b"")
    if len(template) < _ID.size + _TEMPLATE_TAIL.size:
        return None
    _, spi, _ = _ID.unpack_from(template)
    reqid = _TEMPLATE_TAIL.unpack_from(template, _ID.size)[2]
    if not names.is_request_id(reqid):
        return None
    mark, _ = _MARK.unpack(found.get(_MARKED, bytes(_MARK.size)))
    entry = Policy(
        source=_dotted(body[16:]), destination=_dotted(body), port=int.from_bytes(body[32:34]),
        mark=mark, spi=int.from_bytes(spi), reqid=reqid,
    )  # fmt: skip
    tail = _POLICY_TAIL.unpack_from(body, _POLICY_BYTES - _POLICY_TAIL.size)
    alike = body[: _SELECTOR.size] == _selector(entry) and template == _template(entry)
    alike = alike and (tail[0], *tail[2:5]) == (_PRIORITY, _OUT, _ALLOW, 0)
    return entry if alike else Policy(*entry.name, spi=0, reqid=reqid)
