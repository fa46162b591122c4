"""Traces a way: asks the agents at both ends, has pure code judge what they found. SHELL.

In three steps, each only if the one before found nothing broken: where the name leads; the way
there and back, asked of both ends at once, because each hears the other's echoes; a connection.
"""

import asyncio

from msgspec.structs import replace

from controller.api.queries.lookup import task_name
from controller.api.tracing.aim import (
    Aim,
    End,
    aim,
    backends,
    end,
    first_port,
    network_of,
    networks_of,
    overlays,
    to,
    virtual_address,
)
from controller.api.tracing.hops import HOPS, Case, Side, judge
from controller.leader.leadership import Leader
from pyswarm_core.api.v1 import dispatcher_pb2
from pyswarm_core.codec import from_proto, to_proto
from pyswarm_core.errors import PyswarmError, Unavailable
from pyswarm_core.ids import NetworkId, NodeId
from pyswarm_core.state import State
from pyswarm_core.states import TaskState
from pyswarm_core.traces import Facts, Hop, Probe

FACTS_TIMEOUT_S = 15.0


async def trace(leader: Leader, source: str, target: str, port: int) -> tuple[Hop, ...]:
    """The hops up to the first broken one.

    Raises InvalidArgument, NotFound, Conflict, and Unavailable if the first agent cannot be asked.
    """
    aimed = await leader.watches.turns.run(aim(leader.state, source, target))
    return await _hops(leader, aimed, port)


async def _hops(leader: Leader, aimed: Aim, port: int) -> tuple[Hop, ...]:
    case, other = await _first(leader, aimed)
    hops = judge(HOPS[0], case)
    if not hops[-1].ok:
        return hops
    if other is not None:
        case = await _second(leader, aimed, other, case, port)
        hops += judge(HOPS[1], case)
        if not hops[-1].ok:
            return hops
    else:
        case = replace(case, port=port)
    return hops + judge(HOPS[2], await _third(leader, aimed, case))


async def _first(leader: Leader, aimed: Aim) -> tuple[Case, End | None]:
    """Where the name leads, by the resolver and the kernel."""
    state = leader.state
    strangers = _strangers(state, aimed)
    by_vip = virtual_address(state, aimed)
    facts = Facts()
    if not strangers:
        vip = by_vip[0] if by_vip else ""
        facts = await _ask_first(leader, aimed, vip)
        answers = facts.name.addresses if facts.name else ()
        if answers and not vip and (by_vip := virtual_address(state, to(aimed, answers[0]))):
            # An alias, or another way to name a service.
            rules = (await _ask_first(leader, to(aimed, answers[0]), by_vip[0])).rules
            facts = replace(facts, rules=rules)
    vip = by_vip[0] if by_vip else ""
    case = Case(
        near=Side(
            task=task_name(state, aimed.source),
            host=aimed.node.description.hostname,
            underlay=aimed.node.status.addr,
            facts=facts,
        ),
        service=_service_name(state, aimed),
        target=aimed.text,
        name=aimed.name,
        strangers=strangers,
        vip=vip,
        backends=tuple(b.address for b in backends(state, by_vip[2], by_vip[1])) if by_vip else (),
        revision=leader.revision,
    )
    if strangers:
        return replace(case, join=_joinable(state, networks_of(state, aimed.service))), None
    answers = facts.name.addresses if facts.name else (aimed.address,)
    led_to = facts.rules.backends if vip and facts.rules else answers
    led_to = tuple(filter(None, led_to))
    other = await leader.watches.turns.run(end(state, aimed, led_to))
    return _with_end(state, aimed, case, led_to, other)


