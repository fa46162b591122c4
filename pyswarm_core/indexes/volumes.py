"""Which volumes each node has copies of. PURE (mutable: only `State` changes it)."""

from collections.abc import Mapping

from pyswarm_core.ids import NodeId
from pyswarm_core.volumes.volume import Volume, VolumeId

_NONE: Mapping[VolumeId, Volume] = {}


class Copies:
    """The volumes by the nodes that have copies, also those that are being removed."""

    def __init__(self) -> None:
        self._of_node: dict[NodeId, dict[VolumeId, Volume]] = {}

    def of_node(self, node_id: NodeId) -> Mapping[VolumeId, Volume]:
        """The volumes of which the node has a copy, by id."""
        return self._of_node.get(node_id, _NONE)

    def to_remove(self, node_id: NodeId) -> list[VolumeId]:
        """The volumes whose copies the node is to delete."""
        return [one.id for one in self.of_node(node_id).values() if one.removing]

    def put(self, volume_id: VolumeId, old: Volume | None, new: Volume | None) -> None:
        """The volume was added, changed or removed. Its cost follows its copies."""
        for node_id in old.copies if old is not None else ():
            held = self._of_node[node_id]
            del held[volume_id]
            if not held:
                del self._of_node[node_id]
        if new is not None:
            for node_id in new.copies:
                self._of_node.setdefault(node_id, {})[volume_id] = new
