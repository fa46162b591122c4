"""Autolock: the key file is encrypted with the unlock key, and nothing else opens it."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from controller.identity.autolock import (
    LockedKey,
    key_text,
    lock,
    parse_key,
    parse_keys,
    parse_unlock_key,
    unlock,
    unlock_key_text,
)
from controller.identity.keyfile import load_keys
from controller.identity.keyring import Keyring
from controller.identity.locking import Locking
from controller.store.base import Put, Txn
from controller.store.memory import MemoryKv
from controller.store.memory_store import MemoryStore
from pyswarm_core.errors import Conflict, InvalidArgument
from pyswarm_core.keys import Keys
from pyswarm_core.kinds import CLUSTER
from pyswarm_core.objects import Cluster
from pyswarm_core.specs import ClusterSpec
from tests.fixtures.desk import StoppedClock

KEYS = st.binary(min_size=32, max_size=32)
UNLOCK = bytes(range(32))
PLAIN = Cluster(id="fleet")
LOCKING = Cluster(id="fleet", spec=ClusterSpec(autolock=True), unlock_key=UNLOCK)


@given(key=KEYS, other=KEYS, nonce=st.binary(min_size=12, max_size=12))
def test_prop_a_key_file_comes_back(key: bytes, other: bytes, nonce: bytes) -> None:
    assert parse_key(key_text(key)) == key
    assert parse_unlock_key(unlock_key_text(other)) == other
    assert unlock_key_text(other).startswith("SWMKEY-1-")
    locked = lock(key, other, nonce)
    assert key_text(key).strip() not in locked.text
    found = parse_key(locked.text)
    assert isinstance(found, LockedKey)
    assert unlock(found, other) == key


def test_another_unlock_key_is_refused() -> None:
    locked = lock(bytes(32), UNLOCK, bytes(12))
    with pytest.raises(InvalidArgument, match="invalid key: it does not unlock this controller"):
        unlock(locked, bytes(32))
    with pytest.raises(InvalidArgument, match="invalid key"):
        unlock(replace(locked, key_id="00000000"), UNLOCK)


@pytest.mark.parametrize(
    "text", ["", "SWMKEY-1-", "SWMKEY-2-" + "A" * 43, "SWMKEY-1-secret", "SWMKEY-1-" + "Ä" * 43]
)
def test_a_text_that_is_no_unlock_key_is_refused_without_a_part_of_it(text: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        parse_unlock_key(text)
    assert str(refused.value) == (
        "the unlock key is not valid: expected SWMKEY-1- and 32 bytes in base64, as pyswarm swarm"
        " unlock-key prints it"
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "encryption.key"


def test_a_restarted_controller_is_locked_until_it_has_the_key(path: Path) -> None:
    keyring = Keyring(path)
    key_id = keyring.envelope(is_new=True).key_id
    assert not keyring.follow(PLAIN)
    assert keyring.follow(LOCKING)
    assert not keyring.follow(LOCKING), "it is encrypted with this key already"
    assert isinstance(load_keys(path)[0], LockedKey)
    assert path.stat().st_mode & 0o777 == 0o600
    again = Keyring(path)
    assert (again.is_locked, again.is_empty) == (True, False)
    with pytest.raises(InvalidArgument, match="Swarm is encrypted and needs to be unlocked"):
        again.envelope(is_new=False)
    with pytest.raises(InvalidArgument, match="invalid key"):
        again.unlock(bytes(32))
    again.unlock(UNLOCK)
    assert (again.is_locked, again.envelope(is_new=False).key_id) == (False, key_id)
    with pytest.raises(Conflict, match="swarm is not locked"):
        again.unlock(UNLOCK)
    assert again.follow(PLAIN)
    assert Keyring(path).envelope(is_new=False).key_id == key_id


def test_former_keys_are_locked_and_unlocked_as_well(path: Path) -> None:
    keyring = Keyring(path)
    former = keyring.envelope(is_new=True).encode(LOCKING)
    path.write_text(key_text(bytes(range(32))) + path.read_text())
    both = Keyring(path)
    assert (keyring.has_former, both.has_former) == (False, True)
    assert both.follow(LOCKING)
    again = Keyring(path)
    assert again.is_locked
    again.unlock(UNLOCK)
    assert again.envelope(is_new=False).decode(CLUSTER, former) == LOCKING
    assert again.envelope(is_new=False).key_id == both.envelope(is_new=False).key_id
    assert again.follow(PLAIN)
    assert load_keys(path)[0] == bytes(range(32))
    with pytest.raises(ValueError, match="32 bytes in base64 on each line"):
        parse_keys(key_text(bytes(32)) + lock(bytes(32), UNLOCK, bytes(12)).text)


def test_a_rotated_unlock_key_replaces_the_former(path: Path) -> None:
    keyring = Keyring(path)
    keyring.envelope(is_new=True)
    keyring.follow(LOCKING)
    assert keyring.follow(replace(LOCKING, unlock_key=bytes(32)))
    again = Keyring(path)
    with pytest.raises(InvalidArgument, match="invalid key"):
        again.unlock(UNLOCK)
    again.unlock(bytes(32))


async def test_every_controller_follows_the_stored_cluster(path: Path) -> None:
    store, keys, keyring = MemoryStore(MemoryKv(), StoppedClock()), Keys(), Keyring(path)
    locking = Locking(store, keys, keyring)
    await locking.look()
    assert not path.exists(), "there is no cluster yet"
    envelope = keyring.envelope(is_new=True)
    await locking.look()
    assert isinstance(load_keys(path)[0], bytes)
    await store.commit(Txn(puts=(Put(keys.cluster, envelope.encode(LOCKING)),)))
    await locking.look()
    assert isinstance(load_keys(path)[0], LockedKey)
    await store.commit(Txn(puts=(Put(keys.cluster, envelope.encode(PLAIN)),)))
    await locking.look()
    assert isinstance(load_keys(path)[0], bytes)


def test_a_key_file_that_cannot_be_replaced_is_named(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keyring = Keyring(path)
    keyring.envelope(is_new=True)
    keyring.require_writable()
    monkeypatch.setattr("os.access", lambda *_: False)  # root may write everything
    with pytest.raises(InvalidArgument, match=rf"--autolock: the key file {path} of this"):
        keyring.require_writable()
