"""Echoes as they look on the wire, and who they belong to."""

import struct

import pytest

from pyswarm_core.aio.echo import V6, answered, request

NONCE = b"mynonce!"
BODY = struct.pack("!8sI", NONCE, 7)


def _reply(packet: bytes) -> bytes:
    return b"\0" + packet[1:]


def test_a_request_has_the_checksum_of_rfc_1071() -> None:
    packet = request(BODY, 3)
    total = sum(struct.unpack(f"!{len(packet) // 2}H", packet))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    assert (packet[0], packet[7], total) == (8, 3, 0xFFFF)


def test_a_reply_to_our_echo_names_it_whatever_identifier_the_kernel_gave_it() -> None:
    reply = _reply(request(BODY, 0))
    assert answered(reply, NONCE, with_ip=False) == 7
    header = b"\x46" + bytes(23)  # with an option: six words
    assert answered(header + reply, NONCE, with_ip=True) == 7


@pytest.mark.parametrize("length", [20, 21])
def test_a_request_of_any_length_has_a_right_checksum(length: int) -> None:
    packet = request(b"\x01" * length, 3) + bytes(length % 2)
    total = sum(struct.unpack(f"!{len(packet) // 2}H", packet))
    assert (total & 0xFFFF) + (total >> 16) == 0xFFFF


def test_echoes_of_ipv6_have_types_of_their_own() -> None:
    packet = request(BODY, 0, V6)
    reply = bytes((129,)) + packet[1:]
    assert packet[0] == 128
    assert answered(reply, NONCE, V6, with_ip=False) == 7
    assert answered(reply, NONCE, with_ip=False) is None


def test_requests_foreign_and_short_packets_answer_nothing() -> None:
    packet = request(BODY, 0)
    assert answered(packet, NONCE, with_ip=False) is None
    assert answered(_reply(packet), b"another!", with_ip=False) is None
    for length in range(len(packet)):
        assert answered(_reply(packet)[:length], NONCE, with_ip=False) is None
        assert answered(_reply(packet)[:length], NONCE, with_ip=True) is None
