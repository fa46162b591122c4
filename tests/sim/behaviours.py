"""What containers do, by the name of their image: how long they live, what their checks find."""

from collections.abc import Mapping

import msgspec

from pyswarm_core.specs import ServiceSpec
from tests.sim.rand import Chance

GOOD = ("web", "api", "slow")
BAD = ("crash", "oom", "job", "badstart", "badcreate", "missing", "stubborn")
CHECKED = ("sick", "ails", "flaps", "unready", "wavers", "hangs")
"""Images whose checks, if they have any, do not simply succeed."""

HEALTH, READY = "health", "ready"
PORTS = {HEALTH: 81, READY: 82}
"""What a check runs or connects to says which of the two it is."""


class Found(msgspec.Struct, frozen=True):
    """What one kind of check of a container finds."""

    good_after_ms: tuple[float, float] | None = (0, 1500)
    """So long after the start it first succeeds; None: never."""
    bad_after_ms: tuple[float, float] | None = None
    """So long after the start it fails for ever."""
    pattern: tuple[bool, ...] = (True,)
    """Between these, what it finds time after time."""
    hangs: bool = False
    """It does not end by itself."""

    @property
    def worst(self) -> int:
        """How many checks fail in a row when the container is past its start."""
        if self.good_after_ms is None or self.bad_after_ms is not None or self.hangs:
            return 1 << 30
        text = "".join("G" if good else "B" for good in self.pattern * 2)
        return max(map(len, text.split("G")))


class Behaviour(msgspec.Struct, frozen=True):
    """What containers of an image do, in milliseconds."""

    pull_ms: tuple[float, float] = (5, 300)
    missing: bool = False
    create_fails: bool = False
    start_fails: bool = False
    lives_ms: tuple[float, float] | None = None
    exit_code: int = 0
    oom: bool = False
    stubborn: bool = False
    health: Found = Found()
    ready: Found = Found()


BEHAVIOURS: Mapping[str, Behaviour] = {
    "web": Behaviour(),
    "api": Behaviour(pull_ms=(1, 20)),
    "slow": Behaviour(pull_ms=(2000, 9000)),
    "crash": Behaviour(lives_ms=(0, 2500), exit_code=1),
    "oom": Behaviour(lives_ms=(200, 6000), exit_code=137, oom=True),
    "job": Behaviour(lives_ms=(100, 8000)),
    "badstart": Behaviour(start_fails=True),
    "badcreate": Behaviour(create_fails=True),
    "missing": Behaviour(missing=True),
    "stubborn": Behaviour(stubborn=True),
    "sick": Behaviour(health=Found(good_after_ms=None)),
    "ails": Behaviour(health=Found(bad_after_ms=(2000, 9000))),
    "flaps": Behaviour(health=Found(pattern=(False, False, True))),
    "hangs": Behaviour(health=Found(hangs=True)),
    "unready": Behaviour(ready=Found(good_after_ms=None)),
    "wavers": Behaviour(ready=Found(pattern=(True, False, True, True, False, False))),
}


def behaviour_of(image: str) -> Behaviour:
    """`web:3` does what `web` does."""
    return BEHAVIOURS[image.partition(":")[0]]


def of_spec(spec: ServiceSpec) -> Behaviour:
    """What the containers of a service do."""
    return behaviour_of(spec.task_template.container_spec.image)


def has_health(spec: ServiceSpec) -> bool:
    """Whether its tasks have a health check; images in the simulator bring none."""
    test = spec.task_template.container_spec.healthcheck.test
    return bool(test) and test[0] != "NONE"


def has_readiness(spec: ServiceSpec) -> bool:
    """Whether its tasks have a readiness check."""
    return bool(spec.task_template.container_spec.readiness.test)


def is_restless(spec: ServiceSpec) -> bool:
    """Whether its containers end by themselves, are stopped by their checks, or come and go as
    backends: then there is no quiet.
    """
    does = of_spec(spec)
    ends = does.lives_ms is not None
    if ends or does.missing or does.create_fails or does.start_fails:
        return True
    retries = spec.task_template.container_spec.healthcheck.retries or 3
    fails = has_health(spec) and does.health.worst >= retries
    return fails or (has_readiness(spec) and not all(does.ready.pattern))


class Checks:
    """The checks of one container, by its engine's chance."""

    def __init__(self, found: Found, chance: Chance) -> None:
        self._found = found
        never = 1 << 62
        good, bad = found.good_after_ms, found.bad_after_ms
        self._good = never if good is None else chance.duration(*good)
        self._bad = never if bad is None else chance.duration(*bad)
        self._turn = 0
        self.failed: list[int] = []
        """How old the container was at those that failed in a row since the last success."""
        self.failures: list[int] = []
        """How old it was at all that failed."""
        self.succeeded = False
        """Whether one ever succeeded."""

    @property
    def hangs(self) -> bool:
        """Whether they end at their timeout only."""
        return self._found.hangs

    def look(self, age: int) -> bool:
        """What a check finds in a container that started so long ago."""
        good = self._good <= age < self._bad and not self._found.hangs
        if good:
            good = self._found.pattern[self._turn % len(self._found.pattern)]
            self._turn += 1
        self.succeeded |= good
        if good:
            self.failed = []
        else:
            self.fail(age)
        return good

    def fail(self, age: int) -> None:
        """One failed, or did not end in time."""
        self.failed.append(age)
        self.failures.append(age)

    def counting(self, start_period: int, *, whole: bool) -> int:
        """How many failures count: those after the start period, or after the first success; in a
        row if `whole`.
        """
        failed = self.failed if whole else self.failures
        return sum(self.succeeded or age >= start_period for age in failed)
