"""Bugs of volumes that are moved or held, and the rule that each must break."""

from collections.abc import Mapping

from tests.mutants.mutation import Mutation
from tests.sim.rules import Rule

NAMED_VOLUMES: Mapping[str, tuple[Mutation, Rule]] = {
    "a moved volume whose source keeps its copy": (
        Mutation(
            "controller.brain.volumework",
            "finished",
            "copies=(work.to,),",
            "copies=(*volume.copies, work.to),",
        ),
        Rule.DATA_STAYS,
    ),
    "a failed move of a volume deletes the source": (
        Mutation(
            "controller.brain.volumework",
            "failed",
            "leaving = tuple(dict.fromkeys((*leaving, work.to)))",
            "leaving = tuple(dict.fromkeys((*leaving, volume.home)))",
        ),
        Rule.DATA_STAYS,
    ),
}
