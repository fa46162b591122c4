"""Hops of a trace from the agents' findings, with the remedy of a broken one. PURE.

The hops are in the order of a packet. One with a remedy is broken; its consequences hide the state
of those behind it, so these are not examined (trace.py). Rules come before the tunnel: a packet
that a host drops by a rule would look like a lost one.
"""

from collections.abc import Iterator

import msgspec

from controller.api.tracing.ends import End, Target, Vip
from pyswarm_core.states import TaskState
from pyswarm_core.traces import CLOSED, Attempt, Difference, Hop, listed

_REPAIR = (
    "the agent repairs this within 15 s; if it comes back, look who changes it"
    " (the agent's log names it as network.drift)"
)
_REPLACE = (
    "only root on the host, or a process of the task that may administer its network, can have done"
    " this: end the task, its successor gets everything anew"
)
_FOREIGN = "another route or routing rule of the host wins: remove it, or use another --subnet"
_CLOSED = (
    "`service update --allow-fleet-api` opens the controllers' API to a service; no other port of"
    " the control plane can be opened"
)
_SAFE_MTU = 1280
"""A size that nearly any underlay carries with VXLAN around it."""


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """Everything known about a route so far."""

    near: End
    target: Target
    unjoined: str = ""
    """The network of the target, if the source has joined none of its networks."""
    vip: Vip | None = None
    far: End | None = None
    outside: bool = False
    """The address belongs to no overlay network."""
    revision: int = 0
    """The controller's newest revision."""
    port: int = 0
    udp: bool = False


def resolved(case: Case) -> Iterator[Hop]:
    """Does the name resolve, do the virtual address's rules forward to the service's backends, and
    is there a task at the other end?
    """
    near, text = case.near, case.target.text
    if case.unjoined:
        found = f"{near.name} and {text} share no network: {text} is on {case.unjoined}"
        yield _hop("name", near.name, found, _join(case, case.unjoined))
    if near.facts.name:
        yield _name(case, near.facts.name)
    if case.vip:
        yield _forwarded(case, case.vip)
    yield _backend(case)


def carried(case: Case) -> Iterator[Hop]:
    """Do packets pass between the two tasks, both ways, and does a process listen?"""
    near, far = case.near, case.far
    if far is None:
        return
    yield from (_silent(end) for end in (near, far) if end.error)
    if far.task_id != near.task_id:
        hosts = ((near, far), (far, near)) if near.host != far.host else ((near, far),)
        yield _task(near, far)
        yield from (_host(case, end, other) for end, other in hosts)
        yield _task(far, near)
        yield from (_rules(end, passes=_came(end) and _came(other)) for end, other in hosts)
        yield from _tunnel(near, far)
        yield from (_mtu(here, there) for here, there in ((near, far), (far, near)))
    if case.port:
        yield _listener(case, far)


def connected(case: Case) -> Iterator[Hop]:
    """Do connections succeed: to the backend, and to the virtual address?"""
    yield from (_silent(end) for end in (case.near,) if end.error)
    accepts = "refuses no datagram" if case.udp else "accepts the connection"
    for tried in case.near.facts.connections:
        at = f"[{tried.to}]:{case.port}" if ":" in tried.to else f"{tried.to}:{case.port}"
        found, remedy = f"{at} {accepts}", ""
        if tried.error:
            found = f"{at}: {tried.error}"
            remedy = (
                "everything before is whole: does the program accept in time, or does it filter?"
            )
            if tried.error.endswith(CLOSED):
                remedy = _CLOSED
            if case.vip and tried.to == case.vip.address:
                remedy = "another backend may have been chosen: trace to each of them by its name"
        yield _hop("connect", case.near.name, found, remedy, tried.elapsed)


