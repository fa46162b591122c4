"""Bugs of containers and their writable layers, and the rule that each must break."""

from collections.abc import Mapping

from tests.mutants.mutation import Mutation
from tests.sim.rules import Rule

NAMED_CONTAINERS: Mapping[str, tuple[Mutation, Rule]] = {
    "a container's next task before the last has ended": (
        Mutation(
            "controller.brain.orchestrator.slots",
            "_must_wait",
            "return bool(_unfinished(plan, tasks))",
            "return False",
        ),
        Rule.ONE_CONTAINER,
    ),
    "a container away from its layer": (
        Mutation(
            "controller.brain.scheduler.filters",
            "kept_layer",
            "if not service.pinned_node:",
            "if True:",
        ),
        Rule.ONE_CONTAINER,
    ),
    "two containers with one layer": (
        Mutation(
            "agent.layers",
            "Layers.acquire",
            "while (other := self._occupant(record.claim, record.task_id)) is not None:",
            "while (other := None) is not None:",
        ),
        Rule.LAYER_KEPT,
    ),
    "a layer deleted though it is kept": (
        Mutation("agent.layers", "Layers.assigned", "if layer not in kept", "if True"),
        Rule.LAYER_KEPT,
    ),
    "a removed container's layer left on its node": (
        Mutation(
            "controller.leader.sessions",
            "Sessions._data_gone",
            "for node_id, service_id in layers:",
            "for node_id, service_id in ():",
        ),
        Rule.SETTLED,
    ),
    "a container that removes itself while it runs": (
        Mutation(
            "controller.brain.orchestrator.container_service",
            "_removes_itself",
            "if not tasks or not all(is_terminal(task.state) for task in tasks):",
            "if not tasks:",
        ),
        Rule.AUTO_REMOVED,
    ),
    "a container that does not remove itself": (
        Mutation(
            "controller.brain.orchestrator.container_service",
            "reconcile",
            "if _removes_itself(plan, state, is_lost=is_lost):",
            "if False:",
        ),
        Rule.SETTLED,
    ),
    "a block taken back while its agent may not have left the network": (
        Mutation(
            "pyswarm_core.indexes.joined",
            "networks_left",
            "if known < service.spec_version:",
            "if False:",
        ),
        Rule.BLOCKS_FREE,
    ),
}
