"""Certificates of the cluster's CA: what they say, and which ones count."""

import ssl
import subprocess
from contextlib import ExitStack
from datetime import UTC, datetime
from tempfile import NamedTemporaryFile

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import given
from hypothesis import strategies as st

from controller.identity import ca
from controller.identity.ca import Issuer, Subject, Unit
from pyswarm_core.clock import HOUR, SECOND, Instant
from pyswarm_core.errors import InvalidArgument, PermissionDenied
from pyswarm_core.identity.certificates import CertificateAuthority
from pyswarm_core.identity.trust import AGENT_NAME, GUEST_KEY_PEM, SERVER_NAME
from tests.fixtures.build import NOW
from tests.fixtures.identity import FLEET, another, require_issued_by, signed

WORKER = Subject(Unit.WORKER, "n1", FLEET.cluster.id)
ISSUER = Issuer(FLEET.cluster.ca)
REQUESTER = ca.new_key()
REQUEST = ca.csr_pem(REQUESTER)


def loaded(pem: bytes | str) -> x509.Certificate:
    return x509.load_pem_x509_certificate(pem if isinstance(pem, bytes) else pem.encode())


def verifies(pem: bytes, root: str, *between: str) -> bool:
    """Whether OpenSSL accepts it of a client, at NOW."""
    with ExitStack() as stack:
        files = [stack.enter_context(NamedTemporaryFile()) for _ in range(3)]
        for file, text in zip(files, (root.encode(), "".join(between).encode(), pem), strict=True):
            file.write(text)
            file.flush()
        anchor, untrusted, leaf = (file.name for file in files)
        options = ("-x509_strict", "-purpose", "sslclient", "-attime", str(NOW // SECOND))
        chain = ("-CAfile", anchor, *(("-untrusted", untrusted) if between else ()))
        done = subprocess.run(
            ("openssl", "verify", *options, *chain, leaf), capture_output=True, check=False
        )
    return done.returncode == 0


@given(st.sampled_from(Unit), st.text("0123456789abcdefghijklmnopqrstuv", min_size=1, max_size=25))
def test_a_certificate_says_what_it_was_issued_for(unit: Unit, holder: str) -> None:
    key = ca.new_key()
    subject = Subject(unit, holder, "c1")
    issued = ISSUER.issue(ca.csr_pem(key), subject, 24 * HOUR, NOW)
    found = ca.parse(issued.pem)
    assert found.subject == subject
    assert found.starts_at == NOW - HOUR
    assert found.expires_at == issued.expires_at == NOW + 24 * HOUR
    assert found.key_digest == ca.key_digest(key.public_key())
    assert found.issuer_key == ca.identifier_of(FLEET.cluster.ca)
    require_issued_by(issued.pem, (FLEET.cluster.ca.certificate,))


def test_a_certificate_ends_with_its_root() -> None:
    root_end = Instant(NOW + ca.ROOT_LIFETIME)
    late = Instant(root_end - HOUR)
    assert ISSUER.certify(ca.new_key().public_key(), WORKER, 24 * HOUR, late).expires_at == root_end


def test_only_a_server_has_the_servers_name() -> None:
    for serves in ("", SERVER_NAME, AGENT_NAME):
        issued = ISSUER.issue(ca.csr_pem(ca.new_key()), WORKER, HOUR, NOW, serves=serves)
        found = loaded(issued.pem).extensions
        usages = found.get_extension_for_class(x509.ExtendedKeyUsage).value
        assert (ExtendedKeyUsageOID.SERVER_AUTH in usages) is bool(serves)
        assert (ExtendedKeyUsageOID.CLIENT_AUTH in usages) is True
        if serves:
            names = found.get_extension_for_class(x509.SubjectAlternativeName).value
            assert names.get_values_for_type(x509.DNSName) == [serves]
        else:
            with pytest.raises(x509.ExtensionNotFound):
                found.get_extension_for_class(x509.SubjectAlternativeName)


def test_a_foreign_ca_of_the_same_name_does_not_count() -> None:
    foreign = another(FLEET.cluster.id)
    pem = Issuer(foreign.cluster.ca).issue(ca.csr_pem(ca.new_key()), WORKER, HOUR, NOW).pem
    own, other = FLEET.cluster.ca.certificate, foreign.cluster.ca.certificate
    with pytest.raises(PermissionDenied, match="another cluster's CA"):
        require_issued_by(pem, (own,))
    assert verifies(pem, other)
    assert not verifies(pem, own)
    require_issued_by(pem, (own, other))


@pytest.mark.parametrize("holder", ["guest", "worker", "server"])
def test_no_leaf_can_issue(holder: str) -> None:
    guest_key = serialization.load_pem_private_key(GUEST_KEY_PEM, None)
    key = guest_key if holder == "guest" else ca.new_key()
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    if holder == "guest":
        above = ISSUER.guest(FLEET.cluster.id, HOUR, NOW)
        assert ca.parse(above).subject == Subject(Unit.GUEST, "guest", FLEET.cluster.id)
    else:
        above = ISSUER.certify(
            key.public_key(), WORKER, HOUR, NOW, serves=SERVER_NAME if holder == "server" else ""
        ).pem
    constraints = loaded(above).extensions.get_extension_for_class(x509.BasicConstraints)
    assert (constraints.critical, constraints.value.ca) == (True, False)
    der = key.private_bytes(
        serialization.Encoding.DER,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    forger = Issuer(CertificateAuthority(certificate=above.decode(), key=der))
    forged = forger.certify(ca.new_key().public_key(), WORKER, HOUR, NOW).pem
    assert verifies(above, FLEET.cluster.ca.certificate)
    assert not verifies(forged, FLEET.cluster.ca.certificate, above.decode())
    with pytest.raises(PermissionDenied):
        require_issued_by(forged, (FLEET.cluster.ca.certificate,))


def test_a_new_root_is_verified_by_those_who_trust_either() -> None:
    old, new = FLEET.cluster.ca, ca.new_authority(FLEET.cluster.id, Instant(NOW + SECOND))
    crossed = ca.cross_signed(new, old, NOW)
    leaf = Issuer(new).certify(ca.new_key().public_key(), WORKER, HOUR, NOW).pem
    assert verifies(leaf, new.certificate)
    assert verifies(leaf, new.certificate, crossed)
    assert verifies(leaf, old.certificate, crossed)
    assert not verifies(leaf, old.certificate)
    assert loaded(crossed).public_key() == loaded(new.certificate).public_key()
    former = ISSUER.certify(ca.new_key().public_key(), WORKER, HOUR, NOW).pem
    assert not verifies(former, new.certificate, crossed)


def test_openssl_accepts_the_root_and_its_serial_numbers() -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.verify_flags |= ssl.VerifyFlags.VERIFY_X509_STRICT
    context.load_verify_locations(cadata=FLEET.cluster.ca.certificate)
    (root,) = context.get_ca_certs()
    assert root["issuer"] == root["subject"]
    numbers = {
        loaded(ISSUER.certify(ca.new_key().public_key(), WORKER, HOUR, NOW).pem).serial_number
        for _ in range(50)
    }
    assert len(numbers) == 50


# Requests


@given(st.binary(max_size=300))
def test_junk_is_no_signing_request(junk: bytes) -> None:
    with pytest.raises(InvalidArgument, match="csr"):
        ca.public_key_of(junk)


@given(st.floats(0, 1, exclude_max=True), st.integers(0, 255))
def test_a_damaged_signing_request_is_refused_or_is_of_the_same_key(at: float, byte: int) -> None:
    damaged = bytearray(REQUEST)
    damaged[int(at * len(damaged))] = byte
    try:
        found = ca.public_key_of(bytes(damaged))
    except InvalidArgument:
        return
    assert found == REQUESTER.public_key()


def test_a_signing_request_is_small_of_its_own_key_and_of_the_one_kind() -> None:
    with pytest.raises(InvalidArgument, match="at most 4 KiB"):
        ca.public_key_of(ca.csr_pem(ca.new_key()) + b"\n" * ca.CSR_BYTES_MAX)
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    for key in (ec.generate_private_key(ec.SECP384R1()), rsa.generate_private_key(65537, 2048)):
        pem = request.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
        with pytest.raises(InvalidArgument, match="expected a PEM signing request for an ECDSA"):
            ca.public_key_of(pem)
    # The key of one request in the place of another's.
    mine, theirs = ca.new_key(), ca.new_key()
    der = x509.load_pem_x509_csr(ca.csr_pem(mine)).public_bytes(serialization.Encoding.DER)
    form = serialization.PublicFormat.UncompressedPoint
    points = [
        key.public_key().public_bytes(serialization.Encoding.X962, form) for key in (mine, theirs)
    ]
    stolen = ssl.DER_cert_to_PEM_cert(der.replace(points[0], points[1])).replace(
        "CERTIFICATE", "CERTIFICATE REQUEST"
    )
    with pytest.raises(InvalidArgument, match="not signed by its key"):
        ca.public_key_of(stolen.encode())


@given(st.binary(max_size=300))
def test_junk_is_no_certificate(junk: bytes) -> None:
    with pytest.raises(InvalidArgument, match="no certificate of a cluster"):
        ca.parse(junk)


# Proofs


def test_only_the_certificates_key_proves_it() -> None:
    key, text = ca.new_key(), b"a request"
    pem = ISSUER.certify(key.public_key(), WORKER, HOUR, NOW).pem
    proof = signed(ca.key_pem(key), text)
    ca.require_proof(pem, text, proof)
    for wrong, signature in (
        (text, signed(ca.key_pem(ca.new_key()), text)),
        (b"another", proof),
        (text, b""),
        (text, b"junk"),
    ):
        with pytest.raises(PermissionDenied, match="proof of the former key is not valid"):
            ca.require_proof(pem, wrong, signature)


def test_what_anybody_may_send_costs_little(monkeypatch: pytest.MonkeyPatch) -> None:
    """A certificate with 100,000 names took 0.3 s to parse, a signature of RSA 35 ms to verify."""
    names = [x509.DNSName(f"n{number}") for number in range(2_000)]
    builder = x509.CertificateBuilder(
        subject_name=x509.Name([]),
        issuer_name=x509.Name([]),
        public_key=REQUESTER.public_key(),
        serial_number=1,
        not_valid_before=datetime(2026, 1, 1, tzinfo=UTC),
        not_valid_after=datetime(2027, 1, 1, tzinfo=UTC),
    ).add_extension(x509.SubjectAlternativeName(names), False)
    large = builder.sign(REQUESTER, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    with pytest.raises(InvalidArgument, match="expected at most 8192"):
        ca.parse(large)

    class Request:
        """Its signature must not be looked at."""

        def public_key(self) -> object:
            return rsa.generate_private_key(65_537, 2_048).public_key()

        @property
        def is_signature_valid(self) -> bool:
            raise AssertionError("verified before its kind was known")

    monkeypatch.setattr(x509, "load_pem_x509_csr", lambda _: Request())
    with pytest.raises(InvalidArgument, match="a key of another kind"):
        ca.public_key_of(REQUEST)
