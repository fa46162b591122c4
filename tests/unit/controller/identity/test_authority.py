"""A controller's own certificate: made once, renewed in time, and after a change of the CA."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from controller.identity import authority as module
from controller.identity import ca
from controller.identity.authority import Authority, StoredCluster
from controller.identity.keyring import Keyring
from controller.identity.rotation import begun
from controller.store.base import Put, Txn
from controller.store.memory import MemoryKv
from controller.store.memory_store import MemoryStore
from pyswarm_core.aio.system import SteadyClock
from pyswarm_core.clock import HOUR, SECOND, Instant
from pyswarm_core.errors import InvalidArgument, PyswarmError
from pyswarm_core.identity.tokens import digest_of, parse_join_token
from pyswarm_core.keys import Keys
from pyswarm_core.kinds import CLUSTER, encode
from pyswarm_core.objects import Cluster
from tests.fixtures.build import NOW
from tests.fixtures.envelopes import FixedKeyring
from tests.fixtures.identity import FLEET, another, require_issued_by

KEY = Keys().cluster
KEYRING: Any = FixedKeyring()


class Clock:
    """Stands still until a test sets it."""

    def __init__(self) -> None:
        self.at = NOW

    def now(self) -> Instant:
        return self.at


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOK_PERIOD_S", 0.01)
    monkeypatch.setattr(module, "RETRY_S", 0.01)


@pytest.fixture
def kv() -> MemoryKv:
    return MemoryKv()


def authority(kv: MemoryKv, name: str = "c1", clock: Clock | None = None) -> Authority:
    store = MemoryStore(kv, SteadyClock())
    stored = StoredCluster(store, Keys(), KEYRING, lambda: another("c").cluster)
    return Authority(stored, name, clock or Clock())


@asynccontextmanager
async def kept(*authorities: Authority) -> AsyncIterator[None]:
    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        tasks = [group.create_task(one.keep()) for one in authorities]
        for one in authorities:
            await one.known()
        yield
        for task in tasks:
            task.cancel()


async def put(kv: MemoryKv, cluster: Cluster) -> None:
    await MemoryStore(kv, SteadyClock()).commit(
        Txn((), (Put(KEY, KEYRING.envelope(is_new=False).encode(cluster)),))
    )


async def stored(kv: MemoryKv) -> Cluster:
    found = await MemoryStore(kv, SteadyClock()).read(KEY)
    cluster: Cluster = KEYRING.envelope(is_new=False).decode(CLUSTER, found.items[0].value)
    return cluster


async def changed(one: Authority) -> None:
    """Return when it has another identity."""
    former = one.identity
    while one.identity is former:  # noqa: ASYNC110  # it tells nobody
        await asyncio.sleep(0.005)


async def test_controllers_that_start_at_once_have_one_ca(kv: MemoryKv) -> None:
    several = [authority(kv, f"c{number}") for number in range(5)]
    async with kept(*several):
        root = (await stored(kv)).ca.certificate.encode()
        assert {one.identity.roots for one in several} == {root}
        assert len({one.identity.key for one in several}) == 5
        for one in several:
            require_issued_by(one.identity.chain, (root.decode(),))


async def test_the_key_of_a_cluster_that_another_controller_created_first_is_removed(
    kv: MemoryKv, tmp_path: Path
) -> None:
    """The operator copies the other controller's key; a wrong one would have to be found first."""
    file = tmp_path / "encryption.key"

    def slower() -> Cluster:
        kv.commit(Txn((), (Put(KEY, KEYRING.envelope(is_new=False).encode(FLEET.cluster)),)))
        return another("c").cluster

    store = MemoryStore(kv, SteadyClock())
    late = StoredCluster(store, Keys(), Keyring(file), slower)
    with pytest.raises(InvalidArgument, match=r"encryption\.key"):
        await late.read()
    assert not file.exists()


async def test_nothing_is_trusted_before_the_stored_cluster_is_known(kv: MemoryKv) -> None:
    await put(kv, FLEET.cluster)
    one = authority(kv)
    assert FLEET.cluster.ca.certificate.encode() not in one.identity.chain
    async with kept(one):
        assert one.identity.roots.decode() == FLEET.cluster.ca.certificate


async def test_it_renews_at_half_of_its_life_and_not_before(kv: MemoryKv) -> None:
    await put(kv, replace(FLEET.cluster, spec=replace(FLEET.cluster.spec, cert_expiry=4 * HOUR)))
    clock = Clock()
    one = authority(kv, clock=clock)
    async with kept(one):
        first = one.identity
        clock.at = Instant(NOW + 2 * HOUR - SECOND)
        one.adopt(await stored(kv))
        assert one.identity is first
        clock.at = Instant(NOW + 2 * HOUR)
        await changed(one)
        assert one.identity.ends_at == NOW + 6 * HOUR
        assert one.identity.key != first.key