def _name(case: Case, asked: Attempt) -> Hop:
    near, text, remedy = case.near, case.target.text, ""
    found = f"{asked.to} is {', '.join(asked.addresses)}"
    if asked.error:
        found = f"asking 127.0.0.11 for {asked.to}: {asked.error}"
        if broken := _difference(near, "task_rules"):
            found, remedy = f"{found}; {broken.text}", _REPAIR
        elif case.target.service:
            remedy = f"the agent of {near.host} answers names: see its log"
        else:
            remedy = (
                f"no service, alias or task of the fleet is called {asked.to} (`pyswarm service"
                f" ls`); other names are asked of --dns servers, or of those of {near.host}"
            )
    elif not asked.addresses:
        found = f"there is no address for {asked.to} on the networks of {near.name}"
        remedy = f"run `pyswarm service ls` to list services, `pyswarm why {text}` for the reason"
    elif case.vip and case.vip.address not in asked.addresses:
        found, remedy = f"{found}, and should be {case.vip.address}", _behind(case, near)
    return _hop("name", near.name, found, remedy, asked.elapsed)


def _forwarded(case: Case, vip: Vip) -> Hop:
    near, text, remedy = case.near, case.target.text, ""
    backends = near.facts.backends
    found = f"{vip.address} is forwarded to {listed(backends)} (revision {near.facts.revision})"
    if broken := _difference(near, "task_rules"):
        found, remedy = broken.text, _REPAIR
    elif sorted(backends) != sorted(vip.backends):
        found, remedy = f"{found}, and should be to {listed(vip.backends)}", _behind(case, near)
    elif not backends:
        found = f"{vip.address} has no backend: no task of {text} serves"
        remedy = f"`pyswarm why {text}` tells what it waits for"
    return _hop("vip", near.name, found, remedy)


def _backend(case: Case) -> Hop:
    near, far, text = case.near, case.far, case.target.text
    if case.outside:
        return _hop(
            "backend", near.host, f"{text} is outside the fleet; {near.host} forwards to it"
        )
    if far is None:
        remedy = f"`pyswarm why {text}` shows why it ended"
        return _hop("backend", near.name, f"no running task has the address of {text}", remedy)
    found, remedy = f"{far.address} on {far.host}", ""
    if far.network_id not in near.addresses:
        found = f"{far.address} is on network {far.network}, which {near.name} has not joined"
        remedy = _join(case, far.network)
    elif far.state is not TaskState.RUNNING:
        found, remedy = f"the task is {far.state.word}", f"`pyswarm why {far.name}` tells the cause"
    return _hop("backend", far.name, found, remedy)


def _silent(end: End) -> Hop:
    remedy = f"is the agent of {end.host} running? `pyswarm node ls`"
    return _hop("backend", end.host, end.error, remedy)


def _task(end: End, other: End) -> Hop:
    """Does the task send to the other end from its own address?"""
    route, remedy = end.facts.task_route or "unreachable", ""
    if f"src {end.address}" not in route:
        route, remedy = f"{route}, which should have src {end.address}", _REPLACE
    return _hop("task", end.name, f"{other.address} {route}", remedy)


def _host(case: Case, end: End, other: End) -> Hop:
    """Is the host's network as planned, and does its route exist?"""
    found, remedy = f"{other.address} {end.facts.host_route}", ""
    if broken := _difference(end, "host", "peer", "route"):
        found = broken.text
        remedy = {"host": _REPAIR, "route": _FOREIGN}.get(broken.where) or _behind(case, end)
    return _hop("host", end.host, found, remedy)


def _rules(end: End, *, passes: bool) -> Hop:
    """Does the host's packet filter accept the packets of the two?"""
    found, remedy = "the pair may pass", ""
    if broken := _difference(end, "rules"):
        found, remedy = broken.text, _REPAIR
    elif end.facts.dropping:
        found = f"{', '.join(end.facts.dropping)} drops what it does not accept"
        if passes:
            found += ", but lets the pair pass"
        else:
            remedy = (
                "have it accept the fleet's devices in both directions"
                " (Docker's: in chain DOCKER-USER)"
            )
    return _hop("rules", end.host, found, remedy)


