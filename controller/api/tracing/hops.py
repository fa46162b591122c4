"""What the facts of each hop mean, and what to do about a broken one. PURE: facts in, hops out.

HOPS is the way in the order of a packet, in three stages: what follows needs facts that are asked
for only when everything before is whole. `judge` ends with the first hop that is broken: what lies
behind it cannot be told from its consequences.

Rules come before the tunnel: a packet that a host drops on purpose would look like a lost one.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence

import msgspec

from pyswarm_core.traces import Check, ConnectionFact, EchoFact, Facts, Hop

_REPAIR = (
    "the agent mends this within 15 s; if it comes back, look who changes it"
    " (the agent's log names it as network.drift)"
)
_REPLACE = (
    "only root on the host, or a process of the task that may administer its network, can have done"
    " this: end the task, its successor gets everything anew"
)
_SAFE_MTU = 1280
"""What nearly any underlay carries with VXLAN around it."""
_ANYWHERE = ("0.0.0.0", "[::]")


class Side(msgspec.Struct, frozen=True, kw_only=True):
    """A task of the way, its host, and what that host's agent found."""

    task: str
    host: str
    underlay: str = ""
    address: str = ""
    facts: Facts | None = None


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """All that is known of a way. Its names are for people."""

    near: Side
    service: str = ""
    """Of the near task."""
    target: str
    """What was to be reached, in the user's words."""
    name: str = ""
    """What the resolver was asked for."""
    strangers: str = ""
    """Why the two share no network; empty: they do, or it is not known whom they mean."""
    join: str = ""
    """A network that would help."""
    vip: str = ""
    backends: tuple[str, ...] = ()
    """Those of the virtual address, as the controller knows them."""
    revision: int = 0
    """The controller's newest."""
    far: Side | None = None
    trouble: str = ""
    """What is wrong with the task at the other end."""
    outside: bool = False
    """The address is none of the fleet's."""
    port: int = 0


def judge(stage: "Iterable[Judge]", case: Case) -> tuple[Hop, ...]:
    """The hops of a stage, up to the first broken one."""
    told: list[Hop] = []
    for judgement in stage:
        for hop in judgement(case):
            told.append(hop)
            if not hop.ok:
                return tuple(told)
    return tuple(told)


def name_hop(case: Case) -> Iterator[Hop]:
    """Does the task's resolver answer, and with what it should?"""
    facts, place = _facts(case.near), case.near.task
    if case.strangers:
        yield Hop(hop="name", place=place, ok=False, found=case.strangers, remedy=_join(case))
    if facts.name is None:
        return
    addresses, elapsed = ", ".join(facts.name.addresses), facts.name.elapsed
    rules = facts.rules
    if facts.name.error:
        found, remedy = f"asking 127.0.0.11 for {case.name}: {facts.name.error}", ""
        if rules is None or not (rules.present and rules.resolver):
            found += "; the rules in the task's namespace do not lead to the resolver"
            remedy = _REPAIR
        elif case.vip or case.far:
            remedy = f"the agent of {case.near.host} answers names: see its log"
        else:
            remedy = (
                f"no service, alias or task of the fleet is called {case.name} (`pyswarm service"
                f" ls`); other names are asked of --dns servers, or of those of {case.near.host}"
            )
    elif not addresses:
        found = f"there is no address for {case.name} on the networks of {place}"
        remedy = f"`pyswarm service ls` and `pyswarm why {case.target}` tell what there is"
    elif case.vip and case.vip not in facts.name.addresses:
        found = f"{case.name} is {addresses}, and should be {case.vip}"
        remedy = _behind(case, facts)
    else:
        found = f"{case.name} is {addresses}"
        yield Hop(hop="name", place=place, ok=True, found=found, elapsed=elapsed)
        return
    yield Hop(hop="name", place=place, ok=False, found=found, remedy=remedy, elapsed=elapsed)


def vip_hop(case: Case) -> Iterator[Hop]:
    """Do the kernel's rules lead the virtual address to the backends that there are?"""
    facts, vip = _facts(case.near), case.vip
    if not vip:
        return
    rules, remedy = facts.rules, _REPAIR
    if rules is None or not rules.present:
        found = "the rules in the task's namespace (table inet pyswarm) are gone or have no way in"
    elif not rules.leads:
        found = f"the rules in the task's namespace do not know {vip}"
    elif sorted(rules.backends) != sorted(rules.told):
        found = (
            f"the rules lead {vip} to {_list(rules.backends)}, and should to {_list(rules.told)}"
        )
    elif sorted(rules.told) != sorted(case.backends):
        told, wanted = _list(rules.told), _list(case.backends)
        found, remedy = f"{vip} leads to {told}, and should to {wanted}", _behind(case, facts)
    elif not rules.backends:
        found = f"{vip} has no backend: no task of {case.target} serves"
        remedy = f"`pyswarm why {case.target}` tells what it waits for"
    else:
        found = f"{vip} leads to {_list(rules.backends)} (revision {facts.revision})"
        yield Hop(hop="vip", place=case.near.task, ok=True, found=found)
        return
    yield Hop(hop="vip", place=case.near.task, ok=False, found=found, remedy=remedy)


