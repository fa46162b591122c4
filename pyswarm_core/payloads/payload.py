"""Versions of secrets and configs, as they are stored. PURE values.

docs/decisions/0032-secrets-and-configs.md states the rules.
"""

from typing import NewType

from pyswarm_core.clock import Instant
from pyswarm_core.identity.author import Author
from pyswarm_core.model import Model
from pyswarm_core.objects import Object, Version
from pyswarm_core.volumes.mounts import Driver

PayloadId = NewType("PayloadId", str)

GOLANG = "golang"
"""The only template driver: Go's templates."""


class PayloadSpec(Model, frozen=True):
    """A secret or config as its user specified it, without the data."""

    name: str
    labels: dict[str, str] = {}
    templating: Driver | None = None
    """The data is a template."""
    keep_versions: int = 0
    """Versions that are kept although nothing uses them, beside the newest."""


class Payload(Object, frozen=True):
    """One version of a secret or config. Its data never changes."""

    id: PayloadId
    spec: PayloadSpec
    version: Version = Version()
    created_at: Instant = Instant(0)
    updated_at: Instant = Instant(0)
    number: int = 1
    """1, 2, 3… among the versions of one name."""
    data: bytes = b""
    reload: str = ""
    """The signal with which running containers get it, or NO_SIGNAL; empty: tasks are replaced."""
    updated_by: Author | None = None

    @property
    def title(self) -> str:
        """`db@3`: the unique name of the version."""
        return f"{self.spec.name}@{self.number}"

    def __repr__(self) -> str:
        """Without the data, which no error or log may have."""
        return f"{type(self).__name__}(id={self.id!r}, name={self.title!r})"


class Secret(Payload, frozen=True):
    """One version of a secret."""


class Config(Payload, frozen=True):
    """One version of a config."""
