"""Which nodes have to do with which volumes, and who mounts them. PURE (mutable: only `State`
changes it).
"""

from collections.abc import Container, Iterable, Iterator, Mapping

from pyswarm_core.ids import NodeId, ServiceId
from pyswarm_core.objects import Service
from pyswarm_core.volumes.volume import Volume, VolumeId, VolumeWorkKind

_NONE: Mapping[VolumeId, Volume] = {}
_NOBODY: Mapping[ServiceId, None] = {}
_EXPANDS = "{{"
"""Begins what is expanded in a template. No name of a volume has it."""
_ByNode = dict[NodeId, dict[VolumeId, Volume]]


class Copies:
    """The volumes by their nodes, also those that are being removed; those with work; and the
    services by the volumes that they mount.
    """

    def __init__(self) -> None:
        self._of_node: _ByNode = {}
        self._removing: _ByNode = {}
        self._leaving: _ByNode = {}
        self._forgotten: _ByNode = {}
        self._mounting: dict[str, dict[ServiceId, None]] = {}
        """By the name; of a template, by what is before its first part to expand, and `{{`."""
        self._templates = 0
        """How many of these keys are of templates."""
        self.working: dict[VolumeId, Volume] = {}
        """The volumes with work: no task that mounts them runs."""
        self.moves: dict[VolumeId, Volume] = {}
        """Those of them that are moved."""

    def of_node(self, node_id: NodeId) -> Mapping[VolumeId, Volume]:
        """The volumes of which the node has a copy, by id."""
        return self._of_node.get(node_id, _NONE)

    def leaving(self, node_id: NodeId) -> Mapping[VolumeId, Volume]:
        """The volumes of which the node deletes what is no copy any more, by id."""
        return self._leaving.get(node_id, _NONE)

    def naming(self, node_id: NodeId) -> Iterator[Volume]:
        """The volumes that name the node as having a copy, whatever that is worth, each once; and
        those that are moved there.
        """
        found = {**self.of_node(node_id), **self.leaving(node_id)}
        found.update(self._forgotten.get(node_id, _NONE))
        coming = (one for one in self.moves.values() if one.work and one.work.to == node_id)
        found.update((one.id, one) for one in coming)
        yield from found.values()

    def given_up(self, nodes: Container[NodeId]) -> Iterator[Volume]:
        """The volumes whose copies on some of these nodes were given up."""
        for node_id, held in self._forgotten.items():
            if node_id in nodes:
                yield from held.values()

    def to_remove(self, node_id: NodeId) -> list[VolumeId]:
        """The volumes whose copies the node is to delete."""
        return [*self._removing.get(node_id, _NONE), *self.leaving(node_id)]

    def mounting(self, name: str) -> Mapping[ServiceId, None]:
        """The services of whose specs one mounts the volume of that name, also an earlier one; and
        those whose tasks may: the volumes' names in their specs are templates.
        """
        named = self._mounting.get(name, _NOBODY)
        if not self._templates:
            return named
        keys = (name[:length] + _EXPANDS for length in range(len(name) + 1))
        found = (self._mounting.get(key, _NOBODY) for key in keys)
        return {**named, **{service_id: None for services in found for service_id in services}}

    def put(self, volume_id: VolumeId, old: Volume | None, new: Volume | None) -> None:
        """The volume was added, changed or removed. Its cost follows its copies."""
        going, gone = (one if one and one.removing else None for one in (new, old))
        for held, before, now in (
            (self._of_node, old.copies if old else (), new.copies if new else ()),
            (self._removing, gone.copies if gone else (), going.copies if going else ()),
            (self._leaving, old.leaving if old else (), new.leaving if new else ()),
            (self._forgotten, old.forgotten if old else (), new.forgotten if new else ()),
        ):
            _drop(held, volume_id, [one for one in before if one not in now])
            if new is not None:
                _add(held, new, now)
        work = new.work if new is not None and not new.removing else None
        _set(self.working, volume_id, new if work else None)
        is_move = work is not None and work.kind is VolumeWorkKind.MOVE
        _set(self.moves, volume_id, new if is_move else None)

    def put_service(self, service_id: ServiceId, old: Service | None, new: Service | None) -> None:
        """The service was added, changed or removed."""
        before, now = _mounted(old), _mounted(new)
        if before == now:
            return
        for key in before:
            if key not in now:
                held = self._mounting[key]
                del held[service_id]
                if not held:
                    del self._mounting[key]
                    self._templates -= key.endswith(_EXPANDS)
        for key in now:
            if key not in self._mounting:
                self._mounting[key] = {}
                self._templates += key.endswith(_EXPANDS)
            self._mounting[key][service_id] = None


def _mounted(service: Service | None) -> dict[str, None]:
    """The keys of the volumes of the specs from which its tasks may be made."""
    if service is None:
        return {}
    specs = (service.spec, *[one.spec for one in service.previous_specs])
    return {_key(name): None for spec in specs for name in spec.task_template.volumes}


def _key(name: str) -> str:
    before, expands, _ = name.partition(_EXPANDS)
    return before + expands


def _add(held: _ByNode, volume: Volume, nodes: Iterable[NodeId]) -> None:
    for node_id in nodes:
        held.setdefault(node_id, {})[volume.id] = volume


def _drop(held: _ByNode, volume_id: VolumeId, nodes: Iterable[NodeId]) -> None:
    for node_id in dict.fromkeys(nodes):
        of_node = held[node_id]
        del of_node[volume_id]
        if not of_node:
            del held[node_id]


def _set(held: dict[VolumeId, Volume], volume_id: VolumeId, volume: Volume | None) -> None:
    if volume is None:
        held.pop(volume_id, None)
    else:
        held[volume_id] = volume
