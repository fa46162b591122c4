"""Sensitive fields are stored encrypted, and only in the object to which they belong."""

from typing import Any, get_type_hints

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from controller.identity.envelope import (
    KEY_BYTES,
    NONCE_BYTES,
    CannotOpen,
    Envelope,
    associated_data,
    key_id,
    open_sealed,
    seal,
)
from pyswarm_core import kinds
from pyswarm_core.api.v1 import objects_pb2
from pyswarm_core.identity.certificates import CertificateAuthority, EncryptionKey
from pyswarm_core.kinds import CLUSTER, KINDS, SERVICE, Kind, encode
from pyswarm_core.objects import Cluster
from pyswarm_core.specs import RegistryLogin
from tests.fixtures import build
from tests.fixtures.envelopes import KEY, counted_nonces
from tests.fixtures.gadgets import GADGET, Gadget, GadgetId, GadgetSpec
from tests.fixtures.structs import structs

OTHER = bytes(range(KEY_BYTES))
NONCE = bytes(NONCE_BYTES)
LOGIN = RegistryLogin(registry="docker.io", username="ann-of-docker", password="hidden-password")
WEB = replace(build.service("web"), registry_login=LOGIN)
FLEET = Cluster(
    id="fleet",
    worker_token="PYSWM-1-token",
    encryption_keys=(EncryptionKey(number=1, secret=b"secret of ipsec"),),
    unlock_key=b"the key that unlocks",
    scrape_token="PYSWS-1-token",
    ca=CertificateAuthority(certificate="public", key=b"key of the root"),
)
SECRETS = (
    b"ann-of-docker",
    b"hidden-password",
    b"PYSWM-1-token",
    b"PYSWS-1-token",
    b"secret of ipsec",
    b"unlocks",
    b"key of the root",
)
ALL: list[Kind[Any, Any]] = [*KINDS.values(), CLUSTER]
GIVEN: dict[str, Any] = {"network": {"subnet": "10.0.0.0/16", "subnet6": "fd00::/64"}}
"""Fields that the check of a kind compares with more than their type."""
STRATEGIES = {kind.name: structs(kind.struct, **GIVEN.get(kind.name, {})) for kind in ALL}


def envelope(key: bytes = KEY) -> Envelope:
    return Envelope(key, lambda: NONCE)


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.name)
@given(data=st.data())
@settings(max_examples=40)
def test_prop_an_object_of_any_kind_comes_back(kind: Kind[Any, Any], data: st.DataObject) -> None:
    item = data.draw(STRATEGIES[kind.name])
    stored = envelope().encode(item)
    assert envelope().decode(kind, stored) == item
    assert envelope().is_sealed(kind, stored)
    assert kind.decode(stored) == kind.shown(item)  # without the key, nothing sensitive is there


@given(plaintext=st.binary(), associated=st.binary(), at=st.integers(0), bit=st.integers(0, 7))
def test_prop_a_changed_byte_is_noticed(
    plaintext: bytes, associated: bytes, at: int, bit: int
) -> None:
    sealed = seal(KEY, NONCE, plaintext, associated)
    assert open_sealed(KEY, sealed, associated) == plaintext
    changed = bytearray(sealed)
    changed[at % len(sealed)] ^= 1 << bit
    with pytest.raises(CannotOpen):
        open_sealed(KEY, bytes(changed), associated)


@pytest.mark.parametrize("item", [WEB, FLEET], ids=["service", "cluster"])
def test_nothing_sensitive_is_stored_in_plain_text(item: Any) -> None:
    plain, stored = encode(item), counted_nonces().encode(item)
    found = [secret for secret in SECRETS if secret in plain]
    assert found
    assert not [secret for secret in SECRETS if secret in stored]


@pytest.mark.parametrize("item", [replace(WEB, registry_login=None), Cluster(id="fleet")])
def test_an_object_without_sensitive_values_is_stored_as_it_is(item: Any) -> None:
    assert envelope().encode(item) == encode(item)