def _tunnel(near: End, far: End) -> Iterator[Hop]:
    """Do packets pass there and back?"""
    hop = "bridge" if near.host == far.host else "tunnel"
    for here, there in ((near, far), (far, near)):
        echo, place = here.facts.echo or _NOT_TRIED, f"{here.name} to {there.name}"
        if not echo.error:
            yield _hop(hop, place, f"{there.address} answers", elapsed=echo.elapsed)
        elif there.facts.echo and there.facts.echo.heard:
            yield _hop(hop, place, f"{there.name} hears {here.name}")
            yield _lost(hop, there, here, "the answers are lost")
        else:
            yield _lost(hop, here, there, echo.error)


def _lost(hop: str, here: End, there: End, error: str) -> Hop:
    found = f"packets from {here.host} do not come out on {there.host} ({error})"
    remedy = (
        f"VXLAN from {here.underlay} to {there.underlay} is lost: is its UDP port (4789; ESP if the"
        f" overlay is encrypted) open on {there.host} and between the hosts?"
    )
    if hop == "bridge":
        found = f"packets from {here.address} do not reach {there.address} ({error})"
        remedy = f"look at the bridge's ports on {here.host}: `bridge link`, `nft list ruleset`"
    return _hop(hop, f"{here.name} to {there.name}", found, remedy)


def _mtu(here: End, there: End) -> Hop:
    """Do packets of the full size pass whole?"""
    echo = here.facts.full_echo or _NOT_TRIED
    found, remedy = f"{echo.bytes} bytes pass whole", ""
    if echo.error:
        found = f"packets of {echo.bytes} bytes are lost, small ones pass ({echo.error})"
        remedy = (
            f"the network between {here.host} and {there.host} must carry {echo.bytes + 50} bytes"
            " (38 more if the overlay is encrypted); or make it with `network create --opt"
            f" mtu={_SAFE_MTU}`"
        )
    return _hop("mtu", f"{here.name} to {there.name}", found, remedy, echo.elapsed)


def _listener(case: Case, far: End) -> Hop:
    """Does a process listen on the port of the connection?"""
    listeners, found, remedy = far.facts.listeners, f"listens on port {case.port}", ""
    pairs = [text.rpartition(":") for text in listeners]
    at = [address for address, _, port in pairs if port == str(case.port)]
    open_to = ("::", far.address) if ":" in far.address else ("0.0.0.0", "::", far.address)
    if not at:
        found = f"nothing {found}{'/udp' if case.udp else ''}; there is {listed(listeners)}"
        remedy = f"check the target port and the log: `pyswarm service logs {far.name}`"
    elif not any(address.strip("[]") in open_to for address in at):
        found += f" of {listed(at)} only, not of {far.address}"
        remedy = "have the program bind 0.0.0.0 (or the task's address)"
    return _hop("listener", far.name, found, remedy)


_NOT_TRIED = Attempt(error="not tried")


def _came(end: End) -> bool:
    return not (end.facts.echo or _NOT_TRIED).error


def _difference(end: End, *wheres: str) -> Difference | None:
    """The first difference at one of these places."""
    return next((one for one in end.facts.differences if one.where in wheres), None)


def _behind(case: Case, end: End) -> str:
    return (
        f"{end.host} follows revision {end.facts.revision}, the fleet is at {case.revision}: ask"
        " again; if it stays, restart the agent there and see its log"
    )


def _join(case: Case, network: str) -> str:
    service = case.near.name.rpartition(".")[0]
    return f"`pyswarm service update --network-add {network} {service}`"


def _hop(hop: str, place: str, found: str, remedy: str = "", elapsed: int = 0) -> Hop:
    return Hop(hop=hop, place=place, ok=not remedy, found=found, remedy=remedy, elapsed=elapsed)