def backend_hop(case: Case) -> Iterator[Hop]:
    """Is there a task at the other end that could answer?"""
    far = case.far
    if case.outside:
        found = f"{case.target} is outside the fleet; {case.near.host} forwards to it"
        yield Hop(hop="backend", place=case.near.host, ok=True, found=found)
        return
    if far is None:
        found, place = f"no running task has the address that {case.target} is", case.near.task
        remedy = f"`pyswarm why {case.target}` tells what became of it"
        yield Hop(hop="backend", place=place, ok=False, found=found, remedy=remedy)
        return
    if case.trouble:
        remedy = _join(case) or f"`pyswarm why {far.task}` tells the cause"
        yield Hop(hop="backend", place=far.task, ok=False, found=case.trouble, remedy=remedy)
        return
    yield Hop(hop="backend", place=far.task, ok=True, found=f"{far.address} on {far.host}")


def agent_hop(case: Case) -> Iterator[Hop]:
    """Can the other end be asked?"""
    if case.far is not None and case.trouble:
        remedy = f"is the agent of {case.far.host} running? `pyswarm node ls`"
        yield Hop(hop="backend", place=case.far.host, ok=False, found=case.trouble, remedy=remedy)


def task_hops(case: Case) -> Iterator[Hop]:
    """Routes, gateways and interfaces of the two tasks, and of the two hosts between them."""
    near, far = case.near, _apart(case)
    if far is None:
        return
    yield _checked("task", near.task, near, f"{far.address} %s")
    yield _checked("host", near.host, near, f"{far.address} %s")
    if near.host != far.host:
        yield _checked("host", far.host, far, f"{near.address} %s")
    yield _checked("task", far.task, far, f"{near.address} %s")


def rules_hops(case: Case) -> Iterator[Hop]:
    """Does each host's packet filter let the pair pass?"""
    far = _apart(case)
    if far is None:
        return
    passes = _answered(case.near) and _answered(far)
    for side in (case.near,) if case.near.host == far.host else (case.near, far):
        facts = _facts(side)
        broken = _first_broken("rules", facts)
        found, remedy = "the pair may pass", ""
        if broken:
            found, remedy = _told(broken), _remedy(broken)
        elif facts.dropping:
            chains = ", ".join(facts.dropping)
            found = f"{chains} drops what it does not accept"
            if passes:
                found += ", but lets the pair pass"
            else:
                remedy = (
                    "have it accept the fleet's devices in both directions"
                    " (Docker's: in chain DOCKER-USER)"
                )
        ok = not remedy
        yield Hop(hop="rules", place=side.host, ok=ok, found=found, remedy=remedy)


def tunnel_hops(case: Case) -> Iterator[Hop]:
    """Do packets come through there, and back?"""
    near, far = case.near, _apart(case)
    if far is None:
        return
    word = "bridge" if near.host == far.host else "tunnel"
    for here, there in ((near, far), (far, near)):
        echo, theirs = _facts(here).echo or EchoFact(), _facts(there).echo
        place = f"{here.task} to {there.task}"
        if echo.answered:
            found = f"{there.address} answers"
            yield Hop(hop=word, place=place, ok=True, found=found, elapsed=echo.elapsed)
        elif theirs is not None and theirs.heard:
            found = f"{there.task} hears {here.task}"
            yield Hop(hop=word, place=place, ok=True, found=found)
            back = f"{there.task} to {here.task}"
            yield _lost(word, back, there, here)
        else:
            yield _lost(word, place, here, there, echo.error)


def mtu_hop(case: Case) -> Iterator[Hop]:
    """Do packets of the full size come through whole?"""
    far = _apart(case)
    if far is None:
        return
    for here, there in ((case.near, far), (far, case.near)):
        facts = _facts(here)
        echo, broken = facts.full_echo, _first_broken("mtu", facts)
        place, size = f"{here.task} to {there.task}", echo.bytes if echo else 0
        if broken:
            found = f"on {here.host}: {_told(broken)}"
            yield Hop(hop="mtu", place=place, ok=False, found=found, remedy=_remedy(broken))
        elif echo is None or not echo.answered:
            error = f" ({echo.error})" if echo and echo.error else ""
            found = f"packets of {size} bytes are lost, small ones pass{error}"
            remedy = (
                f"the network between {here.host} and {there.host} must carry {size + 50} bytes"
                " (38 more if the overlay is encrypted); or make it with `network create --opt"
                f" mtu={_SAFE_MTU}`"
            )
            yield Hop(hop="mtu", place=place, ok=False, found=found, remedy=remedy)
        else:
            found = f"{size} bytes pass whole"
            yield Hop(hop="mtu", place=place, ok=True, found=found, elapsed=echo.elapsed)


