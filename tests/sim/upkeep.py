"""What users do to services that run: set how updates go, resume, restart, stop."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from msgspec.structs import replace

from tests.sim.askers import SIGNALS
from tests.sim.rand import Chance
from tests.sim.rollouts import Rollouts

if TYPE_CHECKING:
    from tests.sim.workload import Users


class Upkeep:
    """Those users."""

    def __init__(
        self, users: "Users", chance: Chance, rollouts: Rollouts, *, reservations: bool
    ) -> None:
        """`reservations`: whether services reserve resources."""
        self._users = users
        self._reservations = reservations
        self._chance = chance
        self._rollouts = rollouts

    def acts(self) -> list[Callable[[], None]]:
        """What they may do, the likely things several times."""
        more = [self.change_reservations] if self._reservations else []
        return [
            *more,
            self.again,
            self.again,
            self.change_settings,
            self.restart,
            self.stop_or_start,
            self.roll_back,
            self.restart_task,
            self.stop_task,
            self.signal_task,
        ]

    def again(self) -> None:
        """The same spec: a paused update resumes."""
        service = self._users.some_service()
        if service is not None:
            self._users.update(service, service.spec, "as it is")

    def change_settings(self) -> None:
        """Other settings of updates, restarts and checks, while an update may go on."""
        service = self._users.some_service()
        if service is not None:
            spec = self._rollouts.drawn(service.spec)
            if self._chance.hits(0.5):  # the template stays
                spec = replace(spec, task_template=service.spec.task_template)
            self._users.update(service, spec, "settings")

    def restart(self) -> None:
        """`service restart`, or `update --force`."""
        service = self._users.some_service()
        if service is not None:
            template = service.spec.task_template
            template = replace(template, force_update=template.force_update + 1)
            self._users.update(service, replace(service.spec, task_template=template), "restart")

    def stop_or_start(self) -> None:
        """No tasks, as many replicas."""
        service = self._users.some_service()
        if service is not None:
            stopped = not service.spec.stopped
            self._users.update(
                service, replace(service.spec, stopped=stopped), "stop" if stopped else "start"
            )

    def roll_back(self) -> None:
        """To the spec before, or to any that is kept."""
        service = self._users.some_service()
        if service is None:
            return
        known = [one.version for one in service.previous_specs]
        to = self._chance.choice((0, *known))
        self._users.roll_back(service, to)

    def restart_task(self) -> None:
        """Another task for a slot, at once."""
        tasks = self._users.tasks()
        if tasks:
            self._users.restart_task(self._chance.choice(tasks))

    def change_reservations(self) -> None:
        """More or less room is needed for a new task."""
        service = self._users.some_service()
        if service is not None:
            memory = self._chance.choice((0, 300, 600, 1200)) << 20
            template = service.spec.task_template
            reservations = replace(template.resources.reservations, memory_bytes=memory)
            resources = replace(template.resources, reservations=reservations)
            spec = replace(service.spec, task_template=replace(template, resources=resources))
            self._users.update(service, spec, f"reservations {memory >> 20} MiB")

    def stop_task(self) -> None:
        """`task stop`: its agent ends it, and its restart policy decides about the next."""
        tasks = self._users.tasks()
        if tasks:
            self._users.askers.stop(self._chance.choice(tasks))

    def signal_task(self) -> None:
        """`task signal`, with one that ends it."""
        tasks = self._users.tasks()
        if tasks:
            number = self._chance.choice(SIGNALS)
            self._users.askers.signal(self._chance.choice(tasks), number)
