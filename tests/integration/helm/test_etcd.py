"""A real etcd starts with the chart's own arguments and certificates, and our client reaches it."""

import asyncio
from pathlib import Path

import pytest

from controller.store.base import Committed, Put, StoreUnavailable, Txn
from controller.store.etcd import EtcdStore
from controller.store.etcd_endpoints import EtcdSettings
from controller.store.etcd_tls import EtcdTls


async def test_the_charts_etcd_serves_those_who_hold_its_certificate(
    endpoint: str, certificates: Path
) -> None:
    ca = await asyncio.to_thread((certificates / "ca.crt").read_bytes)
    tls = EtcdTls(
        ca_pem=ca,
        cert_pem=(certificates / "tls.crt").read_bytes(),
        key_pem=(certificates / "tls.key").read_bytes(),
    )
    async with EtcdStore(EtcdSettings((endpoint,), tls=lambda: tls)) as store:
        assert isinstance(await store.commit(Txn(puts=(Put(b"a", b"1"),))), Committed)


async def test_the_charts_etcd_refuses_those_without(endpoint: str, certificates: Path) -> None:
    ca = (certificates / "ca.crt").read_bytes()
    tls = EtcdTls(ca_pem=ca)
    async with EtcdStore(EtcdSettings((endpoint,), tls=lambda: tls)) as store:
        with pytest.raises(StoreUnavailable):
            await store.commit(Txn(puts=(Put(b"a", b"1"),)))
