"""Opens the store that a controller's configuration names: an etcd of the user's, or the embedded
one, which it keeps running. SHELL.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial

import msgspec

from controller.config import Config, EtcdConfig
from controller.identity.etcd import EtcdCertificates
from controller.store.base import Store
from controller.store.embedded import EmbeddedEtcd, EmbeddedSettings
from controller.store.etcd import EtcdStore
from controller.store.etcd_endpoints import EtcdSettings, is_exposed
from controller.store.etcd_tls import TlsFiles
from pyswarm_core.aio.logs import EventLog
from pyswarm_core.aio.system import SystemClock
from pyswarm_core.errors import invalid, reason_of

_log = EventLog("controller.store")


@asynccontextmanager
async def open_store(config: Config) -> AsyncIterator[Store]:
    """The etcd of --etcd-endpoints, or the embedded one."""
    if config.etcd.endpoints:
        async with EtcdStore(_etcd_settings(config.etcd)) as store:
            yield store
        return
    folder = config.state_dir / "etcd"
    certificates = EtcdCertificates(folder / "tls", SystemClock())
    etcd = EmbeddedEtcd(EmbeddedSettings(folder), certificates)
    await etcd.start()
    settings = msgspec.structs.replace(etcd.client, pads_log=True)
    async with (
        EtcdStore(settings) as store,
        _supervised(certificates.keep),
        _supervised(etcd.supervise),
        _supervised(lambda: etcd.relieve(store)),
    ):
        yield store


@asynccontextmanager
async def _supervised(work: Callable[[], "asyncio._CoroutineLike[None]"]) -> AsyncIterator[None]:
    async with asyncio.TaskGroup() as group:
        task = group.create_task(work())
        try:
            yield
        finally:
            task.cancel()


def _etcd_settings(config: EtcdConfig) -> EtcdSettings:
    _check_tls(config)
    files = TlsFiles(config.ca_file, config.cert_file, config.key_file)
    tls = files.current()
    if exposed := [one for one in config.endpoints if is_exposed(one, tls)]:
        _log.warning(
            "store.exposed",
            endpoints=",".join(exposed),
            reason="no TLS: whoever reaches this network can read and change the store",
            advice="--etcd-endpoints https://…, --etcd-cafile, --etcd-certfile and --etcd-keyfile",
        )
    return EtcdSettings(
        config.endpoints,
        username=config.username,
        password=config.password,
        tls=files.current,
    )


def _check_tls(config: EtcdConfig) -> None:
    """Raise InvalidArgument for files that TLS cannot use: gRPC would report no connection."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    for flag, file, use in (
        ("--etcd-cafile", config.ca_file, context.load_verify_locations),
        (
            "--etcd-certfile",
            config.cert_file,
            partial(context.load_cert_chain, keyfile=config.key_file),
        ),
    ):
        try:
            if file:
                use(file)
        except OSError as error:  # ssl.SSLError is one
            reason = "it is no PEM" if isinstance(error, ssl.SSLError) else reason_of(error)
            expected = "expected a PEM file, and the key that belongs to a certificate"
            raise invalid(flag, str(file), f"{reason}: {expected}") from None
