"""Bugs of stacks, and the rule that each must break."""

from collections.abc import Mapping

from tests.mutants.mutation import Mutation
from tests.sim.rules import Rule

_FINISH = "controller.api.stacking.finish"

NAMED_STACKS: Mapping[str, tuple[Mutation, Rule]] = {
    "services stored before their stack": (
        Mutation(
            "controller.leader.persistence.saving",
            "Encoder.phases",
            "self._puts(unsaved, stacks, stored),\n            self._removing(unsaved),",
            "self._puts(unsaved, others, stored),\n            self._removing(unsaved),",
        ),
        Rule.STACKS,
    ),
    "an interrupted apply counts as complete": (
        Mutation(
            _FINISH,
            "finish_stack",
            "return writes, None\n        return settled",
            "return settled(state, stack.id, stack.version)\n        return settled",
        ),
        Rule.STACKS,
    ),
    "an apply that is not stored counts as complete": (
        Mutation(
            _FINISH,
            "finish_stack",
            "stored not in (None, stack.version)",
            "stored is None",
        ),
        Rule.STACKS,
    ),
    "a removed stack leaves its networks and secrets": (
        Mutation(_FINISH, "_removed", "_remove(work, member, uses)", "pass"),
        Rule.SETTLED,
    ),
    "what is pruned stays if tasks use it": (
        Mutation(
            _FINISH,
            "_left",
            'if waits or not ("@" in member.name or is_named):',
            "if waits:",
        ),
        Rule.SETTLED,
    ),
}
