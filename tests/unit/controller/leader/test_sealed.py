"""Sensitive fields are stored sealed with the current key, whatever they were stored as before."""

import pytest
from msgspec.structs import replace

from controller.identity.envelope import Envelope
from controller.store.base import Put, StoreMisuse, Txn
from pyswarm_core.decision import Writes
from pyswarm_core.kinds import SERVICE, encode
from pyswarm_core.objects import Cluster
from pyswarm_core.specs import RegistryLogin
from tests.fixtures.envelopes import KEY
from tests.unit.controller.leader.test_saving import KEYS, Rig, service


@pytest.fixture
def rig() -> Rig:
    return Rig()


def with_secrets() -> Writes:
    login = RegistryLogin(registry="docker.io", username="ann", password="hidden-password")
    return Writes(
        cluster=Cluster(id="cluster", worker_token="hidden-token"),
        objects=(replace(service("app"), registry_login=login),),
    )


async def test_what_is_sensitive_is_stored_sealed_and_loading_writes_nothing(rig: Rig) -> None:
    saver = await rig.start()
    secret = with_secrets()
    await saver.save(rig.state, rig.write(secret))
    stored = b"".join(item.value for item in (await rig.store.read(KEYS.root)).items)
    assert not [one for one in (b"hidden-password", b"hidden-token") if one in stored]
    loaded = await rig.load()
    assert loaded.state.cluster == secret.cluster
    assert list(loaded.state.services.values()) == list(secret.objects)
    assert not loaded.unsaved


async def test_what_is_found_in_plain_text_is_saved_sealed(rig: Rig) -> None:
    saver = await rig.start()
    secret = with_secrets()
    (web,), fleet = secret.objects, secret.cluster
    assert fleet is not None
    plain = [Put(KEYS.cluster, encode(fleet)), Put(KEYS.object(SERVICE, web.id), encode(web))]
    await rig.store.commit(Txn(puts=tuple(plain)))
    loaded = await rig.load()
    assert sorted(loaded.unsaved.names()) == ["cluster", f"service/{web.id}"]
    await saver.save(loaded.state, loaded.unsaved)
    again = await rig.load()
    assert (again.state.cluster, again.state.services) == (fleet, {web.id: web})
    assert not again.unsaved


async def test_what_a_former_key_sealed_is_saved_with_the_current_one(rig: Rig) -> None:
    saver, former = await rig.start(), rig.envelope
    await saver.save(rig.state, rig.write(with_secrets()))
    before = await rig.load()
    assert not before.unsaved
    rig.envelope = Envelope(bytes(32), lambda: bytes(12), (KEY,))
    loaded = await rig.load()
    (web,) = loaded.state.services.values()
    assert sorted(loaded.unsaved.names()) == ["cluster", f"service/{web.id}"]
    assert loaded.state.services == before.state.services
    assert loaded.state.cluster == before.state.cluster
    saver = await rig.start()
    await saver.save(loaded.state, loaded.unsaved)
    rig.envelope = Envelope(bytes(32), lambda: bytes(12))
    again = await rig.load()
    assert not again.unsaved
    assert (again.state.cluster, again.state.services) == (
        before.state.cluster,
        before.state.services,
    )
    rig.envelope = former
    with pytest.raises(StoreMisuse, match="it is sealed with encryption key"):
        await rig.load()


async def test_what_another_key_sealed_is_unreadable_with_the_reason(rig: Rig) -> None:
    saver = await rig.start()
    secret = with_secrets()
    await saver.save(rig.state, rig.write(replace(secret, cluster=Cluster(id="cluster"))))
    other = rig.envelope = Envelope(bytes(32), lambda: bytes(12))
    loaded = await rig.load()
    (name, why), *_ = loaded.state.unreadable.items()
    assert name == f"service/{secret.objects[0].id}"
    assert why.startswith("registry_login cannot be decrypted: it is sealed with encryption key ")
    assert f"this controller has {other.key_id}" in why
    assert not loaded.unsaved


async def test_nothing_is_led_without_the_cluster_s_key(rig: Rig) -> None:
    saver = await rig.start()
    await saver.save(rig.state, rig.write(with_secrets()))
    rig.envelope = Envelope(bytes(32), lambda: bytes(12))
    with pytest.raises(StoreMisuse, match="/pyswarm/cluster cannot be read: worker_token cannot"):
        await rig.load()
