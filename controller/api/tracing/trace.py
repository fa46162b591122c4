"""Traces a route: requests findings from the agents at its ends, and has hops.py judge them. SHELL.

In three steps, each only if nothing before is broken: the name's addresses; the route there and
back, examined from both ends at once, because each receives the other's echoes; a connection.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

from msgspec.structs import replace

from controller.api.tracing import ends, hops
from controller.api.tracing.ends import End
from controller.api.tracing.hops import Case
from controller.leader.exchanges import TRACE
from controller.leader.leadership import Leader
from pyswarm_core.errors import PyswarmError, Unavailable, invalid
from pyswarm_core.model import Model
from pyswarm_core.traces import Hop, TraceProbe

FACTS_TIMEOUT_S = 15.0
_PORT_MAX = 65535


class TraceRequest(Model, frozen=True):
    """From a task, or a service's first running one, to a task, service, name or address. Port 0 is
    the first of the protocol that the service publishes or the image exposes.
    """

    source: str
    target: str
    port: int = 0
    udp: bool = False


async def trace(leader: Leader, request: TraceRequest) -> tuple[Hop, ...]:
    """The hops up to the first broken one.

    Raises InvalidArgument, NotFound, Conflict, and Unavailable if the first agent cannot be asked.
    """
    if request.port > _PORT_MAX:
        raise invalid("port", request.port, f"expected 1 to {_PORT_MAX}")
    run, state = leader.watches.runner.run, leader.state
    case = Case(
        near=await run(ends.source(state, request.source)),
        target=await run(ends.target(state, request.target)),
        revision=leader.revision, port=request.port, udp=request.udp,
    )  # fmt: skip
    told: list[Hop] = []
    async with aclosing(_hops(leader, case)) as found:
        async for hop in found:
            told.append(hop)
            if not hop.ok:
                break
    return tuple(told)


async def _hops(leader: Leader, case: Case) -> AsyncGenerator[Hop, None]:
    case = await _resolve(leader, case)
    for hop in hops.resolved(case):
        yield hop
    if case.far is not None:
        case = await _carry(leader, case, case.far)
        for hop in hops.carried(case):
            yield hop
    if case.port:
        address = case.far.address if case.far else case.target.address
        to = (address, case.vip.address if case.vip else "")
        probe = TraceProbe(
            task_id=case.near.task_id, connect_to=tuple(filter(None, to)),
            port=case.port, udp=case.udp,
        )  # fmt: skip
        for hop in hops.connected(replace(case, near=await _asked(leader, case.near, probe))):
            yield hop


async def _resolve(leader: Leader, case: Case) -> Case:
    """The name's addresses, as the resolver, the kernel and the state have them."""
    state, reached = leader.state, case.target
    if unjoined := ends.unjoined(state, case.near, reached):
        return replace(case, unjoined=state.networks[unjoined[0]].spec.name)
    probe = TraceProbe(task_id=case.near.task_id, name=reached.name, vip=reached.address)
    near = await _asked(leader, case.near, probe)
    if near.error:
        raise Unavailable(near.error)
    answers = near.facts.name.addresses if near.facts.name else (reached.address,)
    vip = ends.vip_of(state, near, reached, next(iter(answers), ""))
    addresses = near.facts.backends if vip else answers
    far = ends.far_end(state, near, reached, addresses)
    outside = bool(addresses) and not any(ends.network_of(state, one) for one in addresses)
    return replace(case, near=near, vip=vip, far=far, outside=outside)


async def _carry(leader: Leader, case: Case, far: End) -> Case:
    """The route there and back, and the listening sockets."""
    near = ends.on(leader.state, case.near, far.network_id, six=":" in far.address)
    alone = near.task_id == far.task_id
    there = TraceProbe(
        task_id=far.task_id, network_id=far.network_id, address="" if alone else near.address,
        listeners=True, udp=case.udp,
    )  # fmt: skip
    here = TraceProbe(task_id=near.task_id, network_id=far.network_id, address=far.address)
    asked = [_asked(leader, far, there), *(() if alone else (_asked(leader, near, here),))]
    far, *others = await asyncio.gather(*asked)
    port = case.port or ends.first_port(leader.state, far, udp=case.udp)
    port = port or next(iter(far.facts.exposed_ports), 0)
    return replace(case, near=others[0] if others else near, far=far, port=port)


async def _asked(leader: Leader, end: End, probe: TraceProbe) -> End:
    """The end with its agent's findings, or with the reason why it cannot be asked."""
    try:
        async with leader.tunnels.open(end.node_id, TRACE, probe) as tunnel:
            facts = await tunnel.read(FACTS_TIMEOUT_S)
    except PyswarmError as error:
        return replace(end, error=str(error))
    if facts is None:
        return replace(end, error="the agent sent no answer")
    return replace(end, facts=facts)
