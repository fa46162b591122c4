"""Why a task that has a node, or has ended, is in its state: what was decided, what its agent
reported, and the cheapest change that would help. PURE.
"""

import re
from collections.abc import Iterator, Sequence

from controller.api.queries.authors import unavailable_by
from controller.api.queries.why_volumes import of_lost_node
from controller.api.queries.wording import host_of, span, start_of
from controller.brain.orchestrator.enforce import misfit
from controller.brain.orchestrator.restart import (
    consecutive_after,
    delay_before,
    is_restart,
    refusal,
    replaced_at,
    restarts_remembered,
    starts_at,
)
from pyswarm_core.clock import Instant
from pyswarm_core.docker.units import format_duration, human_size, parse_duration
from pyswarm_core.errors import InvalidArgument
from pyswarm_core.indexes.in_place import awaits_in_place, refuses_limits, refuses_networks
from pyswarm_core.indexes.rollout import is_outdated, serves
from pyswarm_core.indexes.tasks import is_desired
from pyswarm_core.limits import CRASH_LOOP_RESTARTS
from pyswarm_core.objects import Node, Service, Task
from pyswarm_core.specs import Protocol, RestartPolicy
from pyswarm_core.state import State
from pyswarm_core.states import Availability, NodeState, TaskState, ends_by_itself

_UNHEALTHY = "unhealthy: "
_NOT_READY = "not ready: "
"""How agents begin the texts about a task's checks."""
_STARTED = "started"
"""What agents report of a task that starts without a problem."""
_NO_IMAGE = "no such image"
_NO_PROGRAM = re.compile(r'\bexec: "')
_EXCEEDED = re.compile(rf"{_UNHEALTHY}exceeded timeout \(([0-9a-zµ.]+)\)")
"""In the errors that agents report."""
_NOT_FOUND = 127
"""The exit code of a shell whose command does not exist."""


def decided(service: Service, task: Task, now: Instant) -> str:
    """When and from what it was created."""
    made = f"it was created {span(now - task.created_at)} ago from version {task.spec_version}"
    if is_outdated(service, task):
        made += f" (the service is at version {service.spec_version})"
    if task.restarts:
        made += f", as restart {task.restarts} of its slot"
    return made


def why_on_node(state: State, service: Service, task: Task, now: Instant) -> list[str]:
    """The causes of a task that has not ended."""
    detail = task.detail
    lines = [
        decided(service, task, now),
        f"it is on {host_of(state, task)}, {task.state.word} for {span(now - task.status_at)}",
    ]
    node = state.nodes.get(task.node_id)
    lines += _why_lost(state, service, task, node, now) if node else []
    report = detail.error or detail.message
    if report and not (report == _STARTED and serves(task)):
        lines.append(report)
    lines += _why_no_connections(service, task)
    lines += _why_unlike_its_spec(service, task)
    if task.desired_state is TaskState.FROZEN:
        lines.append("it is frozen: it receives no connections until its version is used again")
    elif not is_desired(task):
        lines.append(_why_undesired(state, service, task))
        lines += unavailable_by([node] if node else [], now)
    elif task.desired_state is TaskState.READY:
        at = starts_at(service.spec.task_template.restart_policy, task)
        lines.append(f"it waits for the restart delay: starts in {span(at - now)}")
    elif refuses_limits(service, task):
        lines.append(f"it waits to be replaced: {detail.in_place_error}")
    elif is_outdated(service, task):
        lines.append("it is outdated and waits to be replaced")
        paused = node is not None and node.spec.availability is Availability.PAUSE
        if paused and service.spec.mode.per_node:
            host = host_of(state, task)
            lines.append(f"its node is paused: an update of a global service leaves it on {host}")
            lines.append(f"remedy: pyswarm node update --availability active {host}")
    return [*lines, *_why_restarted(state, service, task, now)]


def _why_lost(state: State, service: Service, task: Task, node: Node, now: Instant) -> list[str]:
    """Of a node that is not ready, and what keeps the task there."""
    if node.status.state is NodeState.READY:
        return []
    stays = node.status.state is NodeState.DOWN and is_desired(task)
    return [silent(node, now), *(of_lost_node(state, service, task, node) if stays else ())]


def _why_restarted(state: State, service: Service, task: Task, now: Instant) -> list[str]:
    """Why the task before it ended by itself; nothing once it serves."""
    if not task.restarts or serves(task):
        return []
    held = state.tasks_of_service(service.id).slots.get(task.slot, ())
    before = [
        one for one in held if one.restarts == task.restarts - 1 and ends_by_itself(one.state)
    ]
    if not before:
        return []
    lines = [f"the task before it: {end(state, service, before[-1], now)}"]
    if task.consecutive_restarts >= CRASH_LOOP_RESTARTS:
        lines.append(_crash_loop(service, task, task.consecutive_restarts))
    return [*lines, *(f"remedy: {one}" for one in remedies(service, before[-1]))]


