"""Why a task or service is as it is: a chain of causes, and what would change it. PURE.

Asks the same filters and the same restart policy that decide; nothing is remembered for it.
"""

from controller.orchestrator.enforce import misfit
from controller.orchestrator.quarantine import Quarantine
from controller.orchestrator.restart import ended_by_itself, refusal, starts_at
from controller.placing import current_demand
from controller.scheduler.explain import Exclusion, exclusions
from controller.scheduler.ledger import Ledger
from controller.scheduler.remedy import remedies
from pyswarm_core.clock import SECOND, Instant
from pyswarm_core.errors import NotFound, told
from pyswarm_core.ids import ServiceId, TaskId
from pyswarm_core.objects import Service, Task
from pyswarm_core.state import State, is_wanted, waits_for_node
from pyswarm_core.states import TaskState, is_terminal

_TASKS_TOLD = 3
"""Tasks of a service that are told of one by one, worst first."""


def why(state: State, ref: str, now: Instant, quarantine: Quarantine | None = None) -> list[str]:
    """Causes, one line each, outermost first. `ref` is the id of a task or the id or name of a
    service. Raises NotFound.
    """
    task = state.tasks.get(TaskId(ref))
    service_id = ServiceId(ref) if ref in state.services else state.service_of_name.get(ref)
    if task is not None:
        service_id = task.service_id
    if service_id is None:
        raise NotFound(f"no task and no service is called {ref!r}")
    held = quarantine.reasons(service_id) if quarantine else []
    try:
        if task is not None:
            return [*_why_task(state, task, now), *held]
        return [*held, *_why_service(state, state.services[service_id], now)]
    except Exception as error:
        if not held:
            raise
        return [*held, f"its causes cannot be worked out: {told(error)}"]


def _why_service(state: State, service: Service, now: Instant) -> list[str]:
    tasks = state.tasks_of_service(service.id)
    name = service.spec.name
    if service.removing:
        left = sum(len(held) for held in tasks.slots.values())
        return [f"service {name} is being removed; {left} of its tasks have not ended yet"]
    replicated = service.spec.mode.replicated
    wanted = f"{replicated.replicas} wanted" if replicated else "one on every eligible node"
    lines = [f"service {name} has {tasks.running} running tasks, {wanted}"]
    newest = [held[-1] for _, held in sorted(tasks.slots.items())]
    outdated = sum(
        is_wanted(task) and task.spec_version < service.template_version for task in newest
    )
    if outdated:
        lines.append(
            f"an update is under way: {outdated} of {len(newest)} tasks are to be replaced"
        )
        lines += _why_update_waits(service, newest)
    troubled = [task for task in newest if task.state is not TaskState.RUNNING]
    seen: dict[str, None] = {}
    for task in troubled:
        told = _why_task(state, task, now)
        # Replicas that wait for the same reason are told once.
        if told[1:] and told[1] not in seen and len(seen) < _TASKS_TOLD:
            seen[told[1]] = None
            lines += told
    if len(troubled) > len(seen) > 0:
        lines.append(f"{len(troubled)} tasks of {name} do not run in all")
    return lines


def _why_update_waits(service: Service, newest: list[Task]) -> list[str]:
    """The tasks of the new template that do not run yet: before they do, no other is replaced."""
    current = service.template_version
    waiting = [
        f"{service.spec.name}.{task.slot} ({task.state.word})"
        for task in newest
        if is_wanted(task) and task.spec_version >= current and task.state is not TaskState.RUNNING
    ]
    if not waiting:
        return []
    more = f" and {len(waiting) - _TASKS_TOLD} more" if len(waiting) > _TASKS_TOLD else ""
    return [f"the update goes on when {', '.join(waiting[:_TASKS_TOLD])}{more} runs"]


def _why_task(state: State, task: Task, now: Instant) -> list[str]:
    service = state.services.get(task.service_id)
    if service is None:
        return [f"task {task.id} belongs to a service that no longer exists"]
    name = f"{service.spec.name}.{task.slot}"
    head = f"task {name} is {task.state.word}, desired {task.desired_state.word}"
    if waits_for_node(task):
        return [head, *_why_waiting(state, service, task, now)]
    if is_terminal(task.state):
        return [head, *_why_ended(state, service, task, now)]
    return [head, *_why_on_node(state, service, task, now)]


