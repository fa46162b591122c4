"""Certificates of the embedded etcd: what is made, kept, renewed and made again."""

from pathlib import Path

import pytest

from controller.identity.ca import key_digest, parse, private_key
from controller.identity.etcd import EtcdCertificates
from controller.store.etcd_tls import NO_TLS
from pyswarm_core.clock import HOUR, Instant
from pyswarm_core.identity.limits import CERT_EXPIRY
from tests.fixtures.identity import require_issued_by

BEGIN = Instant(1_800_000_000 * 10**9)


class Clock:
    def __init__(self) -> None:
        self.at = BEGIN

    def now(self) -> Instant:
        return self.at


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def certificates(tmp_path: Path, clock: Clock) -> EtcdCertificates:
    found = EtcdCertificates(tmp_path / "tls", clock)
    found.prepare()
    return found


def names(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in (folder / "tls").iterdir()}


def test_only_the_controllers_user_may_read_them(
    certificates: EtcdCertificates, tmp_path: Path
) -> None:
    folder = tmp_path / "tls"
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {file.stat().st_mode & 0o777 for file in folder.iterdir()} == {0o600}


def test_client_and_server_have_certificates_of_one_ca(
    certificates: EtcdCertificates, tmp_path: Path
) -> None:
    tls = certificates.current()
    for pem in (tls.cert_pem, (tmp_path / "tls" / "server.pem").read_bytes()):
        require_issued_by(pem, (tls.ca_pem.decode(),))
        assert parse(pem).expires_at == BEGIN + CERT_EXPIRY
    assert parse(tls.cert_pem).key_digest == key_digest(private_key(tls.key_pem).public_key())


def test_they_stay_for_half_of_their_life(
    certificates: EtcdCertificates, tmp_path: Path, clock: Clock
) -> None:
    before, tls = names(tmp_path), certificates.current()
    clock.at = Instant(BEGIN + CERT_EXPIRY // 2 - HOUR)
    certificates.prepare()
    assert names(tmp_path) == before
    assert certificates.current() is tls, "clients would open new channels"


def test_they_are_renewed_for_the_same_keys_and_ca(
    certificates: EtcdCertificates, tmp_path: Path, clock: Clock
) -> None:
    before = names(tmp_path)
    words = certificates.arguments()
    clock.at = Instant(BEGIN + CERT_EXPIRY // 2)
    certificates.prepare()
    after = names(tmp_path)
    changed = {name for name in after if after[name] != before[name]}
    assert changed == {"server.pem", "client.pem"}
    assert parse(after["client.pem"]).expires_at == clock.at + CERT_EXPIRY
    assert certificates.arguments() == words, "etcd would be restarted"


def test_a_clock_that_was_wrong_costs_a_new_ca(
    certificates: EtcdCertificates, clock: Clock
) -> None:
    words = certificates.arguments()
    clock.at = Instant(BEGIN - 10 * 365 * 24 * HOUR)
    certificates.prepare()
    assert certificates.arguments() != words
    assert parse(certificates.current().cert_pem).starts_at <= clock.at


@pytest.mark.parametrize(
    "name", ["ca.json", "client.key", "server.key", "client.pem", "server.pem"]
)
@pytest.mark.parametrize("damage", ["missing", "empty", "foreign"])
def test_a_damaged_file_is_made_again(name: str, damage: str, tmp_path: Path, clock: Clock) -> None:
    other = EtcdCertificates(tmp_path / "other", clock)
    other.prepare()
    certificates = EtcdCertificates(tmp_path / "tls", clock)
    certificates.prepare()
    file = tmp_path / "tls" / name
    match damage:
        case "missing":
            file.unlink()
        case "empty":
            file.write_bytes(b"")
        case _:
            file.write_bytes((tmp_path / "other" / name).read_bytes())
    certificates.prepare()
    tls = certificates.current()
    assert len([file for file in names(tmp_path) if file.startswith("ca-")]) == 1
    for holder in ("client", "server"):
        found = parse((tmp_path / "tls" / f"{holder}.pem").read_bytes())
        key = private_key((tmp_path / "tls" / f"{holder}.key").read_bytes())
        assert found.key_digest == key_digest(key.public_key())
        require_issued_by((tmp_path / "tls" / f"{holder}.pem").read_bytes(), (tls.ca_pem.decode(),))


def test_nothing_is_shown_before_anything_was_made(tmp_path: Path, clock: Clock) -> None:
    assert EtcdCertificates(tmp_path / "tls", clock).current() is NO_TLS
