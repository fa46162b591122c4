"""Certificates of users, as the API requests them. PURE: a protocol; the CA implements it."""

from typing import Protocol

from pyswarm_core.clock import Instant
from pyswarm_core.objects import Cluster
from pyswarm_core.users import UserId


class UserCertificates(Protocol):
    """Issues certificates of users."""

    def ca_digest(self, cluster: Cluster) -> str:
        """The digest of the root certificate (`pyswarm_core/identity/tokens.py::digest_of`)."""
        ...

    def issue(self, cluster: Cluster, user_id: UserId, csr: bytes, now: Instant) -> str:
        """A certificate of the user for the key of a signing request (PEM), and those that lead to
        the root, in PEM. Raises InvalidArgument.
        """
        ...
