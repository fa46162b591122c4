"""IPsec's netlink messages: decoded as they were encoded; iproute2 decodes them in the integration
tests.
"""

from sys import byteorder

import msgspec
import pytest

from agent.network.encryption import xfrm
from agent.network.encryption.ipsec import Association, Policy
from agent.network.message import HEADER, attribute
from agent.network.names import Names

NAMES = Names("abc")
STATE = Association(
    "192.168.0.1", "192.168.0.2", spi=0x02000001, reqid=NAMES.request_id(2), port=4789,
    key=bytes(range(1, 21)),
)  # fmt: skip
POLICY = Policy(
    "192.168.0.1",
    "192.168.0.2",
    4789,
    NAMES.encryption_mark,
    spi=0x02000001,
    reqid=NAMES.request_id(2),
)


def body(data: bytes, kind: int, length: int) -> bytes:
    """The message without its header, which must have this kind and at least this length."""
    assert HEADER.unpack_from(data)[:2] == (len(data), kind)
    assert len(data) >= 16 + length
    return data[16:]


def test_an_association_is_written_and_read_back_alike() -> None:
    made = body(xfrm.add(STATE), xfrm.NEW_STATE, 224)
    assert xfrm.read_state(made, NAMES) == STATE
    # XFRMA_ALG_AEAD: 160 bits of key and salt, 128 of integrity.
    assert made[224:].startswith(b"\x60\x00\x12\x00rfc4106(gcm(aes))\0")
    assert made[292:300] == b"\xa0\0\0\0\x80\0\0\0"
    assert body(xfrm.drop(STATE), xfrm.DROP_STATE, 24)[16:20] == b"\x02\0\0\x01"


def test_how_much_was_sent_is_read_from_the_sequence_number() -> None:
    made = xfrm.add(STATE)[16:]
    assert xfrm.read_sent(made) == 0
    # XFRMA_REPLAY_VAL: last sent, last received, window.
    counters = (1 << 31).to_bytes(4, byteorder) + bytes(8)
    assert xfrm.read_sent(made + attribute(10, counters)) == 1 << 31


def test_a_policy_is_written_and_read_back_alike() -> None:
    made = body(xfrm.set_policy(POLICY), xfrm.SET_POLICY, 168)
    assert xfrm.read_policy(made, NAMES) == POLICY
    assert len(body(xfrm.drop_policy(POLICY), xfrm.DROP_POLICY, 64)) == 64 + 12


def test_what_others_made_is_not_read() -> None:
    for names in (Names("other"), Names("x")):
        assert xfrm.read_state(xfrm.add(STATE)[16:], names) is None
        assert xfrm.read_policy(xfrm.set_policy(POLICY)[16:], names) is None
    foreign = msgspec.structs.replace(STATE, reqid=7)
    assert xfrm.read_state(xfrm.add(foreign)[16:], NAMES) is None
    bare = xfrm.set_policy(POLICY)[16 : 16 + 168]
    assert xfrm.read_policy(bare, NAMES) is None, "a policy without associations"


@pytest.mark.parametrize(
    ("what", "at"),
    [("selector", 43), ("protocol", 76), ("mode", 214), ("cipher", 240), ("integrity", 297)],
)
def test_an_association_that_is_not_as_ours_are_has_no_key(what: str, at: int) -> None:
    made = bytearray(xfrm.add(STATE)[16:])
    made[at] ^= 1
    found = xfrm.read_state(bytes(made), NAMES)
    assert found is not None, what
    assert (found.name, found.key) == (STATE.name, b"")


@pytest.mark.parametrize(
    ("what", "at"), [("selector", 43), ("direction", 160), ("blocking", 161), ("mode", 220)]
)
def test_a_policy_that_does_something_else_has_no_spi(what: str, at: int) -> None:
    made = bytearray(xfrm.set_policy(POLICY)[16:])
    made[at] ^= 1
    found = xfrm.read_policy(bytes(made), NAMES)
    assert found is not None, what
    assert (found.name, found.spi) == (POLICY.name, 0)