def _with_end(
    state: State, aimed: Aim, case: Case, led_to: tuple[str, ...], other: End | None
) -> tuple[Case, End | None]:
    if other is None:
        outside = bool(led_to) and all(network_of(state, a) is None for a in led_to)
        return replace(case, outside=outside), None
    own = overlays(state, aimed.source)
    node = other.node
    far = Side(
        task=other.name,
        host=node.description.hostname if node else "?",
        underlay=node.status.addr if node else "",
        address=other.address,
    )
    if other.network_id not in own:
        network = state.networks[other.network_id].spec.name
        trouble = f"{other.address} is on network {network}, which {case.near.task} has not joined"
        return replace(case, far=far, trouble=trouble, join=network), other
    trouble = ""
    if other.task.state is not TaskState.RUNNING:
        trouble = f"the task is {other.task.state.word}"
    near = replace(case.near, address=own[other.network_id])
    return replace(case, near=near, far=far, trouble=trouble), other


async def _second(leader: Leader, aimed: Aim, other: End, case: Case, port: int) -> Case:
    """The way there and back, and who listens."""
    near, far = case.near, case.far
    assert far is not None
    alone = other.task.id == aimed.source.id
    there = Probe(
        task_id=other.task.id,
        address="" if alone else near.address,
        network_id=other.network_id,
        listeners=True,
    )
    here = Probe(task_id=aimed.source.id, address=far.address, network_id=other.network_id)
    try:
        async with asyncio.TaskGroup() as group:
            asked_there = group.create_task(_ask_end(leader, other.task.node_id, there))
            asked_here = group.create_task(_ask(leader, aimed.node.id, here)) if not alone else None
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from None
    found = asked_there.result()
    if isinstance(found, str):
        return replace(case, trouble=found)
    port = port or first_port(leader.state.services.get(other.task.service_id))
    port = port or next(iter(found.exposed_ports), 0)
    here_found = asked_here.result() if asked_here else None
    return replace(
        case, port=port, near=replace(near, facts=here_found), far=replace(far, facts=found)
    )


async def _third(leader: Leader, aimed: Aim, case: Case) -> Case:
    """A connection to the backend, and one by the virtual address."""
    if not case.port:
        return replace(case, near=replace(case.near, facts=Facts()))
    address = case.far.address if case.far else aimed.address
    both = tuple(filter(None, (address, case.vip)))
    probe = Probe(task_id=aimed.source.id, connect_to=both, port=case.port)
    return replace(case, near=replace(case.near, facts=await _ask(leader, aimed.node.id, probe)))


async def _ask_first(leader: Leader, aimed: Aim, vip: str) -> Facts:
    probe = Probe(task_id=aimed.source.id, name=aimed.name, vip=vip)
    return await _ask(leader, aimed.node.id, probe)


async def _ask(leader: Leader, node_id: NodeId, probe: Probe) -> Facts:
    request = dispatcher_pb2.OpenTunnel(trace=to_proto(probe, dispatcher_pb2.TraceProbe()))
    async with leader.tunnels.open(node_id, request) as tunnel:
        frame = await tunnel.read(FACTS_TIMEOUT_S)
    if frame is None:
        raise Unavailable("the agent told nothing")
    return from_proto(Facts, frame.trace_facts)


async def _ask_end(leader: Leader, node_id: NodeId, probe: Probe) -> Facts | str:
    """The facts, or why there are none."""
    try:
        return await _ask(leader, node_id, probe)
    except PyswarmError as error:
        return str(error)


def _strangers(state: State, aimed: Aim) -> str:
    """Why source and target share no network; empty if they do."""
    if aimed.service is None:
        return ""
    own = overlays(state, aimed.source)
    theirs = networks_of(state, aimed.service)
    if any(network_id in own for network_id in theirs):
        return ""
    name, other = task_name(state, aimed.source), aimed.text
    if not theirs:
        return f"{other} is on no network of the fleet"
    return (
        f"{name} and {other} share no network:"
        f" {name} is on {_names(state, own)}, {other} on {_names(state, theirs)}"
    )


def _joinable(state: State, networks: tuple[NetworkId, ...]) -> str:
    return state.networks[networks[0]].spec.name if networks else ""


def _names(state: State, networks: "tuple[NetworkId, ...] | dict[NetworkId, str]") -> str:
    return ", ".join(state.networks[network_id].spec.name for network_id in networks)


def _service_name(state: State, aimed: Aim) -> str:
    service = state.services.get(aimed.source.service_id)
    return service.spec.name if service else ""
