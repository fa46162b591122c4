"""The real `Vips`: programs virtual addresses into the tasks' network namespaces. SHELL.

Each task's namespace has a socket that stays open: closing one makes the kernel wait for an RCU
grace period (15 ms) if it still has parts of an old ruleset to free, and an open socket avoids
entering the namespace. Tasks on the same networks have the same rules, so a change is encoded once
and sent to all of them.

Invariant: the holder of a task's lock leaves its namespace either unchanged or as the newest
`_Desired` specifies. A task is registered before its rules are written, so no `sync` misses it.
"""

import errno
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from ipaddress import ip_address

from agent.network import conntrack
from agent.network.base import (
    DesiredEndpoint,
    DesiredOverlay,
    Drift,
    EndpointKey,
    NetworkFailed,
)
from agent.network.netlink import Netlink, Refused
from agent.network.threads import KernelThreads
from agent.network.vips import nftables, ruleset
from agent.network.vips.base import RefusedTask
from agent.network.vips.ruleset import TABLE, RemovedBackend, Ruleset, Vip
from pyswarm_core.ids import NetworkId, TaskId

_MANY = 16
"""From this number of backends of one service on, a dump of its flows is cheaper."""
_NO_FILTER = frozenset({errno.EINVAL, errno.EOPNOTSUPP})


class _Desired:
    """The desired tables, as of one `set_desired`."""

    def __init__(self) -> None:
        self.vips: dict[NetworkId, dict[EndpointKey, tuple[DesiredEndpoint, Vip]]] = {}
        self.dual: frozenset[NetworkId] = frozenset()
        self._made: dict[tuple[NetworkId, ...], Ruleset] = {}
        self._batches: dict[tuple[tuple[NetworkId, ...], bool], bytes] = {}

    def ruleset(self, networks: tuple[NetworkId, ...]) -> Ruleset:
        made = self._made.get(networks)
        if made is None:
            of_networks = (self.vips.get(network_id, {}).values() for network_id in networks)
            vips = {vip.address: vip for held in of_networks for _, vip in held}
            made = Ruleset(vips, dual=not self.dual.isdisjoint(networks))
            # Two threads may build it at once: the results are equal, and one is kept.
            made = self._made.setdefault(networks, made)
        return made

    def without(self, changed: frozenset[NetworkId]) -> "_Desired":
        """A copy without these networks' rulesets; their virtual addresses may be changed in it."""
        desired = _Desired()
        desired.dual = self.dual
        desired.vips = {**self.vips, **{n: dict(self.vips.get(n, {})) for n in changed}}
        desired._made = {n: made for n, made in dict(self._made).items() if changed.isdisjoint(n)}
        batches = dict(self._batches).items()
        desired._batches = {k: b for k, b in batches if changed.isdisjoint(k[0])}
        return desired

    def replacement(self, networks: tuple[NetworkId, ...], *, assume_udp: bool) -> bytes:
        """Built once for all tasks that start on the same networks."""
        batch = self._batches.get((networks, assume_udp))
        if batch is None:
            batch = ruleset.replacement(self.ruleset(networks), assume_udp=assume_udp)
            self._batches[networks, assume_udp] = batch
        return batch


class _Task:
    def __init__(self, networks: tuple[NetworkId, ...], netfilter: Netlink) -> None:
        self.networks = networks
        self.netfilter = netfilter
        self.lock = threading.Lock()
        self.programmed: Ruleset | None = None
        self.generation = -1
        self.stale: list[RemovedBackend] = []
        """Removed backends whose UDP flows still have to be deleted."""


