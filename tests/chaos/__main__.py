"""`python -m tests.chaos [--seconds 600] [--seed 1]`: break a fleet that serves, and judge it.

A playground of three hosts serves a published page. Faults of `faults.py` follow each other while
the service is scaled and updated. Afterwards: the running containers are those that were asked for,
every failed request is excused by a host that was away, and nothing is left of the service once it
is removed. A table tells how long detection and recovery took, by kind of fault.
"""

import argparse
import random
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import NamedTuple

from tests.chaos.faults import FAULTS, HOSTS, Fault, Hand, drawn
from tests.chaos.watch import Condition, Sight, Watch
from tests.e2e.acceptance.fleet import IMAGE, Fleet, playground
from tests.e2e.acceptance.web import LATE_S, reached
from tests.fixtures import commands

SERVICE = "web"
PORT = 18081
REPLICAS = (3, 9)
PAUSE_S = (0.5, 4.0)
RETURN_S = LATE_S
"""So long after its node is ready a host that came back has everything that it publishes."""
FOLLOW_S = LATE_S
"""So long after a verdict other hosts may have yet to follow."""


class Breakage(NamedTuple):
    """One fault that happened, on the clock of time.monotonic."""

    fault: Fault
    host: str
    began: float
    ended: float


class Outcome(NamedTuple):
    """What was done and seen."""

    breakages: list[Breakage]
    watch: Watch
    left: list[str]
    """What differs from what was asked for at the end, in words."""


def break_it(fleet: Fleet, seconds: float, seed: int) -> Outcome:
    """Break a fleet that has image and network for so long, by each fault at least once; then let
    it settle, and remove the service.
    """
    chance = random.Random(seed)
    publish = ("--network", "app", "-p", f"{PORT}:80", "--restart-delay", "0s")
    fleet("service", "create", "--name", SERVICE, "--replicas", "6", *publish, IMAGE)
    for number in range(len(HOSTS)):
        reached(fleet, "lan", f"10.99.0.{number + 1}", PORT)
    watch, user = Watch(fleet, SERVICE, PORT), User(fleet, random.Random(seed + 1))
    breakages: list[Breakage] = []
    ends_at = time.monotonic() + seconds
    with watch.watching(), user.changing():
        hand = Hand(fleet)
        for fault, host, lasts in drawn(chance):
            if len(breakages) >= len(FAULTS) and time.monotonic() >= ends_at:
                break
            began = time.monotonic()
            fault.work(hand, host, lasts)
            breakages.append(Breakage(fault, host, began, time.monotonic()))
            time.sleep(chance.uniform(*PAUSE_S))
        user.stop()
        left = list(_settled(fleet, user.desired))
    fleet("service", "rm", SERVICE)
    fleet.until(lambda: not fleet.containers(), "no container is left of a removed service")
    return Outcome(breakages, watch, [*left, *_remains(fleet)])


class User:
    """Scales and updates all the time, from a thread of its own."""

    def __init__(self, fleet: Fleet, chance: random.Random) -> None:
        self.desired = 6
        self._fleet = fleet
        self._chance = chance
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._change)

    @contextmanager
    def changing(self) -> Iterator[None]:
        """In the block, until `stop`."""
        self._thread.start()
        try:
            yield
        finally:
            self.stop()

    def stop(self) -> None:
        """Change nothing any more."""
        self._ended.set()
        self._thread.join()

    def _change(self) -> None:
        number = 0
        while not self._ended.wait(self._chance.uniform(1.0, 6.0)):
            number += 1
            if number % 3:
                desired = self._chance.randint(*REPLICAS)
                done = self._fleet.run("service", "scale", "-d", f"{SERVICE}={desired}")
                self.desired = desired if done.code == 0 else self._asked()
            else:
                words = ("service", "update", "-d", "--env-add", f"TURN={number}", SERVICE)
                self._fleet.run(*words)

    def _asked(self) -> int:
        """How many the controller was asked for, once it answers."""
        shown: list[str] = []

        def look() -> bool:
            words = ("service", "ls", "--filter", f"name={SERVICE}", "--format", "{{.Replicas}}")
            done = self._fleet.run(*words)
            shown[:] = [done.out]
            return done.code == 0

        self._fleet.until(look, "it answers")
        return int(shown[0].partition("/")[2])


def _settled(fleet: Fleet, desired: int) -> Iterator[str]:
    def matches() -> bool:
        if fleet.run("service", "ls").code:
            return False
        running = {task["ID"] for task in fleet.running(SERVICE)}
        return len(running) == desired and fleet.containers() == running

    try:
        fleet.until(matches, f"{desired} replicas run, and nothing else")
        for number in range(len(HOSTS)):
            reached(fleet, "lan", f"10.99.0.{number + 1}", PORT)
    except AssertionError as error:
        yield str(error)


