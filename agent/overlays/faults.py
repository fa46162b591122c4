"""The faults of this host's networks, and how long each is reported. PURE (mutable; time is an
argument).
"""

from collections.abc import Collection, Hashable, Iterable, Sequence

from agent.network.base import Fault
from pyswarm_core.clock import Instant, after
from pyswarm_core.ids import WHOLE_HOST, NetworkId
from pyswarm_core.limits import FAULT_AFTER, FAULT_KEPT, FAULTS_MAX


class Faults:
    """Faults of invalid input, of the last sync, and of networks that were removed since."""

    def __init__(self) -> None:
        self.sync_error = ""
        """Why the last sync failed as a whole; empty if it succeeded."""
        self._failures = 0
        self._invalid: dict[Hashable, Sequence[Fault]] = {}
        self._kernel: tuple[Fault, ...] = ()
        self._left: dict[Fault, Instant] = {}

    def set_invalid(self, key: Hashable, faults: Sequence[Fault]) -> None:
        """Record what is invalid in the network or endpoint `key` that the host received."""
        if faults:
            self._invalid[key] = faults
        elif self._invalid:
            self._invalid.pop(key, None)

    def clear_invalid(self, keys: Iterable[Hashable] | None = None) -> None:
        """Forget the faults of these removed networks and endpoints; None: of all, since a full
        assignment follows.
        """
        for key in tuple(self._invalid) if keys is None else keys:
            self._invalid.pop(key, None)

    def sync_failed(self, reason: str) -> None:
        """Record that a sync failed as a whole."""
        self.sync_error = reason
        self._failures += 1

    def synced(
        self, faults: tuple[Fault, ...], carried: Collection[NetworkId] | None, now: Instant
    ) -> list[Fault]:
        """Record the faults of a sync of these networks (None: the same as before). Returns the
        faults that are new.
        """
        self.sync_error, self._failures = "", 0
        for fault in self._kernel if carried is not None else ():
            if carried is not None and fault.network_id not in carried:
                self._left.setdefault(fault, after(now, FAULT_KEPT))
        for fault, until in tuple(self._left.items()):
            if until <= now or (carried is not None and fault.network_id in carried):
                del self._left[fault]
        new = [fault for fault in faults if fault not in self._kernel]
        self._kernel = faults
        return new

    def blocking(self, network_id: NetworkId) -> str:
        """Why no task can use the network on this host; empty if one can."""
        found = (*self._kernel, *self._invalid.get(network_id, ()))
        return next((f.reason for f in found if f.network_id == network_id and f.whole), "")

    def current(self, now: Instant) -> tuple[Fault, ...]:
        """The faults to report, at most FAULTS_MAX: those that block tasks come first."""
        found = [*self._kernel, *(fault for fault, until in self._left.items() if until > now)]
        found += (fault for faults in self._invalid.values() for fault in faults)
        if self._failures >= FAULT_AFTER:
            found.append(Fault(network_id=WHOLE_HOST, reason=self.sync_error))
        return _most_important(found)


def _most_important(faults: Iterable[Fault]) -> tuple[Fault, ...]:
    """The first fault of each network precedes any second one; blocking faults come first."""
    rank: dict[NetworkId, int] = {}
    ranked = []
    for fault in sorted(dict.fromkeys(faults), key=lambda f: (not f.blocks, not f.whole)):
        rank[fault.network_id] = place = rank.get(fault.network_id, -1) + 1
        ranked.append((not fault.blocks, place, fault))
    ranked.sort(key=lambda one: one[:2])
    return tuple(fault for _, _, fault in ranked[:FAULTS_MAX])
