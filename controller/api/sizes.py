"""The bytes of containers' files, measured by the agents of their nodes. SHELL.

The nodes measure at the same time, one container after the other, within SIZES_TIMEOUT_S. What is
not measured by then, or on a node that does not answer, is unknown, and the node has a warning.
"""

import asyncio
from collections.abc import Sequence

from msgspec.structs import replace

from controller.api.queries.containers import container_task, container_view
from controller.api.queries.listings import Listing
from controller.brain.slices import Slices, batches
from controller.leader.exchanges import SIZES, SizesRequest
from controller.leader.leadership import Leader
from pyswarm_core.docker.containers.views import SIZE_UNKNOWN, ContainerView
from pyswarm_core.errors import PyswarmError
from pyswarm_core.ids import NodeId, TaskId
from pyswarm_core.limits import SLICE_TASKS
from pyswarm_core.state import State
from pyswarm_core.states import NodeState
from pyswarm_core.views import ContainerSize

SIZES_TIMEOUT_S = 60.0
NODES_AT_ONCE = 32
_BYTES_MAX = 1 << 62
"""Of an agent, which is not trusted: two of these can be added."""
_UNKNOWN = ContainerSize("", SIZE_UNKNOWN, SIZE_UNKNOWN)
_NONE = ContainerSize("", 0, 0)


async def measured(leader: Leader, listing: Listing[str]) -> tuple[Listing[str], Sequence[str]]:
    """The listed containers with their sizes, and a warning for each node that did not measure."""
    run = leader.watches.runner.run
    ids = await run(listing.found)
    nodes = await run(_tasks_of_nodes(leader.state, ids))
    sizes: dict[str, ContainerSize] = {}
    """Of what was measured."""
    unknown: set[TaskId] = set()
    warnings = []
    turns = asyncio.Semaphore(NODES_AT_ONCE)

    async def measure(node_id: NodeId, tasks: Sequence[TaskId]) -> None:
        async with turns:
            if why := await _measure(leader, node_id, tasks, sizes):
                warnings.append(why)
                unknown.update(tasks)

    async with asyncio.TaskGroup() as group:
        for node_id, tasks in nodes.items():
            group.create_task(measure(node_id, tasks))

    def view(container_id: str) -> ContainerView | None:
        found = container_view(leader.state, container_id)
        if found is None:
            return None
        default = _UNKNOWN if found.task_id in unknown else _NONE
        size = sizes.get(found.task_id, default)
        if not all(0 <= one < _BYTES_MAX for one in (size.written_bytes, size.image_bytes)):
            return replace(found, size_rw=SIZE_UNKNOWN, size_root_fs=SIZE_UNKNOWN)
        whole = size.written_bytes + size.image_bytes
        return replace(found, size_rw=size.written_bytes, size_root_fs=whole)

    return listing._replace(found=_same(ids), view=view), sorted(warnings)


def _same(ids: list[str]) -> Slices[list[str]]:
    yield from ()
    return ids


def _tasks_of_nodes(state: State, ids: Sequence[str]) -> Slices[dict[NodeId, list[TaskId]]]:
    found: dict[NodeId, list[TaskId]] = {}
    for part in batches(ids, SLICE_TASKS):
        for container_id in part:
            task = container_task(state, container_id)
            if task is not None and task.node_id:
                found.setdefault(task.node_id, []).append(task.id)
        yield
    return found


async def _measure(
    leader: Leader, node_id: NodeId, tasks: Sequence[TaskId], sizes: dict[str, ContainerSize]
) -> str:
    """Add the sizes of one node's containers; returns why some are missing."""
    node = leader.state.nodes.get(node_id)
    if node is None:
        return ""  # removed, with its containers
    hostname, asked = node.description.hostname, frozenset(tasks)
    if node.status.state is not NodeState.READY:
        return f"sizes of node {hostname} are missing: it is {node.status.state}"
    try:
        async with (
            asyncio.timeout(SIZES_TIMEOUT_S),
            leader.tunnels.open(node_id, SIZES, SizesRequest(tuple(tasks))) as tunnel,
        ):
            while (part := await tunnel.read()) is not None:
                for one in part:
                    if TaskId(one.task_id) in asked:  # an agent is not trusted with others' tasks
                        sizes[one.task_id] = one
    except TimeoutError:
        return f"sizes of node {hostname} are missing: it measures for over {SIZES_TIMEOUT_S:g} s"
    except PyswarmError as error:
        return f"sizes of node {hostname} are missing: {error}"
    return ""
