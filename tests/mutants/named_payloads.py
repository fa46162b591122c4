"""Bugs of secrets and configs, and the rule that each must break."""

from collections.abc import Mapping

from tests.mutants.mutation import Mutation
from tests.sim.rules import Rule

NAMED_PAYLOADS: Mapping[str, tuple[Mutation, Rule]] = {
    "a version stays on a host that runs no task with it": (
        Mutation(
            "agent.secrets.secrets",
            "Secrets.released",
            "self._keep_used(task_id)",
            "pass",
        ),
        Rule.VERSIONS,
    ),
    "an update removes a version that is in use": (
        Mutation(
            "controller.api.payloads.changes",
            "_beyond",
            "if versions[number] not in used",
            "if True",
        ),
        Rule.VERSIONS,
    ),
    "a version that a task uses is removed by its users": (
        Mutation("controller.api.payloads.changes", "remove_payload", "if users:", "if False:"),
        Rule.VERSIONS,
    ),
    "a swap writes into the file that a container reads": (
        Mutation("agent.secrets.plan", "swap_steps", 'f"{STAGED}/{number}"', "one.place"),
        Rule.SWAPS,
    ),
    "a swap leaves a file as it was": (
        Mutation(
            "agent.secrets.plan",
            "swap_steps",
            "for place, one, _ in staged:",
            "for place, one, _ in staged[1:]:",
        ),
        Rule.SWAPS,
    ),
    "a record has a version that its host never had": (
        Mutation("agent.tasks.reloading", "is_due", "return change.forced or", "return False and"),
        Rule.VERSIONS,
    ),
    "a version that services get changes their labels as well": (
        Mutation(
            "controller.brain.following",
            "with_references",
            "return replace(spec, task_template",
            'return replace(spec, labels={"a": "b"}, task_template',
        ),
        Rule.SPECS,
    ),
    "an update moves services that have pinned a version": (
        Mutation(
            "controller.brain.following",
            "_gets",
            " and not reference.pinned",
            "",
        ),
        Rule.SPECS,
    ),
}
