"""Operators' changes of nodes. PURE.

`version.index` increases with every change of a user, not with observed state: a node that goes
down while its labels are edited does not make the edit fail.
"""

from collections.abc import Iterable, Iterator
from itertools import islice

import msgspec

from controller.api.changes.unreadable import NAME, remove_unreadable
from controller.api.queries.lookup import find, find_removable_node
from controller.brain.evacuation import left_by_drain
from controller.brain.nodes import MANAGER, runs_controller
from controller.brain.storable import require_storable
from controller.brain.volumework import failed
from pyswarm_core.clock import Instant
from pyswarm_core.decision import Writes
from pyswarm_core.errors import Conflict, quoted
from pyswarm_core.ids import NodeId
from pyswarm_core.kinds import NODE, VOLUME, ObjectName
from pyswarm_core.limits import NODE_BYTES_MAX, VALUE_BYTES_MAX
from pyswarm_core.objects import Node, NodeDescription, Version
from pyswarm_core.specs import NodeSpec
from pyswarm_core.state import State
from pyswarm_core.states import Availability, NodeState, is_terminal
from pyswarm_core.validation import node_problems, require
from pyswarm_core.volumes.volume import Volume, without

replace = msgspec.structs.replace
_NAMED = 5
"""Containers that an error names."""


def update_node(
    state: State,
    ref: str,
    based_on: Version,
    spec: NodeSpec,
    now: Instant,
    *,
    controllers: Iterable[str] = (),
) -> tuple[Writes, Node]:
    """The node with other labels, role or availability. The same spec again changes nothing.

    Raises InvalidArgument, NotFound, Conflict (another update came first; the role does not match
    whether a controller runs there).
    """
    old = find(state, NODE, ref)
    require(node_problems(spec))
    if based_on.index != old.version.index:
        raise Conflict(
            f"update out of sequence: node {quoted(old.description.hostname)} is at version "
            f"{old.version.index}, the update is based on {based_on.index}: read it again"
        )
    _require_role(old, spec.role, controllers)
    if spec == old.spec:
        return Writes(), old
    node = replace(old, spec=spec, version=Version(index=old.version.index + 1), updated_at=now)
    # A later description of the host has to fit as well.
    silent = replace(node, description=NodeDescription(hostname=""))
    name = quoted(old.description.hostname)
    require_storable(f"node {name}", silent, VALUE_BYTES_MAX - 2 * NODE_BYTES_MAX)
    return Writes(objects=(node,)), node


def stopped_by_drain(state: State, node: Node) -> list[str]:
    """What a drained node means for its containers and volumes, a line for each; nothing if it has
    none.
    """
    if node.spec.availability is not Availability.DRAIN:
        return []
    host, told = node.description.hostname, []
    if names := _containers(state, node):
        stay = f"containers {names} keep their writable layers on {host}"
        told.append(f"{stay}: they are stopped until it takes tasks again")
    left = list(islice(left_by_drain(state, node), _NAMED + 1))
    volumes = ", ".join(left[:_NAMED]) + (", …" if len(left) > _NAMED else "")
    if left and node.spec.move_volumes:
        told.append(f"these volumes cannot leave {host}: {volumes}")
    elif left:
        told.append(
            f"volumes have their only copies on {host}, and the tasks that mount them wait:"
            f" {volumes}: move them with --move-volumes, or pyswarm volume move VOLUME --to NODE"
        )
    return told


def _containers(state: State, node: Node) -> str:
    """The names of the containers whose writable layers the node keeps."""
    names = [state.services[one].spec.name for one in state.layers.of_node(node.id)]
    return ", ".join(names[:_NAMED]) + (", …" if len(names) > _NAMED else "")


