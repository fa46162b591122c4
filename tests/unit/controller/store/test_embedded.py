"""What the supervisor of the embedded etcd logs."""

import asyncio
from pathlib import Path
from typing import cast

import pytest

from controller.store.base import Revision, StoreStatus, StoreUnavailable
from controller.store.embedded import Certificates, EmbeddedEtcd, EmbeddedSettings
from controller.store.etcd import EtcdStore


class Full:
    """A store that is full, and whose etcd does not answer when it is defragmented."""

    async def status(self) -> StoreStatus:
        return StoreStatus("3.5", Revision(7), True, 1234, ("NOSPACE",))

    async def make_room(self, revision: Revision) -> int:
        raise StoreUnavailable(f"no answer at {revision}")


async def test_a_full_etcd_is_logged_with_its_size_and_the_reason_of_a_failure(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []

    async def pause(seconds: float) -> None:
        if pauses:
            raise asyncio.CancelledError
        pauses.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", pause)
    etcd = EmbeddedEtcd(EmbeddedSettings(tmp_path), cast(Certificates, None))
    with pytest.raises(asyncio.CancelledError):
        await etcd.relieve(cast(EtcdStore, Full()))
    assert [record.getMessage() for record in caplog.records] == [
        "etcd.full size_bytes=1234",
        "etcd.defragment_failed error='no answer at 7'",
    ]