def test_a_field_of_another_field_is_sealed_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(KINDS, "gadget", GADGET)
    spec = GadgetSpec(name="lamp", labels={"a": "b"}, data=b"hidden data")
    gadget = Gadget(id=GadgetId("g1"), spec=spec)
    stored = envelope().encode(gadget)
    assert b"hidden" not in stored
    assert GADGET.message.FromString(stored).spec.name == "lamp"  # type: ignore[attr-defined]
    assert envelope().decode(GADGET, stored) == gadget
    labelled = replace(GADGET, sensitive=("spec.labels", "spec.data"))
    monkeypatch.setitem(KINDS, "gadget", labelled)
    stored = envelope().encode(gadget)
    assert len(objects_pb2.SealedFields.FromString(stored).sealed) == 2
    assert GADGET.decode(stored) == replace(gadget, spec=GadgetSpec(name="lamp"))
    assert envelope().decode(labelled, stored) == gadget


def test_every_nonce_is_drawn() -> None:
    one = counted_nonces()
    assert one.encode(WEB) != one.encode(WEB)
    boxes = objects_pb2.SealedFields.FromString(one.encode(FLEET)).sealed
    assert [box.path for box in boxes] == list(CLUSTER.sensitive)
    assert len({box.value[5:17] for box in boxes}) == len(boxes)


def test_a_ciphertext_belongs_to_one_object_and_field() -> None:
    box = objects_pb2.SealedFields.FromString(envelope().encode(WEB))
    box.DiscardUnknownFields()
    db = encode(build.service("db")) + box.SerializeToString()
    with pytest.raises(CannotOpen, match="registry_login cannot be decrypted: its ciphertext"):
        envelope().decode(SERVICE, db)
    boxes = objects_pb2.SealedFields.FromString(envelope().encode(FLEET))
    boxes.DiscardUnknownFields()
    boxes.sealed[0].path, boxes.sealed[1].path = boxes.sealed[1].path, boxes.sealed[0].path
    with pytest.raises(CannotOpen, match="unlock_key cannot be decrypted: its ciphertext"):
        envelope().decode(CLUSTER, encode(Cluster(id="fleet")) + boxes.SerializeToString())
    parts = [("a", "b", "c"), ("ab", "", "c"), ("a", "bc", "")]
    assert len({associated_data(*one) for one in parts}) == 3


def test_an_unknown_key_is_named_with_what_to_do() -> None:
    stored = envelope(OTHER).encode(WEB)
    with pytest.raises(CannotOpen) as refused:
        envelope().decode(SERVICE, stored)
    assert str(refused.value) == (
        f"registry_login cannot be decrypted: it is sealed with encryption key {key_id(OTHER)}, and"
        f" this controller has {key_id(KEY)}: copy the file encryption.key from the state directory"
        f" of a controller that has key {key_id(OTHER)}, and name it with --encryption-key"
    )


@pytest.mark.parametrize(("data", "version"), [(b"", "none"), (b"\x02" + bytes(40), "2")])
def test_another_format_is_named(data: bytes, version: str) -> None:
    with pytest.raises(CannotOpen, match=f"in version {version} of the format: expected 1"):
        open_sealed(KEY, data, b"")


def test_plain_text_is_recognised() -> None:
    assert not envelope().is_sealed(SERVICE, encode(WEB))
    assert envelope().is_sealed(SERVICE, encode(build.service("web")))
    assert envelope().decode(SERVICE, encode(WEB)) == WEB


def test_a_key_has_32_bytes() -> None:
    with pytest.raises(ValueError, match="the encryption key has 5 bytes: expected 32"):
        envelope(b"short")


@pytest.mark.parametrize("kind", [*ALL, GADGET], ids=lambda kind: kind.name)
def test_a_sensitive_field_has_an_empty_default_and_is_in_no_tuple(kind: Kind[Any, Any]) -> None:
    for path in kind.sensitive:
        struct: Any = kind.struct
        descriptor: Any = kind.message.DESCRIPTOR
        *parents, name = path.split(".")
        for parent in parents:
            field = descriptor.fields_by_name[parent]
            assert not field.is_repeated
            descriptor, struct = field.message_type, get_type_hints(struct)[parent]
        assert name in descriptor.fields_by_name
        assert not kinds.default_of(struct, name)
