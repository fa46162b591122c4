"""Bugs that somebody thought of, and the rule of the simulator that each must break.

The first nine were once tried by hand and survived, or were killed by accident only.
"""

from collections.abc import Mapping

from tests.mutants.mutation import Mutation
from tests.sim.rules import Rule

NAMED: Mapping[str, tuple[Mutation, Rule]] = {
    "a whole update at once": (
        Mutation(
            "controller.brain.orchestrator.update",
            "advance",
            "room = _room(plan, progress)",
            "room = AFTER_ALL",
        ),
        Rule.PARALLELISM,
    ),
    "one published port given to two services": (
        Mutation(
            "controller.brain.allocator.endpoints",
            "_require_free",
            "_conflicts(state, service_id, port)",
            "()",
        ),
        Rule.PUBLISHED_PORTS,
    ),
    "host-port filter off": (
        Mutation(
            "controller.brain.scheduler.filters",
            "capacity",
            "np.minimum(room, ~ledger.held(port), out=room)",
            "pass",
        ),
        Rule.HOST_PORT_FREE,
    ),
    "maximum per node off": (
        Mutation(
            "controller.brain.scheduler.filters",
            "capacity",
            "if placement.max_replicas > 0:",
            "if False:",
        ),
        Rule.MAX_PER_NODE,
    ),
    "task history never trimmed": (
        Mutation(
            "controller.brain.orchestrator.reaper", "superfluous", "len(ended) - history_kept", "0"
        ),
        Rule.HISTORY,
    ),
    "down verdict twenty times slower": (
        Mutation(
            "controller.brain.liveness.silence",
            "Liveness._missed",
            "self.period + max(self.period // _SHARE, PROBE_WINDOW_MIN)",
            "20 * (self.period + max(self.period // _SHARE, PROBE_WINDOW_MIN))",
        ),
        Rule.VERDICT,
    ),
    "leader's lease thirty times longer": (
        Mutation("pyswarm_core.limits", "", "LEADER_TTL = 2 * SECOND", "LEADER_TTL = 60 * SECOND"),
        Rule.TAKEOVER,
    ),
    "fence on a key that nobody writes": (
        Mutation(
            "controller.leader.persistence.saving",
            "Saver._commit_whole",
            "Compare(self._keys.leader, fence)",
            'Compare(self._keys.leader + b"-", 0)',
        ),
        Rule.FENCE,
    ),
    "constraints ignored": (
        Mutation(
            "controller.brain.scheduler.filters",
            "capacity",
            "ledger.satisfying(placement.constraints)",
            "ledger.satisfying(())",
        ),
        Rule.CONSTRAINTS,
    ),
    "one virtual address given to two services": (
        Mutation(
            "controller.brain.allocator.endpoints", "_virtual_ip", "if number not in used:", "if 1:"
        ),
        Rule.VIRTUAL_IPS,
    ),
    "orphans ten times later": (
        Mutation(
            "pyswarm_core.limits", "", "ORPHAN_AFTER = 24 * HOUR", "ORPHAN_AFTER = 240 * HOUR"
        ),
        Rule.ORPHANS,
    ),
    "keys ten times older": (
        Mutation(
            "pyswarm_core.limits",
            "",
            "ENCRYPTION_KEY_PERIOD = 12 * HOUR",
            "ENCRYPTION_KEY_PERIOD = 120 * HOUR",
        ),
        Rule.KEYS,
    ),
}
