"""Objects for which a stage failed, and why. PURE (mutable; one owner).

An error for one object affects no other object and does not end the term. The object is held here
with the stage that failed. That stage leaves the object out until it changes. Users see it and can
change or remove it.
"""

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import NamedTuple

from pyswarm_core.decision import Decision, Dirty, Writes
from pyswarm_core.ids import ServiceId
from pyswarm_core.kinds import NETWORK, SERVICE, split_name


class Stage(StrEnum):
    """The stage that failed for an object; a label of metrics."""

    LOAD = "load"
    DECIDE = "decide"
    ALLOCATE = "allocate"
    SAVE = "save"
    ENDPOINTS = "endpoints"


_MEANING = {
    Stage.LOAD: "it could not be read from the store",
    Stage.DECIDE: "nothing is decided for it until it changes",
    Stage.ALLOCATE: "nothing is allocated on it",
    Stage.SAVE: "the store keeps its last version",
    Stage.ENDPOINTS: "nodes do not receive its endpoints",
}
"""What a failure at each stage means for the object, for people."""


class Failure(NamedTuple):
    """A stage failed for an object."""

    stage: Stage
    name: str
    """As Keys.name_of has it: `service/<id>`, `chunk/<service>/<n>` and so on."""
    reason: str

    @property
    def object_id(self) -> str:
        """The id of the object to show it with."""
        return _id(self.name)


class Quarantine:
    """The objects that are held, by name."""

    def __init__(self) -> None:
        self._held: dict[Stage, dict[str, str]] = {stage: {} for stage in Stage}

    def __len__(self) -> int:
        return sum(map(len, self._held.values()))

    def hold(self, failures: Iterable[Failure]) -> list[Failure]:
        """Hold these objects; return the failures that are new."""
        news = [one for one in failures if self._held[one.stage].get(one.name) != one.reason]
        for stage, name, reason in news:
            self._held[stage][name] = reason
        return news

    def lift(self, stage: Stage, names: Iterable[str]) -> None:
        """The stage succeeded for these, held or not."""
        held = self._held[stage]
        if held:
            for name in names:
                held.pop(name, None)

    def forget(self, writes: Writes) -> None:
        """Release objects that are removed."""
        gone = set(map(split_name, writes.removed))
        if gone:
            for held in self._held.values():
                for name in [name for name in held if split_name(name) in gone]:
                    del held[name]

    def ids(self) -> frozenset[str]:
        """The ids of all that is held."""
        return frozenset(_id(name) for held in self._held.values() for name in held)

    def reasons(self, object_id: str) -> list[str]:
        """Why the object is held, one line each; empty if it is not."""
        return [
            f"it is quarantined, {_MEANING[stage]}: {reason}"
            for stage, held in self._held.items()
            for name, reason in held.items()
            if _id(name) == object_id
        ]

    def undecided(self) -> set[ServiceId]:
        """The services for which deciding failed. A decision leaves them out unless they changed;
        any change of a node makes them due again.
        """
        return {ServiceId(_id(name)) for name in self._held[Stage.DECIDE]}

    def decided(self, dirty: Dirty, decision: Decision) -> list[Failure]:
        """After a decision about `dirty`: hold what failed, lift the rest; return new failures."""
        succeeded = dirty.services - decision.again.keys() - decision.failed.keys()
        self.lift(Stage.DECIDE, map(SERVICE.object_name, succeeded))
        self.lift(
            Stage.ALLOCATE, [NETWORK.object_name(one.id) for one in decision.writes.of(NETWORK)]
        )
        failures = [
            Failure(Stage.DECIDE, SERVICE.object_name(service_id), reason)
            for service_id, reason in decision.failed.items()
        ]
        failures += (
            Failure(Stage.ALLOCATE, NETWORK.object_name(network_id), reason)
            for network_id, reason in decision.failed_networks.items()
        )
        return self.hold(failures)

    def sync(self, stage: Stage, failed: Mapping[str, str]) -> list[Failure]:
        """These, and no others, fail at the stage now; return new failures."""
        return self.tried(stage, list(self._held[stage]), failed)

    def tried(self, stage: Stage, names: Iterable[str], failed: Mapping[str, str]) -> list[Failure]:
        """After a stage tried these: hold what failed, lift the rest; return new failures."""
        if self._held[stage]:
            self.lift(stage, [name for name in names if name not in failed])
        return self.hold(Failure(stage, name, reason) for name, reason in failed.items())


def _id(name: str) -> str:
    return split_name(name)[1] or name
