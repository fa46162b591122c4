"""What a controller says of the store that its flags name."""

from pathlib import Path

import pytest

from controller.config import Config, EtcdConfig
from controller.storage import open_store
from controller.store.etcd_endpoints import is_exposed
from controller.store.etcd_tls import EtcdTls

CA = EtcdTls(ca_pem=b"ca")


@pytest.mark.parametrize(
    ("address", "tls", "expected"),
    [
        ("192.0.2.1:2379", EtcdTls(), True),
        ("http://192.0.2.1:2379", EtcdTls(), True),
        ("http://192.0.2.1:2379", CA, True),
        ("http://etcd.example:2379/", EtcdTls(), True),
        ("http://[2001:db8::1]:2379", EtcdTls(), True),
        ("192.0.2.1:2379", CA, False),
        ("https://192.0.2.1:2379", EtcdTls(), False),
        ("127.0.0.1:2379", EtcdTls(), False),
        ("http://[::1]:2379", EtcdTls(), False),
        ("http://localhost:2379", EtcdTls(), False),
        ("unix:/run/etcd.sock", EtcdTls(), False),
        ("unixs:/run/etcd.sock", CA, False),
    ],
)
def test_endpoints_that_the_network_can_read(address: str, tls: EtcdTls, expected: bool) -> None:
    assert is_exposed(address, tls) is expected


@pytest.mark.parametrize(
    ("endpoints", "named"),
    [
        (("192.0.2.1:2379", "https://192.0.2.2:2379"), "192.0.2.1:2379"),
        (("127.0.0.1:2379", "https://192.0.2.2:2379"), ""),
    ],
)
async def test_an_etcd_without_tls_is_a_warning_with_the_flags_that_help(
    endpoints: tuple[str, ...], named: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = Config(
        state_dir=tmp_path,
        name="c1",
        advertise_addr="192.0.2.9:2377",
        etcd=EtcdConfig(endpoints=endpoints),
    )
    async with open_store(config):
        pass
    warnings = [one.getMessage() for one in caplog.records]
    if not named:
        assert warnings == []
        return
    (warning,) = warnings
    assert warning.startswith(f"store.exposed endpoints={named} ")
    for flag in ("--etcd-endpoints https://", "--etcd-cafile", "--etcd-certfile", "--etcd-keyfile"):
        assert flag in warning