def _remains(fleet: Fleet) -> Iterator[str]:
    """What a host keeps of a task whose service is gone."""
    places = ("bundles", "exits", "netns", "oci")

    def found() -> list[str]:
        return [
            f"{host}: {path.relative_to(fleet.run_dir)}"
            for host in HOSTS
            for place in places
            for path in (fleet.run_dir / host / place).glob("*")
        ]

    try:
        fleet.until(lambda: not found(), "nothing is left of the tasks")
    except AssertionError:
        yield from found()


def broken(outcome: Outcome) -> list[str]:
    """What must not have happened and did, a line each."""
    found = list(outcome.left)
    excuses = [_Excuse.of(one, outcome) for one in outcome.breakages if one.fault.takes_host]
    failed = [one for one in outcome.watch.requests if one.failure]
    for request in failed:
        if not any(excuse.covers(request.began, request.host) for excuse in excuses):
            last = [one for one in outcome.breakages if one.began <= request.began][-3:]
            after = [
                f"{request.began - one.began:.1f} s after {_named(one)},"
                f" which took {one.ended - one.began:.1f} s"
                for one in last
            ]
            found.append("; ".join([f"a request to {request.host}: {request.failure}", *after]))
    found += [
        f"{one.host} was called down while {_named(one)}"
        for one in outcome.breakages
        if not one.fault.takes_host and _called_down(one, outcome)
    ]
    return found


class _Excuse(NamedTuple):
    """When requests may fail because a host was away."""

    host: str
    began: float
    followed: float
    """Everybody else knows by then."""
    returned: float
    """It serves again."""

    @classmethod
    def of(cls, one: Breakage, outcome: Outcome) -> "_Excuse":
        watch = outcome.watch
        verdict = watch.first(one.began, _is(one.host, "down"))
        back = watch.first(one.ended, _is(one.host, "ready"))
        returned = one.ended + (float("inf") if back is None else back) + RETURN_S
        # A host that returned before its verdict was among the backends all the time.
        followed = returned if verdict is None else one.began + verdict + FOLLOW_S
        for other in outcome.breakages:
            # Its agent was broken before it had everything again.
            if other.host == one.host and one.ended <= other.began <= returned:
                returned = max(returned, other.ended + RETURN_S)
        return cls(one.host, one.began - LATE_S, min(followed, returned), returned)

    def covers(self, at: float, host: str) -> bool:
        """Whether a request that began then, to that host, may have failed."""
        return self.began <= at <= (self.returned if host == self.host else self.followed)


def _called_down(one: Breakage, outcome: Outcome) -> bool:
    """Whether the host became down meanwhile; one that still was, of an older fault, stays so until
    its agent can be heard.
    """
    near = [
        other
        for other in outcome.breakages
        if other.fault.takes_host and other.host == one.host and other.began < one.ended
    ]
    since = max([one.began, *(other.ended + RETURN_S for other in near)])
    sights = outcome.watch.sights
    states = [(s.at, s.states[one.host]) for s in sights if one.host in s.states]
    return any(
        since <= at <= one.ended and state == "down" != before
        for (_, before), (at, state) in pairwise(states)
    )


def _is(host: str, state: str) -> Condition:
    return lambda sight: sight.states.get(host) == state


def _named(one: Breakage) -> str:
    return f"{one.fault.name} ({one.host})"


def report(outcome: Outcome) -> None:
    """Requests, and how long detection and recovery took."""
    requests = outcome.watch.requests
    failed = sum(bool(one.failure) for one in requests)
    print(f"{len(requests)} requests, {failed} failed (at hosts that were away, or as told below)")
    detection: dict[str, list[float]] = defaultdict(list)
    recovery: dict[str, list[float]] = defaultdict(list)
    for one in outcome.breakages:
        if one.fault.takes_host:
            found = outcome.watch.first(one.began, _is(one.host, "down"))
            if found is not None:
                detection[one.fault.name].append(found)
        gone = one.host if one.fault.takes_host else ""
        found = outcome.watch.first(one.began, partial(Sight.recovered_without, host=gone))
        if found is not None:
            recovery[one.fault.name].append(found)
    print(f"{'fault':24}{'times':>6}{'detected, median/worst':>26}{'recovered, median/worst':>26}")
    for fault in FAULTS:
        times = sum(one.fault is fault for one in outcome.breakages)
        columns = (_times(detection[fault.name]), _times(recovery[fault.name]))
        print(f"{fault.name:24}{times:6d}{columns[0]:>26}{columns[1]:>26}")


def _times(seconds: list[float]) -> str:
    return f"{median(seconds):.1f} s / {max(seconds):.1f} s" if seconds else "-"


def main() -> int:
    """Exit code 1 if anything was broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0, help="how long [600]")
    parser.add_argument("--seed", type=int, default=1, help="what is drawn [1]")
    arguments = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="pyswarm-chaos-") as home,
        commands.ready(),
        playground(Path(home)) as fleet,
    ):
        fleet("network", "create", "-d", "overlay", "app")
        outcome = break_it(fleet, arguments.seconds, arguments.seed)
    report(outcome)
    found = broken(outcome)
    for line in found:
        print(f"BROKEN: {line}")
    print("ok" if not found else f"again: python -m tests.chaos --seed {arguments.seed}")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
