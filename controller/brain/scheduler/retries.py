"""Which waiting services to plan again after nodes or networks changed. PURE.

A service that waits for a node is planned again only if a node that changed, or on which a task
ended, could take one of its tasks now, or if one of its networks has free addresses again. One
comparison of columns excludes most services by what they reserve. Each of the others is checked
alone, with what is left after the services before it were placed.
"""

from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from controller.brain.mounts import is_per_task
from controller.brain.scheduler.filters import (
    container_needs,
    homes,
    images_of,
    kept_layer,
    strict,
)
from controller.brain.scheduler.ledger import Ledger
from controller.brain.volumes import leaves_volumes, volume_named
from pyswarm_core.decision import Dirty
from pyswarm_core.ids import NetworkId, ServiceId
from pyswarm_core.indexes.dependents import keeps_templates
from pyswarm_core.indexes.nodes import BoolColumn, IntColumn
from pyswarm_core.indexes.sources import Presence, needed
from pyswarm_core.indexes.tasks import footprint_of, is_desired
from pyswarm_core.objects import Service
from pyswarm_core.state import State
from pyswarm_core.states import TaskState

if TYPE_CHECKING:
    from controller.brain.allocator.blocks import Blocks


class Retries:
    """The waiting services that may find a node because of what is dirty.

    `ledger` and `blocks_of` give what is left as the decision proceeds.
    """

    def __init__(
        self,
        state: State,
        dirty: Dirty,
        ledger: Ledger,
        blocks_of: Callable[[NetworkId], "Blocks | None"],
    ) -> None:
        self.asked = 0
        """How many services were checked alone."""
        self._state = state
        self._blocks_of = blocks_of
        self._ledger = ledger
        table = state.node_table
        any_may_gain = dirty.nodes | dirty.opened
        changed = [table.rows[one] for one in sorted(any_may_gain) if one in table.rows]
        freed = [table.rows[one] for one in sorted(dirty.freed - any_may_gain) if one in table.rows]
        self._changed = np.array([row for row in changed if table.schedulable[row]], np.int64)
        self._freed = np.array([row for row in freed if table.schedulable[row]], np.int64)
        self._rows: IntColumn = np.concatenate([self._changed, self._freed])
        self._roomier = dirty.networks
        self._on_row: dict[int, Counter[ServiceId]] = {}
        self._fitting: dict[ServiceId, None] = {}
        self._fitted_at = -1
        self._fit()
        self.services = dict(self._fitting)
        """Those that are not excluded by what they reserve."""
        if self._roomier:
            self.services.update((one, None) for one in state.unplaced if self._gains(one))

    def _gains(self, service_id: ServiceId) -> bool:
        """Whether a network with free addresses again may be one of a waiting task's."""
        service = self._state.services[service_id]
        return keeps_templates(service) or not self._roomier.isdisjoint(
            footprint_of(service.spec).networks
        )

    def could_be_placed(self, service_id: ServiceId) -> bool:
        """Whether a node can take a task of the service, after what was placed so far. That is left
        to the plan if its update is paused: tasks of several templates may wait; and if its slots
        have volumes of their own.
        """
        self.asked += 1
        service = self._state.services[service_id]
        if keeps_templates(service) or is_per_task(service.spec.task_template):
            return True
        if any(
            (blocks := self._blocks_of(network_id)) and not blocks.exhausted
            for network_id in footprint_of(service.spec).networks
            if network_id in self._roomier
        ):
            return True
        if self._fitted_at != self._ledger.version:
            self._fit()
        return service_id in self._fitting and self._finds_row(service)

    def _fit(self) -> None:
        """Find the services whose reservations fit on one of the rows."""
        self._fitted_at = self._ledger.version
        needs = self._state.unplaced.needs
        fits = np.zeros(len(needs.services), np.bool_)
        for rows, asking in ((self._changed, np.True_), (self._freed, needs.takes)):
            rows = rows[self._ledger.free_tasks[rows] > 0]
            if len(rows):
                cpus, memory = self._left(rows)
                enough = needs.nano_cpus[:, None] <= cpus
                enough &= needs.memory_bytes[:, None] <= memory
                fits |= asking & enough.any(axis=1)
        self._fitting = {needs.services[at]: None for at in np.flatnonzero(fits).tolist()}

    def _left(self, rows: IntColumn) -> tuple[IntColumn, IntColumn]:
        """Free CPUs and bytes, at least 0: an overcommitted node can take what reserves nothing."""
        free_cpus, free_memory = self._ledger.free_cpus[rows], self._ledger.free_memory[rows]
        return np.maximum(free_cpus, 0), np.maximum(free_memory, 0)

    def _finds_row(self, service: Service) -> bool:
        rows, footprint = self._rows, footprint_of(service.spec)
        cpus, memory = self._left(rows)
        fits: BoolColumn = (cpus >= footprint.nano_cpus) & (memory >= footprint.memory_bytes)
        fits &= self._ledger.free_tasks[rows] > 0
        table = self._state.node_table
        for constraint in service.spec.task_template.placement.constraints:
            fits &= table.satisfying(constraint)[rows]
        for kind, count in footprint.generic:
            fits &= self._ledger.free_generic(kind)[rows] >= count
        for port in footprint.ports:
            fits &= ~self._ledger.held(port)[rows]
        for _, capability in container_needs(service.spec.task_template.container_spec):
            fits &= ~table.lacking(capability)[rows]
        if (layer := kept_layer(table, service)) is not None:
            fits &= layer.rows[rows]
        names = service.spec.task_template.volumes
        left = service if leaves_volumes(service) else None
        for home in strict(
            homes(
                self._state, names, partial(volume_named, self._state), service=service, left=left
            )
        ):
            fits &= home.rows[rows]
        for path in needed(service.spec.task_template):
            fits &= self._state.sources.column(path)[rows] != Presence.ABSENT
        if table.image_disk_full.any():
            fits &= ~table.without_room_for(images_of(service.spec.task_template))[rows]
        networks = [self._blocks_of(network_id) for network_id in footprint.networks]
        if not all(networks):
            return False
        return any(
            self._has_room(row, [one for one in networks if one]) and self._may_have(row, service)
            for row in rows[fits].tolist()
        )

    def _has_room(self, row: int, networks: "list[Blocks]") -> bool:
        table = self._state.node_table
        node_id, number = table.ids[row], int(table.number[row])
        return all(
            blocks.fits(node_id, number)
            and not any(table.lacking(capability)[row] for capability in blocks.network.needs)
            for blocks in networks
        )

    def _may_have(self, row: int, service: Service) -> bool:
        """Whether the node may have one more task of the service; one at most if it is global."""
        spec = service.spec
        most = 1 if spec.mode.per_node else spec.task_template.placement.max_replicas
        if not most:
            return True
        held = self._on_row.get(row)
        if held is None:
            tasks = self._state.tasks_of_node(self._state.node_table.ids[row]).values()
            placed = [t for t in tasks if is_desired(t) and t.state >= TaskState.ASSIGNED]
            held = self._on_row[row] = Counter(task.service_id for task in placed)
        return held[service.id] < most
