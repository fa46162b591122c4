"""The wire message taken apart."""

import pytest

from agent.assignment import parse_assignment
from pyswarm_core.api.v1 import dispatcher_pb2


@pytest.mark.parametrize("encrypted", [False, True])
def test_whether_a_network_is_encrypted_is_told_whatever_keys_there_are(encrypted: bool) -> None:
    message = dispatcher_pb2.Assignments()
    overlay = dispatcher_pb2.Overlay(network_id="net", encrypted=encrypted)
    message.overlays.append(overlay.SerializeToString())
    (desired,) = parse_assignment(message).overlays
    assert (desired.encrypted, desired.encryption_keys) == (encrypted, ())
