"""The certificates that a controller shows, read before anything is trusted or sent. SHELL.

The handshake sends no certificate, name or token of ours. `ssl` is imported on first use: a process
that has its credentials does without it.
"""

import socket
import time
from typing import TYPE_CHECKING, Any

from pyswarm_core.errors import Unavailable, reason_of
from pyswarm_core.identity.trust import SERVER_NAME, Certificate, Trust, trusted

if TYPE_CHECKING:
    import ssl

TIMEOUT_S = 5.0
"""Time limit of each step: connection, handshake."""


class NoConnection(Unavailable):
    """Nobody listens at the address, or it cannot be reached."""


def fetch_chain(address: str, digest: str, timeout_s: float = TIMEOUT_S) -> Trust:
    """The root with this digest and the guest certificate of the controller at HOST:PORT.

    Raises PermissionDenied if the controller has another root; nothing was sent to it then. Raises
    Unavailable if it does not answer, does not use TLS, or the clocks differ.
    """
    return trusted(peer_chain(address, timeout_s), digest, address, int(time.time()))


def peer_chain(address: str, timeout_s: float = TIMEOUT_S) -> tuple[Certificate, ...]:
    """The chain that the server at HOST:PORT sends, unverified. Raises Unavailable."""
    import ssl

    name, _, port = address.rpartition(":")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.set_alpn_protocols(["h2"])
    try:
        with (
            socket.create_connection((name.strip("[]"), int(port)), timeout_s) as connection,
            context.wrap_socket(connection, server_hostname=SERVER_NAME) as tls,
        ):
            return _chain(tls)
    except TimeoutError:
        raise Unavailable(f"no answer from {address} within {timeout_s:g} s") from None
    except (ssl.SSLEOFError, ssl.SSLZeroReturnError, ConnectionResetError):
        raise Unavailable(f"{address} closed the connection during the TLS handshake") from None
    except ssl.SSLError as error:
        raise Unavailable(_no_tls(address, error)) from None
    except OSError as error:
        raise NoConnection(f"cannot connect to {address}: {reason_of(error)}") from None


def _no_tls(address: str, error: "ssl.SSLError") -> str:
    if error.reason in ("WRONG_VERSION_NUMBER", "PACKET_LENGTH_TOO_LONG", "HTTP_REQUEST"):
        return (
            f"pyswarm at {address} does not use TLS: check the port, and upgrade the controller"
            " if it is an old one"
        )
    return f"no TLS 1.3 connection with {address}: {(error.reason or str(error)).lower()}"


def _chain(tls: "ssl.SSLSocket") -> tuple[Certificate, ...]:
    """Python 3.13 has a method for the chain, without the decoded fields; 3.10 and later have this
    one.
    """
    import _ssl

    found = tls._sslobj.get_unverified_chain() or ()  # type: ignore[attr-defined]
    return tuple(_certificate(one.public_bytes(_ssl.ENCODING_DER), one.get_info()) for one in found)


def _certificate(der: bytes, fields: dict[str, Any]) -> Certificate:
    """`fields` are as of `ssl.SSLSocket.getpeercert`."""
    import ssl

    subject = [pair for relative in fields["subject"] for pair in relative]
    return Certificate(
        der=der,
        subject=_name(subject),
        issuer=_name([pair for relative in fields["issuer"] for pair in relative]),
        unit=dict(subject).get("organizationalUnitName", ""),
        not_before=ssl.cert_time_to_seconds(fields["notBefore"]),
        not_after=ssl.cert_time_to_seconds(fields["notAfter"]),
    )


def _name(pairs: list[tuple[str, str]]) -> str:
    return ",".join(f"{key}={value}" for key, value in pairs)
