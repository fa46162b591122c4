"""More named bugs: in updates, restarts and checks."""

from collections.abc import Mapping

from tests.mutants.mutation import Mutation
from tests.sim.rules import Rule

NAMED_UPDATES: Mapping[str, tuple[Mutation, Rule]] = {
    "failures before a resume count": (
        Mutation(
            "pyswarm_core.indexes.rollout",
            "is_failure",
            "task.created_at < status.started_at",
            "False",
        ),
        Rule.FAILURES,
    ),
    "a paused update replaces tasks that end": (
        Mutation(
            "controller.brain.orchestrator.plan",
            "Plan.version_after",
            "if self.is_paused and ",
            "if False and ",
        ),
        Rule.PAUSED,
    ),
    "an update returns to one that was not completed": (
        Mutation(
            "controller.brain.revisions",
            "base_version",
            "status.from_version if status is not None and unfinished",
            "status.from_version if False",
        ),
        Rule.BASE,
    ),
    "an update returns to the version before the last that was completed": (
        Mutation(
            "controller.brain.revisions",
            "base_version",
            "return known or service.spec_version",
            "return known or max(service.spec_version - 1, 1)",
        ),
        Rule.BASE,
    ),
    "a rollback forgets how many replicas were set": (
        Mutation(
            "controller.brain.revisions",
            "failed_update_target",
            "mode = after.mode if after.mode != before.mode else mode",
            "pass",
        ),
        Rule.RECORDED,
    ),
    "one restart more within the window": (
        Mutation(
            "controller.brain.orchestrator.restart",
            "refusal",
            "if used < policy.max_attempts:",
            "if used <= policy.max_attempts:",
        ),
        Rule.RESTART_ATTEMPTS,
    ),
    "one failed check is enough": (
        Mutation("agent.health.verdict", "judged", "if streak >= config.retries:", "if True:"),
        Rule.STOPPED_FOR,
    ),
    "an unhealthy task is stopped at once": (
        Mutation("pyswarm_core.limits", "", "DRAIN_MAX = 2 * SECOND", "DRAIN_MAX = 1"),
        Rule.DRAINED,
    ),
}
