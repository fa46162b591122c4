"""What users sent and what they were promised: the measure of what is stored."""

from pyswarm_core.ids import ServiceId, TaskId
from pyswarm_core.specs import ServiceSpec
from tests.sim.audited import Requests
from tests.sim.stack_rules import StackRequests


class Asked:
    """What users sent and what they were promised."""

    def __init__(self) -> None:
        self.specs: dict[str, list[ServiceSpec]] = {}
        """Every spec ever sent, or returned to, by service name."""
        self.promised: dict[ServiceId, int] = {}
        """The version index that was acknowledged."""
        self.removals: dict[ServiceId, None] = {}
        """Services somebody asked to remove."""
        self.promised_removals: dict[ServiceId, None] = {}
        self.requests = Requests()
        self.stacks = StackRequests()
        self.stops: dict[TaskId, None] = {}
        """Tasks that somebody asked their agents to stop or to signal."""