def _crash_loop(service: Service, task: Task, failures: int) -> str:
    return f"{service.name_of(task)} is in a crash loop: {failures} failures in a row"


def silent(node: Node, now: Instant) -> str:
    """What is known of a node that is not ready."""
    status = node.status
    text = f"{node.description.hostname} has been {status.state} for {span(now - status.since)}"
    return f"{text}: {status.message}" if status.message else text


def _why_no_connections(service: Service, task: Task) -> list[str]:
    """Of a task that should serve and does not."""
    detail = task.detail
    if task.state is TaskState.STARTING and detail.health:
        return [
            "it counts as running, and receives connections, once its health check succeeds",
            f"last results: pyswarm task inspect {task.id[:12]}",
        ]
    if task.state is not TaskState.RUNNING or detail.serving or not is_desired(task):
        return []
    if detail.message.startswith(_NOT_READY):
        return [
            "it receives no connections until its readiness check succeeds, and is not replaced",
            f"last results: pyswarm task inspect {task.id[:12]}",
        ]
    ports = service.spec.endpoint_spec.ports
    tcp = sorted({port.target_port for port in ports if port.protocol is Protocol.TCP})
    if not tcp:
        return []
    shown = ", ".join(map(str, tcp))
    return [f"it receives no connections until it listens on TCP port {shown} on all addresses"]


def _why_unlike_its_spec(service: Service, task: Task) -> list[str]:
    """That its container does not have, yet, what changes while it runs."""
    if awaits_in_place(service, task) and is_desired(task):
        what = "limits and networks" if service.spec.mode.is_container else "limits"
        if any(one.made_with for one in service.spec.task_template.container_spec.references):
            what = "limits, secrets and configs"
        return [f"its agent is changing its {what} to those of version {service.in_place_version}"]
    if refuses_networks(service, task):
        return [
            f"it could not join its networks and has those before: {task.detail.in_place_error}"
        ]
    return []


def _why_undesired(state: State, service: Service, task: Task) -> str:
    reason = misfit(state, service, task)
    if reason:
        return f"it is moved off its node: {reason}"
    if task.desired_state is TaskState.REMOVE:
        return "it is being removed: its service was scaled down or removed"
    if refuses_limits(service, task):
        return f"it is being replaced: {task.detail.in_place_error}"
    if is_outdated(service, task):
        return "it is being replaced: its service was updated"
    if service.spec.stopped:
        return "it is being shut down: its service is stopped"
    return "it is being shut down: another task has its slot"


def why_ended(state: State, service: Service, task: Task, now: Instant) -> list[str]:
    """The causes of a task that has ended, and what follows from its end."""
    lines = [decided(service, task, now), end(state, service, task, now)]
    held = state.tasks_of_service(service.id).slots.get(task.slot, ())
    after = _follower(held, task)
    if not ends_by_itself(task.state):
        if task.detail.message:
            lines.append(task.detail.message)
    else:
        lines += [f"remedy: {one}" for one in remedies(service, task)]
        era = [one for one in held if is_outdated(service, one) is is_outdated(service, task)]
        if is_restart(service, task):
            lines += _restarts(service, task, era, has_follower=after is not None, now=now)
    if after is not None:
        lines.append(_replacement(service, after, now))
    return lines


def _follower(held: Sequence[Task], task: Task) -> Task | None:
    """The task after it in its slot."""
    ids = [one.id for one in held]
    place = ids.index(task.id) + 1 if task.id in ids else len(ids)
    return held[place] if place < len(held) else None


def end(state: State, service: Service, task: Task, now: Instant) -> str:
    """How it ended, as its agent reported."""
    detail = task.detail
    where = f" on {host_of(state, task)}" if task.node_id else ""
    when = f"{where} {span(now - task.status_at)} ago"
    if detail.ran:
        when += f", after it ran for {span(detail.ran)}"
    if detail.oom:
        limit = _memory_limit(service, task)
        of = f": its limit was {human_size(limit)}" if limit else ": its host had none left"
        return f"it ran out of memory{when}, and was killed{of}"
    if task.state is TaskState.FAILED:
        reason = detail.error or detail.message or f"exit code {detail.exit_code}"
        return f"it failed{when}: {reason}"
    if task.state is TaskState.REJECTED:
        return f"it could not be created{when}: {detail.error or detail.message}"
    if task.state is TaskState.ORPHANED:
        return f"its node {host_of(state, task)} was lost, and its state there is unknown"
    if task.state is TaskState.COMPLETE:
        return f"it ended by itself{when}, with exit code 0"
    return f"it was shut down{when}"


def _memory_limit(service: Service, task: Task) -> int:
    """The memory limit that it had, in bytes; 0: none, or unknown."""
    version = max(
        task.spec_version, 0 if task.detail.in_place_error else task.detail.in_place_version
    )
    spec = service.made_from(version)
    if service.is_current(task.spec_version) and version < service.in_place_version:
        spec = next((one.spec for one in service.previous_specs if one.version <= version), None)
    return spec.task_template.resources.limits.memory_bytes if spec else 0