class NetlinkVips:
    """The tables of all attached tasks that are on a network with services."""

    def __init__(self, threads: KernelThreads) -> None:
        self._threads = threads
        self._desired = _Desired()
        self._tasks: dict[TaskId, _Task] = {}

    def close(self) -> None:
        """Close the sockets. The kernel's state stays."""
        for task in self._tasks.values():
            task.netfilter.close()

    def set_desired(
        self, overlays: Mapping[NetworkId, DesiredOverlay], endpoints: Iterable[DesiredEndpoint]
    ) -> None:
        """See Vips."""
        before, desired = self._desired, _Desired()
        desired.dual = frozenset(n for n, overlay in overlays.items() if overlay.subnet6)
        for endpoint in endpoints:
            overlay = overlays.get(endpoint.network_id)
            if not endpoint.vip or (overlay and overlay.ingress):
                continue
            old = before.vips.get(endpoint.network_id, {}).get(endpoint.key)
            _put(desired, endpoint, overlay, old)
        self._desired = desired

    def update_desired(
        self,
        overlays: Mapping[NetworkId, DesiredOverlay],
        changed: Mapping[EndpointKey, DesiredEndpoint | None],
    ) -> frozenset[NetworkId]:
        """See Vips."""
        networks = frozenset(network_id for _, network_id in changed)
        desired = self._desired.without(networks)
        for key, endpoint in changed.items():
            old = desired.vips[key[1]].pop(key, None)
            overlay = overlays.get(key[1])
            if endpoint is not None and endpoint.vip and not (overlay and overlay.ingress):
                _put(desired, endpoint, overlay, old)
        self._desired = desired
        return networks

    @contextmanager
    def new(
        self, task_id: TaskId, networks: tuple[NetworkId, ...], connect: Callable[[], Netlink]
    ) -> Iterator[None]:
        """See InNamespace."""
        if not networks:
            yield
            return
        task = _Task(networks, connect())
        with task.lock:
            self._tasks[task_id] = task
            try:
                _replace(task, self._desired, assume_udp=False)
                yield
            except BaseException:
                self._tasks.pop(task_id, None)
                task.netfilter.close()
                raise

    def adopt(
        self, task_id: TaskId, networks: tuple[NetworkId, ...], connect: Callable[[], Netlink]
    ) -> None:
        """See InNamespace."""
        task = self._tasks.get(task_id)
        if task is None and networks:
            task = self._tasks[task_id] = _Task(networks, connect())
        if task is not None:
            with task.lock:
                task.networks = networks
                self._follow(task, {})

    def forget(self, task_id: TaskId) -> None:
        """See InNamespace."""
        if task := self._tasks.pop(task_id, None):
            with task.lock:
                task.netfilter.close()

    async def sync(self, networks: frozenset[NetworkId] | None = None) -> list[RefusedTask]:
        """See Vips."""
        return await self._threads.run(lambda: self._sync(networks))

    async def check(self) -> tuple[Drift, ...]:
        """See Vips."""
        disturbed = await self._threads.run(self._disturbed)
        return tuple(Drift(kind="rules", detail=f"task {task_id}") for task_id in disturbed)

    async def backends(self, task_id: TaskId, address: str) -> tuple[str, ...] | None:
        """See Vips."""
        return await self._threads.run(lambda: self._backends(task_id, address))

    def _sync(self, networks: frozenset[NetworkId] | None) -> list[RefusedTask]:
        refused = []
        changes: _Transactions = {}
        for task_id, task in list(self._tasks.items()):
            if networks is not None and networks.isdisjoint(task.networks):
                continue
            try:
                with task.lock:
                    self._follow(task, changes)
            except (NetworkFailed, OSError) as error:
                # A task detached meanwhile: its socket is closed.
                if task_id in self._tasks:
                    refused.append(RefusedTask(task_id, task.networks, str(error)))
        return refused

    def _backends(self, task_id: TaskId, address: str) -> tuple[str, ...] | None:
        task = self._tasks.get(task_id)
        if task is None:
            return None
        suffix, key = "6" if ":" in address else "", ip_address(address).packed
        with task.lock, suppress(Refused):  # The table does not exist.
            if key in _elements(task.netfilter, f"vips{suffix}"):
                return ruleset.places(key, _elements(task.netfilter, f"backends{suffix}"))
        return None

    def _disturbed(self) -> list[TaskId]:
        found = []
        for task_id, task in list(self._tasks.items()):
            with suppress(NetworkFailed, OSError), task.lock:
                if task.programmed is None or _generation(task) != task.generation:
                    found.append(task_id)
        return found

    def _follow(self, task: _Task, changes: "_Transactions") -> None:
        newest, programmed = self._desired, task.programmed
        desired = newest.ruleset(task.networks)
        if programmed is None or _generation(task) != task.generation:
            task.stale += _stale_backends(task.netfilter, desired)
            _replace(task, newest, assume_udp=True)
        elif programmed is not desired:
            batch, removed = _change(programmed, desired, changes)
            task.stale += removed
            if batch:
                task.programmed = None
                task.netfilter.commit(batch)
                task.generation += 1
            task.programmed = desired
        _forget_flows(task)


