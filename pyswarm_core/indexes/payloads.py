"""The versions of secrets or configs by name. PURE (mutable)."""

from collections.abc import Mapping
from types import MappingProxyType

from pyswarm_core.payloads.payload import Payload, PayloadId, Secret

PAYLOAD_KINDS = ("secret", "config")
_NONE: Mapping[int, PayloadId] = MappingProxyType({})


class PayloadVersions:
    """The versions of each name of one kind."""

    def __init__(self) -> None:
        self._of_name: dict[str, dict[int, PayloadId]] = {}

    def __len__(self) -> int:
        """How many names there are."""
        return len(self._of_name)

    def of(self, name: str) -> Mapping[int, PayloadId]:
        """The ids of the name's versions by number; empty if there is none."""
        return self._of_name.get(name, _NONE)

    def newest(self, name: str) -> PayloadId | None:
        """The id of the newest version; None if there is none."""
        versions = self.of(name)
        return versions[max(versions)] if versions else None

    def is_newest(self, item: Payload) -> bool:
        """Whether no version of its name is newer."""
        return self.newest(item.spec.name) == item.id

    def put(self, payload_id: PayloadId, old: Payload | None, new: Payload | None) -> None:
        """A version was added, changed or removed."""
        if old is not None:
            versions = self._of_name[old.spec.name]
            versions.pop(old.number, None)
            if not versions:
                del self._of_name[old.spec.name]
        if new is not None:
            self._of_name.setdefault(new.spec.name, {})[new.number] = payload_id


def put_payload(
    indexes: Mapping[str, PayloadVersions],
    payload_id: PayloadId,
    old: Payload | None,
    new: Payload | None,
) -> None:
    """A version of a secret or config was added, changed or removed."""
    if (item := new or old) is not None:
        indexes["secret" if isinstance(item, Secret) else "config"].put(payload_id, old, new)
