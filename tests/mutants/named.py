"""Bugs that somebody thought of, and the rule of the simulator that each must break.

The first nine were once tried by hand and survived, or were killed by accident only.
"""

from collections.abc import Mapping

from tests.mutants.mutation import Mutation
from tests.mutants.named_containers import NAMED_CONTAINERS
from tests.mutants.named_dependencies import NAMED_DEPENDENCIES
from tests.mutants.named_payloads import NAMED_PAYLOADS
from tests.mutants.named_stacks import NAMED_STACKS
from tests.mutants.named_updates import NAMED_UPDATES
from tests.mutants.named_volumes import NAMED_VOLUMES
from tests.sim.rules import Rule

NAMED: Mapping[str, tuple[Mutation, Rule]] = {
    **NAMED_UPDATES,
    **NAMED_CONTAINERS,
    **NAMED_VOLUMES,
    **NAMED_PAYLOADS,
    **NAMED_DEPENDENCIES,
    **NAMED_STACKS,
    "a change without an audit record": (
        Mutation(
            "controller.leader.loop",
            "Loop._serve_requests",
            "self.audit.append(draft, turn.unsaved.add_records)",
            "pass",
        ),
        Rule.AUDITED,
    ),
    "an audit record apart from its change": (
        Mutation(
            "controller.leader.persistence.unsaved",
            "Unsaved.add_records",
            'key = "" if entry.value is None else name',
            'key = ""',
        ),
        Rule.AUDITED,
    ),
    "a network stored without the record of its service": (
        Mutation(
            "controller.leader.persistence.unsaved",
            "Unsaved.add_records",
            "self.beside.update(names)",
            "pass",
        ),
        Rule.AUDITED,
    ),
    "an audit record of another version": (
        Mutation(
            "controller.identity.audit",
            "bare_record_of",
            "version=after.version.index if",
            "version=1 if",
        ),
        Rule.AUDITED,
    ),
    "audit records never deleted": (
        Mutation(
            "controller.leader.audit.log",
            "AuditLog._trimmed",
            "range(AUDIT_DELETED)",
            "range(0)",
        ),
        Rule.AUDITED,
    ),
    "sequences that begin anew with each term": (
        Mutation(
            "controller.leader.audit.log",
            "AuditLog.__init__",
            "next(reversed(self._values), 0)",
            "0",
        ),
        Rule.AUDITED,
    ),
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
            "_limit",
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
    "one slot more at once": (
        Mutation(
            "controller.brain.orchestrator.update",
            "_room",
            "max(0, parallelism - progress.in_flight)",
            "max(0, parallelism + 1 - progress.in_flight)",
        ),
        Rule.PARALLELISM,
    ),
    "an update's delay ignored": (
        Mutation("controller.brain.orchestrator.update", "_of_first", "if at > now:", "if False:"),
        Rule.PARALLELISM,
    ),
    "an update's monitor ignored": (
        Mutation("controller.brain.orchestrator.update", "advance", "if at > now:", "if False:"),
        Rule.COMPLETED,
    ),
    "a slot's failure forgotten when it is restarted": (
        Mutation(
            "controller.brain.orchestrator.slots",
            "_after_its_own_end",
            "failed_update=is_failure(plan.service, last),",
            "failed_update=False,",
        ),
        Rule.FAILURES,
    ),
    "as many failures as tolerated are too many": (
        Mutation(
            "controller.brain.orchestrator.update",
            "_exceeds",
            "progress.failures > tolerated",
            "progress.failures >= tolerated",
        ),
        Rule.FAILURES,
    ),
    "twice as many failures tolerated": (
        Mutation(
            "controller.brain.orchestrator.update",
            "_exceeds",
            "max(1, status.slots)",
            "2 * max(1, status.slots)",
        ),
        Rule.ROLLED_OUT,
    ),
    "a rollback by the settings of updates": (
        Mutation(
            "pyswarm_core.objects",
            "Service.update_settings",
            "self.spec.rollback_config if rolls_back else",
            "self.spec.update_config if rolls_back else",
        ),
        Rule.FAILURES,
    ),
    "a paused update goes on": (
        Mutation(
            "controller.brain.orchestrator.update",
            "advance",
            "    if plan.is_paused or plan.waits_for:\n",
            "    if plan.is_paused or plan.waits_for:\n        _take(plan, tasks, seen, 1, held)\n",
        ),
        Rule.PAUSED,
    ),
    "a slot is done when its task runs": (
        Mutation(
            "pyswarm_core.indexes.rollout",
            "serves",
            "task.state is _RUNNING and task.detail.serving",
            "task.state is _RUNNING",
        ),
        Rule.PARALLELISM,
    ),
    "start-first ends the old task when the new one runs": (
        Mutation(
            "controller.brain.orchestrator.slots", "_fill", "done = slot.serves", "done = slot.runs"
        ),
        Rule.START_FIRST,
    ),
    "an update goes on although its new tasks find no node": (
        Mutation(
            "controller.brain.orchestrator.room",
            "go_on",
            "is_desired(known) and makes_room(task)",
            "is_desired(known)",
        ),
        Rule.PARALLELISM,
    ),
    "the restart delay does not double": (
        Mutation(
            "controller.brain.orchestrator.restart",
            "delay_before",
            "policy.delay << doublings",
            "policy.delay",
        ),
        Rule.RESTART_DELAY,
    ),
    "a slot spins": (
        Mutation(
            "pyswarm_core.limits", "", "RESTART_PERIOD_MIN = 1 * SECOND", "RESTART_PERIOD_MIN = 1"
        ),
        Rule.SPINNING,
    ),
    "a task runs before it is healthy": (
        Mutation(
            "agent.tasks.machine", "_process_started", "if record.health is None:", "if True:"
        ),
        Rule.CHECKED,
    ),
    "readiness restarts": (
        Mutation(
            "agent.tasks.serving",
            "_readiness_judged",
            "    served = record.detail.serving\n",
            '    return leave_backends(record, now, "")\n    served = record.detail.serving\n',
        ),
        Rule.STOPPED_FOR,
    ),
}