def _why_waiting(state: State, service: Service, task: Task, now: Instant) -> list[str]:
    demand = current_demand(state, service, now)
    ledger = Ledger(state.node_table)
    total = len(state.node_table.rows)
    if not total:
        return ["no node has joined", "join one: pyswarm swarm join"]
    found = exclusions(ledger, demand)
    if task.node_id:
        row = state.node_table.rows.get(task.node_id, -1)
        found = [one for one in found if row >= 0 and one.rows[row]]
    if not task.node_id and sum(int(one.rows.sum()) for one in found) < total:
        return ["a node that can take it was found; it is assigned with the next decision"]
    lines = [_told(one, total) for one in found]
    return [*lines, *(f"remedy: {text}" for text in remedies(ledger, demand, service.spec.name))]


def _told(one: Exclusion, total: int) -> str:
    return f"{int(one.rows.sum())} of {total} nodes {one.text}"


def _why_ended(state: State, service: Service, task: Task, now: Instant) -> list[str]:
    lines = [_end(state, task)]
    held = state.tasks_of_service(service.id).slots.get(task.slot, ())
    after = next((other for other in held if _follows(held, task, other)), None)
    policy = service.spec.task_template.restart_policy
    if not ended_by_itself(task):
        if task.detail.message:
            lines.append(task.detail.message)
    else:
        era = [other for other in held if other.spec_version >= service.template_version]
        refused = "" if after else refusal(policy, task, era)
        if refused:
            return [*lines, f"it is not replaced: {refused}"]
        limit = f" of at most {policy.max_attempts}" if policy.max_attempts else ""
        lines.append(
            f"restart policy: condition {policy.condition}, delay {_seconds(policy.delay)};"
            f" {task.restarts} restarts of this slot before it{limit}"
        )
    if after is not None:
        lines.append(_replacement(service, after, now))
    return lines


def _follows(held: tuple[Task, ...], task: Task, other: Task) -> bool:
    ids = [one.id for one in held]
    return ids.index(other.id) == ids.index(task.id) + 1


def _end(state: State, task: Task) -> str:
    detail = task.detail
    where = f" on {_host(state, task)}" if task.node_id else ""
    if detail.oom:
        return f"it ran out of memory{where} and was killed: raise --limit-memory, or use less"
    if task.state is TaskState.FAILED:
        return (
            f"it failed{where}: {detail.error or detail.message or f'exit code {detail.exit_code}'}"
        )
    if task.state is TaskState.REJECTED:
        return f"it could not be made{where}: {detail.error or detail.message}"
    if task.state is TaskState.ORPHANED:
        return f"its node {_host(state, task)} was lost, nobody knows what became of it"
    if task.state is TaskState.COMPLETE:
        return f"it ended by itself{where} with exit code 0"
    return f"it was shut down{where}"


def _replacement(service: Service, task: Task, now: Instant) -> str:
    if task.desired_state is TaskState.READY:
        at = starts_at(service.spec.task_template.restart_policy, task)
        return f"task {task.id[:12]} replaces it and starts in {_seconds(max(0, at - now))}"
    return f"task {task.id[:12]} replaced it and is {task.state.word}"


def _why_on_node(state: State, service: Service, task: Task, now: Instant) -> list[str]:
    age = _seconds(max(0, now - task.status_at))
    lines = [f"it is on {_host(state, task)}, {task.state.word} for {age}"]
    if task.detail.message or task.detail.error:
        lines.append(task.detail.error or task.detail.message)
    if not is_wanted(task):
        lines.append(_why_unwanted(state, service, task))
    elif task.desired_state is TaskState.READY:
        at = starts_at(service.spec.task_template.restart_policy, task)
        lines.append(f"it waits for the restart delay: starts in {_seconds(max(0, at - now))}")
    elif task.spec_version < service.template_version:
        lines.append("it is outdated and will be replaced when its turn comes")
    return lines


def _why_unwanted(state: State, service: Service, task: Task) -> str:
    reason = misfit(state, service, task)
    if reason:
        return f"it has to leave: {reason}"
    if task.desired_state is TaskState.REMOVE:
        return "it has to go: its service has more replicas than wanted, or is being removed"
    if task.spec_version < service.template_version:
        return "it has to stop: its service was updated, a task of the new template follows"
    return "it was asked to stop; another task has its slot"


def _host(state: State, task: Task) -> str:
    node = state.nodes.get(task.node_id)
    return node.description.hostname if node else "a node that was removed"


def _seconds(duration: int) -> str:
    return f"{duration / SECOND:.1f} s"