def drain_node(state: State, node_id: NodeId, now: Instant) -> tuple[Writes, int]:
    """The node drained, as its host leaves the fleet; and how many of its tasks have not ended.

    Raises NotFound.
    """
    node = find(state, NODE, node_id)
    left = sum(not is_terminal(task.state) for task in state.tasks_of_node(node.id).values())
    if node.spec.availability is Availability.DRAIN:
        return Writes(), left
    spec = replace(node.spec, availability=Availability.DRAIN)
    version = Version(index=node.version.index + 1)
    return Writes(objects=(replace(node, spec=spec, version=version, updated_at=now),)), left


def _require_role(node: Node, role: str, controllers: Iterable[str]) -> None:
    """A node is a manager exactly if a controller runs there."""
    if role == node.spec.role:
        return
    is_manager, name = runs_controller(node, controllers), quoted(node.description.hostname)
    if role == MANAGER and not is_manager:
        raise Conflict(f"role manager: no controller runs on node {name}: start one there first")
    if role != MANAGER and is_manager:
        raise Conflict(f"role {role}: a controller runs on node {name}: stop it first")


def remove_node(state: State, ref: str, *, force: bool) -> tuple[Writes, Node]:
    """Remove a node and its tasks. It must be down, unless forced.

    The user asserts that the host is gone: its tasks are replaced at once, and its blocks of
    addresses are released. So are the writable layers of its containers, if that is forced. Raises
    NotFound, Conflict.
    """
    if (unreadable := remove_unreadable(state, NODE, ref)) is not None:
        writes, node_id = unreadable
        return writes, Node(id=node_id, number=0, description=NodeDescription(hostname=NAME))
    node = find_removable_node(state, ref)
    hostname = node.description.hostname
    if node.status.state is not NodeState.DOWN and not force:
        raise Conflict(
            f"node {quoted(hostname)} is {node.status.state}, not down:"
            " run `pyswarm swarm leave` on it first, or use --force"
        )
    if not force and (names := _containers(state, node)):
        raise Conflict(
            f"node {quoted(hostname)} keeps the writable layers of containers {names}, which would"
            " be lost: remove these containers first, or use --force"
        )
    if not force and (names := _volumes(state, node)):
        raise Conflict(
            f"node {quoted(hostname)} has the only copies of volumes {names}, which would be lost:"
            " remove these volumes first, or use --force"
        )
    cluster = state.cluster
    if force:
        cluster = replace(cluster, nodes_evicted=cluster.nodes_evicted + 1)
    writes = Writes(
        cluster=cluster if force else None,
        objects=tuple(_without_copy(state, node)),
        removed_tasks=list(state.tasks_of_node(node.id)),
        removed=(NODE.object_name(node.id), *_gone_with(state, node)),
    )
    return writes, node


def _volumes(state: State, node: Node) -> str:
    """The names of the volumes whose only copies the node has."""
    held = state.copies.of_node(node.id).values()
    names = [one.spec.name for one in held if not one.removing and one.home == node.id]
    return ", ".join(names[:_NAMED]) + (", …" if len(names) > _NAMED else "")


def _without_copy(state: State, node: Node) -> Iterator[Volume]:
    """The volumes that name the node, as they are without it. A pinned volume with its only copy
    there keeps naming it: its tasks start on no other copy. A move from or to it has failed.
    """
    for old in state.copies.naming(node.id):
        volume, copies = old, without(old.copies, node.id)
        if (
            old.work is not None
            and node.id in (old.work.to, old.home)
            and old.id in state.copies.moves
        ):
            what = "destination" if node.id == old.work.to else "source"
            reason = f"the {what} node {node.description.hostname} was removed"
            volume = failed(state, old, reason, old.updated_at)
        if not copies and (old.removing or old.home):
            copies = old.copies
        leaving, forgotten = without(volume.leaving, node.id), without(old.forgotten, node.id)
        kept = replace(volume, copies=copies, leaving=leaving, forgotten=forgotten)
        if kept != old:
            yield kept


def _gone_with(state: State, node: Node) -> Iterator[ObjectName]:
    """The volumes that are being removed, and had their last copy on the node."""
    for volume in state.copies.of_node(node.id).values():
        if volume.removing and set(volume.copies) == {node.id}:
            yield VOLUME.object_name(volume.id)