def listener_hop(case: Case) -> Iterator[Hop]:
    """Does something listen where the connection comes in?"""
    far, port = case.far, case.port
    if far is None or not port:
        return
    listeners = _facts(far).listeners
    at = [text.rpartition(":")[0] for text in listeners if text.rpartition(":")[2] == str(port)]
    place = far.task
    if any(address in (*_ANYWHERE, far.address) for address in at):
        yield Hop(hop="listener", place=place, ok=True, found=f"listens on port {port}")
    elif at:
        found = f"listens on port {port} of {_list(at)} only, not of {far.address}"
        remedy = "have the program bind 0.0.0.0 (or the task's address)"
        yield Hop(hop="listener", place=place, ok=False, found=found, remedy=remedy)
    else:
        found = f"nothing listens on port {port}; there is {_list(listeners)}"
        remedy = (
            f"`pyswarm service logs {far.task}` tells what the program does; is the port right?"
        )
        yield Hop(hop="listener", place=place, ok=False, found=found, remedy=remedy)


def connect_hops(case: Case) -> Iterator[Hop]:
    """Does a connection come about for real: to the backend, and by the virtual address?"""
    for tried in _facts(case.near).connections:
        yield _connected(case, tried)


Judge = Callable[[Case], Iterator[Hop]]

HOPS: tuple[tuple[Judge, ...], ...] = (
    (name_hop, vip_hop, backend_hop),
    (agent_hop, task_hops, rules_hops, tunnel_hops, mtu_hop, listener_hop),
    (connect_hops,),
)


def _apart(case: Case) -> Side | None:
    """The other end; None if there is none, or it is the near task itself."""
    return case.far if case.far and case.far.task != case.near.task else None


def _checked(hop: str, place: str, side: Side, found: str) -> Hop:
    facts = _facts(side)
    if broken := _first_broken(hop, facts):
        remedy = _remedy(broken)
        return Hop(hop=hop, place=place, ok=False, found=_told(broken), remedy=remedy)
    routes = (check.found for check in facts.checks if check.hop == hop and "route" in check.what)
    return Hop(hop=hop, place=place, ok=True, found=found % next(routes, "is reached"))


def _lost(word: str, place: str, here: Side, there: Side, error: str = "") -> Hop:
    why = f" ({error})" if error else ""
    if word == "bridge":
        found = f"packets from {here.address} do not reach {there.address}{why}"
        remedy = f"look at the bridge's ports on {here.host}: `bridge link`, `nft list ruleset`"
    else:
        found = f"packets from {here.host} do not come out on {there.host}{why}"
        remedy = (
            f"VXLAN from {here.underlay} to {there.underlay} is lost: is its UDP port (4789;"
            f" ESP if the overlay is encrypted) open on {there.host} and between the hosts?"
        )
    return Hop(hop=word, place=place, ok=False, found=found, remedy=remedy)


def _connected(case: Case, tried: ConnectionFact) -> Hop:
    place, at = case.near.task, f"{tried.address}:{case.port}"
    if not tried.error:
        found = f"{at} accepts the connection"
        return Hop(hop="connect", place=place, ok=True, found=found, elapsed=tried.elapsed)
    remedy = "everything before is whole: does the program accept in time, or does it filter?"
    if tried.address == case.vip:
        remedy = "the rules may have led to another backend: trace to each of them by its name"
    found = f"{at}: {tried.error}"
    return Hop(hop="connect", place=place, ok=False, found=found, remedy=remedy)


def _behind(case: Case, facts: Facts) -> str:
    return (
        f"{case.near.host} follows revision {facts.revision}, the fleet is at {case.revision}: ask"
        " again; if it stays, restart the agent there and see its log"
    )


def _join(case: Case) -> str:
    if not case.join:
        return ""
    return f"`pyswarm service update --network-add {case.join} {case.service}`"


def _first_broken(hop: str, facts: Facts) -> Check | None:
    return next((check for check in facts.checks if check.hop == hop and not check.ok), None)


def _remedy(check: Check) -> str:
    return _REPAIR if check.heals else _REPLACE


def _told(check: Check) -> str:
    return f"{check.what}: wanted {check.wanted}, found {check.found or 'nothing'}"


def _facts(side: Side) -> Facts:
    return side.facts or Facts()


def _answered(side: Side) -> bool:
    echo = _facts(side).echo
    return echo is not None and echo.answered


def _list(items: Sequence[str]) -> str:
    return ", ".join(items[:8]) + (f" and {len(items) - 8} more" if items[8:] else "") or "nobody"
