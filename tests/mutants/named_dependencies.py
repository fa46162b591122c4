"""Bugs of services that depend on others, and the rule that each must break."""

from collections.abc import Mapping

from tests.mutants.mutation import Mutation
from tests.sim.rules import Rule

_CONDITIONS = "controller.brain.dependencies.conditions"
_GATE = "controller.brain.dependencies.gate"

NAMED_DEPENDENCIES: Mapping[str, tuple[Mutation, Rule]] = {
    "tasks placed before their dependencies": (
        Mutation("controller.brain.placing", "Placing.place", "if plan.waits_for:", "if False:"),
        Rule.DEPENDENCIES,
    ),
    "a service released by one of its dependencies": (
        Mutation(
            _GATE,
            "pass_gate",
            "if found := unmet(state, service, judged):",
            "if len(found := unmet(state, service, judged)) == len(service.spec.depends_on):",
        ),
        Rule.DEPENDENCIES,
    ),
    "a dependency judged by its outdated tasks": (
        Mutation(
            _CONDITIONS,
            "_of_tasks",
            "is_old = service.is_updating and tasks.outdated > 0",
            "is_old = False",
        ),
        Rule.DEPENDENCIES,
    ),
    "completed with any exit code": (
        Mutation(
            _CONDITIONS,
            "_has_completed",
            "any(task.state is TaskState.COMPLETE for task in _of_now(service, held))",
            "any(True for task in _of_now(service, held))",
        ),
        Rule.DEPENDENCIES,
    ),
    "a service that waits and is not woken": (
        Mutation(
            "pyswarm_core.indexes.dependents",
            "Dependents.concerned",
            "yield from self.waiting_for(name)",
            "pass",
        ),
        Rule.SETTLED,
    ),
    "a service that does not follow": (
        Mutation(
            "pyswarm_core.indexes.dependents",
            "Dependents.concerned",
            "yield from self._parts[_Part.FOLLOWING].get(name, ())",
            "pass",
        ),
        Rule.SETTLED,
    ),
    "dependencies that end with their dependents": (
        Mutation(
            "controller.brain.dependencies.ending",
            "waits_until",
            "return until if until > now else _EARLIEST",
            "return _EARLIEST",
        ),
        Rule.DEPENDENTS_FIRST,
    ),
}
