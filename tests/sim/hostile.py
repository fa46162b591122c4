"""A host whose agent says what it likes: of tasks that are not its own, of states long past, in
texts without end, and with addresses of others.

Whatever it says of others must change nothing; of itself it may lie, within the limits. It does not
deny what its own tasks have, nor say that they have come further: that is the agent's to say.
"""

from collections.abc import Callable, Iterator, Mapping

from agent.tasks.record import Record
from pyswarm_core.api.v1 import dispatcher_pb2
from pyswarm_core.ids import NetworkId, NodeId, TaskId
from pyswarm_core.indexes.columns import pack_statuses
from pyswarm_core.objects import TaskAddress, TaskDetail, TaskStatus
from pyswarm_core.specs import PortConfig, PublishMode
from pyswarm_core.states import TaskState
from tests.sim.rand import Chance
from tests.sim.view import View

LIES = 0.05
"""How often a message is followed by lies."""
TEXT = "\x1b]0;" + "long " * 1_000
FAR = 1 << 40


class Liar:
    """What one host says beside the truth; nothing while `honest` holds."""

    def __init__(
        self,
        chance: Chance,
        view: View,
        own: Callable[[], Mapping[TaskId, Record]],
        node_id: Callable[[], NodeId | None],
    ) -> None:
        self.honest = False
        self._node_id = node_id
        self._chance = chance
        self._view = view
        self._own = own

    def lies(self) -> Iterator[dispatcher_pb2.AgentMessage]:
        """What follows the message that was just sent."""
        if self.honest or not self._chance.hits(LIES):
            return
        statuses = [*self._of_others(), *self._of_its_own()]
        yield dispatcher_pb2.AgentMessage(statuses=pack_statuses(statuses))
        if self._chance.hits(0.2):
            yield dispatcher_pb2.AgentMessage(
                acknowledge=dispatcher_pb2.Acknowledge(revision=FAR, digest=FAR)
            )
        if self._chance.hits(0.2):
            nonsense = pack_statuses(statuses)
            nonsense.states = bytes([200]) * len(statuses)
            yield dispatcher_pb2.AgentMessage(statuses=nonsense)

    def _of_others(self) -> Iterator[TaskStatus]:
        yield TaskStatus(TaskId("0" * 25), TaskState.RUNNING, TaskDetail(message=TEXT))
        own = self._own()
        for task in self._view.tasks.values():
            # Whose task waits may be its own in a moment, before anybody can know.
            others = task.node_id != self._node_id()
            if others and task.id not in own and task.state >= TaskState.ASSIGNED:
                state = self._chance.choice((TaskState.FAILED, TaskState.COMPLETE, task.state))
                yield TaskStatus(task.id, state, TaskDetail(error="a lie", exit_code=1))

    def _of_its_own(self) -> Iterator[TaskStatus]:
        foreign = [
            held
            for task in self._view.tasks.values()
            if task.id not in self._own()
            for held in task.detail.addresses
        ]
        nowhere = TaskAddress(NetworkId("nowhere"), "0.0.0.0")  # an address, not a socket
        ports = (PortConfig(22, published_port=22, publish_mode=PublishMode.HOST),) * 300
        for record in self._own().values():
            detail = TaskDetail(
                message=TEXT,
                error=TEXT,
                exit_code=1,
                addresses=(*record.detail.addresses, *foreign, *[nowhere] * 300),
                serving=record.detail.serving,
                ports=(*record.detail.ports, *ports),
            )
            state = self._chance.choice((record.state, TaskState.ACCEPTED))
            if not record.ended:
                yield TaskStatus(record.task_id, state, detail)