def _put(
    desired: _Desired,
    endpoint: DesiredEndpoint,
    overlay: DesiredOverlay | None,
    old: tuple[DesiredEndpoint, Vip] | None,
) -> None:
    known, vip = old or (None, None)
    if known != endpoint or vip is None or bool(vip.address6) != _is_dual(overlay):
        vip = ruleset.vip(endpoint, overlay, vip)
    desired.vips.setdefault(endpoint.network_id, {})[endpoint.key] = endpoint, vip


def _elements(netfilter: Netlink, name: str) -> dict[bytes, bytes]:
    bodies = netfilter.dump(TABLE.dump(name))
    return {key: value for body in bodies for key, value in nftables.read_elements(body)}


def _is_dual(overlay: DesiredOverlay | None) -> bool:
    return overlay is not None and bool(overlay.subnet6)


# By the ids of two rulesets (which are kept alive by the value): the transaction between them.
_Transactions = dict[tuple[int, int], tuple[Ruleset, bytes, list[RemovedBackend]]]


def _change(
    before: Ruleset, now: Ruleset, changes: _Transactions
) -> tuple[bytes, list[RemovedBackend]]:
    key = id(before), id(now)
    if key not in changes:
        changes[key] = before, ruleset.change(before, now), ruleset.removed(before, now)
    return changes[key][1:]


def _replace(task: _Task, desired: _Desired, *, assume_udp: bool) -> None:
    task.programmed = None
    task.netfilter.commit(desired.replacement(task.networks, assume_udp=assume_udp))
    task.generation = _generation(task)
    task.programmed = desired.ruleset(task.networks)


def _generation(task: _Task) -> int:
    return nftables.read_generation(task.netfilter.one(nftables.ask_generation()) or b"")


def _stale_backends(netfilter: Netlink, desired: Ruleset) -> list[RemovedBackend]:
    """The backends that a table of unknown origin forwards to, and must not."""
    found = []
    for rules in ruleset.families(desired):
        with suppress(Refused):  # The table does not exist.
            for body in netfilter.dump(TABLE.dump(rules.backends)):
                found += ruleset.stale_backends(rules, nftables.read_elements(body), desired)
    return found


def _forget_flows(task: _Task) -> None:
    flows: dict[tuple[ruleset.FamilyRules, bytes], list[bytes]] = {}
    for one in task.stale:
        flows.setdefault((one.rules, one.vip), []).append(one.backend)
    for (rules, vip), backends in flows.items():
        # Reading all connections of the host takes half a millisecond, even if there are none.
        if task.netfilter.one(TABLE.look_up(rules.udp, vip)) is not None:
            forget_flows(task.netfilter, rules.family, vip, backends)
    task.stale.clear()


def forget_flows(
    netfilter: Netlink, family: nftables.Family, vip: bytes, backends: Collection[bytes]
) -> None:
    """Delete the UDP flows from a virtual address to one of these backends."""
    if len(backends) < _MANY and family is not nftables.INET6:
        messages = [conntrack.forget_all(family.nfproto, vip, backend) for backend in backends]
        try:
            netfilter.apply(messages, ignore_missing=True)
        except Refused as refused:
            if refused.number not in _NO_FILTER:
                raise
        else:
            return
    forget_dumped_flows(netfilter, family, vip, frozenset(backends))


def forget_dumped_flows(
    netfilter: Netlink, family: nftables.Family, vip: bytes, backends: Collection[bytes]
) -> None:
    """The same by a dump of all UDP flows to the address: for many backends, and for kernels that
    cannot filter.
    """
    bodies = netfilter.dump(conntrack.dump(family.nfproto, address=vip))
    flows = [flow for flow in map(conntrack.read, bodies) if flow is not None]
    stale = [flow for flow in flows if flow.address == vip and flow.answers in backends]
    messages = [conntrack.forget(family.nfproto, flow) for flow in stale]
    netfilter.apply(messages, ignore_missing=True)