def remedies(service: Service, task: Task) -> list[str]:
    """Changes that would help a task that ended by itself, the cheapest first."""
    detail, found = task.detail, list[str]()
    if _is_updated(service) and task.spec_version >= service.template_version:
        found.append(f"return to the spec of before: pyswarm service rollback {service.spec.name}")
    if detail.oom:
        found += _against_oom(service, task)
    elif detail.error.startswith(_UNHEALTHY):
        found += _against_failed_checks(service, task)
    elif _NO_IMAGE in detail.error:
        found.append(f"use an image that exists: {_change(service, '--image IMAGE')}")
    elif _NO_PROGRAM.search(detail.error):
        found.append(_another_program(service))
    elif task.state is TaskState.FAILED and detail.exit_code:
        found.append(_see_output(service, task))
        if detail.exit_code == _NOT_FOUND:
            found.append(_another_program(service))
    return found


def _is_updated(service: Service) -> bool:
    """Whether an update goes on, or is paused, that can be rolled back."""
    status = service.update_status
    if status is None or not status.from_version:
        return False
    return status.state.is_unfinished and not status.state.is_rollback


def _against_oom(service: Service, task: Task) -> Iterator[str]:
    now, had = (
        service.spec.task_template.resources.limits.memory_bytes,
        _memory_limit(service, task),
    )
    if had and now and now <= had:
        change = _change(service, f"--limit-memory {human_size(2 * now)}")
        yield f"raise its limit: {change}"
    elif not had:
        change = _change(service, "--reserve-memory SIZE")
        yield f"place it where memory is free: {change}"


def _against_failed_checks(service: Service, task: Task) -> Iterator[str]:
    check = service.spec.task_template.container_spec.healthcheck
    timeout = _exceeded(task.detail.error)
    if timeout and check.timeout <= timeout:
        change = _change(service, f"--health-timeout {format_duration(2 * timeout)}")
        yield f"give the check more time: {change}"
    if task.detail.ran == 0 and check.start_period == 0:
        # How long is not said: the image may have a start period.
        change = _change(service, "--health-start-period DURATION")
        yield f"if it needs longer to start: {change}"
    yield _see_output(service, task)


def _exceeded(error: str) -> int:
    """The timeout that a check exceeded, in an agent's text; 0: none."""
    found = _EXCEEDED.match(error)
    try:
        return parse_duration(found[1]) if found else 0
    except InvalidArgument:
        return 0


def _another_program(service: Service) -> str:
    change = _change(service, "--entrypoint COMMAND --args ARGUMENTS")
    return f"run a program that the image has: {change}"


def _see_output(service: Service, task: Task) -> str:
    is_container = service.spec.mode.is_container
    read = f"logs {service.spec.name}" if is_container else f"service logs {task.id[:12]}"
    return f"see what it wrote: pyswarm {read}"


def _again(service: Service) -> str:
    """The command that replaces a task that ended."""
    if service.spec.mode.is_container:
        return start_of(service)
    return f"pyswarm service update --force {service.spec.name}"


def _change(service: Service, flags: str) -> str:
    return f"pyswarm service update {flags} {service.spec.name}"


def _restarts(
    service: Service, task: Task, era: Sequence[Task], *, has_follower: bool, now: Instant
) -> list[str]:
    policy = service.spec.task_template.restart_policy
    refused = "" if has_follower else refusal(policy, task, era)
    if refused:
        again = _again(service)
        return [f"it is not replaced: {refused}", f"remedy: start it again: {again}"]
    consecutive = consecutive_after(task)
    lines = [f"restart policy: {_policy(policy, consecutive)}{_used(policy, task, era)}"]
    if task.state is not TaskState.COMPLETE and consecutive >= CRASH_LOOP_RESTARTS:
        lines.append(_crash_loop(service, task, consecutive))
    at = replaced_at(policy, task)
    if not has_follower and at > now:
        lines.append(f"it is replaced in {span(at - now)}")
    return lines


def _policy(policy: RestartPolicy, consecutive: int) -> str:
    text = f"condition {policy.condition}, delay {span(delay_before(policy, consecutive))}"
    return f"{text} (at most {span(policy.max_delay)})" if policy.max_delay else text


def _used(policy: RestartPolicy, task: Task, era: Sequence[Task]) -> str:
    if not policy.max_attempts:
        return ""
    used, within = task.restarts, ""
    if policy.window:
        used = max(0, len(restarts_remembered(policy, task, era, task.status_at)) - 1)
        within = f" within {span(policy.window)}"
    return f"; {used} of {policy.max_attempts} attempts{within} were used before it"


def _replacement(service: Service, task: Task, now: Instant) -> str:
    if task.desired_state is TaskState.READY:
        at = starts_at(service.spec.task_template.restart_policy, task)
        return f"task {task.id[:12]} replaces it and starts in {span(at - now)}"
    return f"task {task.id[:12]} replaced it and is {task.state.word}"