async def test_a_changed_ca_and_a_changed_lifetime_are_adopted(kv: MemoryKv) -> None:
    await put(kv, FLEET.cluster)
    one = authority(kv)
    async with kept(one):
        rotated = begun(FLEET.cluster, NOW)
        await put(kv, rotated)
        await changed(one)
        require_issued_by(one.identity.chain, (rotated.ca.certificate,))
        await put(kv, replace(rotated, spec=replace(rotated.spec, cert_expiry=HOUR)))
        await changed(one)
        assert one.identity.ends_at == NOW + HOUR
        last = one.identity
        await put(kv, replace(await stored(kv), next_node_number=7))
        one.adopt(await stored(kv))
        assert one.identity is last, "nothing that a certificate depends on has changed"


async def test_a_change_of_the_leader_counts_at_once_and_an_older_read_does_not_undo_it(
    kv: MemoryKv, monkeypatch: pytest.MonkeyPatch
) -> None:
    await put(kv, FLEET.cluster)
    one = authority(kv)
    rotated = begun(FLEET.cluster, NOW)
    read = one._stored.read
    reads = 0

    async def overtaken() -> Cluster:
        nonlocal reads
        found = await read()
        reads += 1
        if reads == 2:  # the leader stores a new CA while the second look is answered
            one.changed((rotated,))
            require_issued_by(one.identity.chain, (rotated.ca.certificate,))
            await put(kv, rotated)
        return found

    monkeypatch.setattr(one._stored, "read", overtaken)
    async with kept(one):
        await changed(one)
        given = one.identity
        before = reads
        while reads < before + 3:
            assert one.identity is given
            await asyncio.sleep(0.005)


async def test_a_store_that_is_away_is_waited_for(kv: MemoryKv) -> None:
    store = MemoryStore(kv, SteadyClock())
    store.set_away(True)
    one = Authority(StoredCluster(store, Keys(), KEYRING, lambda: FLEET.cluster), "c1", Clock())
    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        task = group.create_task(one.keep())
        await asyncio.sleep(0.05)
        assert not task.done()
        store.set_away(False)
        await one.known()
        task.cancel()


async def test_damaged_data_ends_it_with_what_to_do(kv: MemoryKv) -> None:
    await MemoryStore(kv, SteadyClock()).commit(Txn((), (Put(KEY, b"\xff\xffjunk"),)))
    with pytest.raises(PyswarmError, match="restore it from a backup"):
        await authority(kv).keep()


async def test_data_of_a_version_without_certificates_is_converted_on_request(
    kv: MemoryKv,
) -> None:
    await put(kv, Cluster(id="c1", next_node_number=9))
    store = MemoryStore(kv, SteadyClock())
    stored_ = StoredCluster(store, Keys(), KEYRING, lambda: another("c").cluster, converts=True)
    one = Authority(stored_, "c1", Clock())
    async with kept(one):
        cluster = await stored(kv)
        assert (cluster.id, cluster.next_node_number) == ("c1", 9)
        assert one.identity.roots.decode() == cluster.ca.certificate
        token = parse_join_token(cluster.worker_token)
        assert token.digest == digest_of(ca.der_of(cluster.ca.certificate))


async def test_data_of_a_version_without_certificates_ends_it(kv: MemoryKv) -> None:
    await put(kv, Cluster(id="c1"))
    with pytest.raises(InvalidArgument, match="--convert"):
        await authority(kv).keep()


async def test_a_fleet_of_a_version_without_any_key_is_converted_with_a_new_key(
    kv: MemoryKv, tmp_path: Path
) -> None:
    """Such a fleet has neither a CA nor an encryption key, nor anything that is encrypted."""
    file = tmp_path / "encryption.key"
    kv.commit(Txn((), (Put(KEY, encode(Cluster(id="c1", next_node_number=9))),)))
    store = MemoryStore(kv, SteadyClock())

    def reader(*, converts: bool) -> StoredCluster:
        made = another("c").cluster
        return StoredCluster(store, Keys(), Keyring(file), lambda: made, converts=converts)

    with pytest.raises(InvalidArgument, match="--convert"):
        await reader(converts=False).read()
    assert not file.exists()
    cluster = await reader(converts=True).read()
    assert (cluster.next_node_number, bool(cluster.ca.certificate)) == (9, True)
    assert (await reader(converts=False).read()).ca == cluster.ca
    assert b"PRIVATE" not in kv.get(KEY).value  # type: ignore[union-attr]
    assert cluster.ca.key not in kv.get(KEY).value  # type: ignore[union-attr]
