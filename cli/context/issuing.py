"""A client certificate for a user, whose key is made on this machine. SHELL: imports
`cryptography`.
"""

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from cli.client import Client
from cli.context.model import Material
from pyswarm_core.views import Ca


def issued(client: Client, user: str = "", former_roots: str = "") -> Material:
    """A new key, and the certificate that the fleet's CA issues for it, by default for the caller.
    The former roots are trusted until the rotation of the CA has ended. Raises PyswarmError.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    csr = request.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)
    found = client.issue_user_certificate(user, csr.decode())
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return Material(ca=trusted_roots(client.ca(), former_roots), cert=found.chain, key=pem.decode())


def trusted_roots(ca: Ca, former_roots: str) -> str:
    """PEM: the newest root, and during a rotation the former ones."""
    if ca.is_finished or former_roots.startswith(ca.certificate):
        return ca.certificate if ca.is_finished else former_roots
    return ca.certificate + former_roots
