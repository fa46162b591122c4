"""Which containers' writable layers each node keeps. PURE (mutable: only `State` changes it)."""

from collections.abc import Mapping

from pyswarm_core.ids import NodeId, ServiceId
from pyswarm_core.objects import Service

_NONE: Mapping[ServiceId, None] = {}


class KeptLayers:
    """The containers by the node that they are pinned to, also those that are being removed."""

    def __init__(self) -> None:
        self._of_node: dict[NodeId, dict[ServiceId, None]] = {}

    def of_node(self, node_id: NodeId) -> Mapping[ServiceId, None]:
        """The containers whose layers the node keeps, by the ids of their services."""
        return self._of_node.get(node_id, _NONE)

    def put(self, service_id: ServiceId, old: Service | None, new: Service | None) -> None:
        """The service was added, changed or removed."""
        before = old.pinned_node if old is not None else NodeId("")
        now = new.pinned_node if new is not None else NodeId("")
        if before == now:
            return
        if before:
            held = self._of_node[before]
            del held[service_id]
            if not held:
                del self._of_node[before]
        if now:
            self._of_node.setdefault(now, {})[service_id] = None
