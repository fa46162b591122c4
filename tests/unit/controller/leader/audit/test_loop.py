"""The loop's turn: a change has its record, its author and its event."""

import asyncio
from itertools import chain

import pytest
from msgspec.structs import replace

from controller.identity.caller import CONTROLLER, Caller, CallerKind, Role
from controller.leader.persistence.unsaved import Unsaved
from pyswarm_core.clock import Instant
from pyswarm_core.decision import Decision, Dirty, Writes
from pyswarm_core.errors import Conflict
from pyswarm_core.identity.author import Author
from pyswarm_core.identity.limits import AUDITS_PER_OBJECT
from pyswarm_core.ids import IdSource
from pyswarm_core.objects import Service, Version
from pyswarm_core.state import State
from tests.unit.controller.leader.test_loop_slices import WEB, Brain, Saver, loop_over

ALICE = Caller(CallerKind.USER, "u1", "alice", Role.OPERATOR, (), "192.0.2.7")


class Recording(Saver):
    """Counts the records of each save that is not of events alone."""

    def __init__(self) -> None:
        super().__init__()
        self.saved: list[int] = []

    async def save(self, state: State, unsaved: Unsaved) -> dict[str, str]:
        if len(unsaved) > len(unsaved.pages):
            self.saved.append(sum(map(len, unsaved.records.values())))
        return {}


class Idle(Brain):
    """Decides nothing."""

    def decide(self, state: State, dirty: Dirty, now: Instant, ids: IdSource) -> Decision:
        return Decision()


def labelled(state: State, now: Instant, ids: IdSource) -> tuple[Writes, Service]:
    web = state.services[WEB]
    index = web.version.index + 1
    spec = replace(web.spec, labels={"number": str(index)})
    changed = replace(web, spec=spec, version=Version(index=index), updated_at=now)
    return Writes(objects=(changed,)), changed


async def test_a_change_is_recorded_signed_and_told_with_its_caller() -> None:
    saver = Recording()
    loop = loop_over(saver, Idle(saver))
    asking = asyncio.create_task(loop.submit(labelled, ALICE, "service update"))
    await asyncio.sleep(0)
    await loop._turn()
    answer = await asking
    assert answer.updated_by == Author(name="alice", role="operator")
    assert loop.state.services[WEB] is answer
    (record,) = chain.from_iterable(loop.audit.log.kept())
    assert (record.caller, record.verb, record.version) == ("alice", "service update", 1)
    assert [(event.kind, event.caller) for event in loop.events.kept()] == [
        ("service.update", "alice")
    ]
    assert saver.saved == [1]


async def test_what_a_controller_decides_is_no_record_and_has_no_author() -> None:
    saver = Recording()
    loop = loop_over(saver, Idle(saver))
    asking = asyncio.create_task(loop.submit(labelled, CONTROLLER))
    await asyncio.sleep(0)
    await loop._turn()
    assert (await asking).updated_by is None
    assert len(loop.audit.log) == 0
    assert loop.events.kept()[0].caller == ""


async def test_a_rejected_change_leaves_no_record_of_a_change() -> None:
    saver = Recording()
    loop = loop_over(saver, Idle(saver))

    def rejected(state: State, now: Instant, ids: IdSource) -> tuple[Writes, None]:
        raise Conflict("no")

    asking = asyncio.create_task(loop.submit(rejected, ALICE, "service update"))
    await asyncio.sleep(0)
    await loop._turn()
    with pytest.raises(Conflict):
        await asking
    assert len(loop.audit.log) == 0


async def test_many_changes_of_one_object_are_saved_in_parts() -> None:
    saver = Recording()
    loop = loop_over(saver, Idle(saver))
    asking = [asyncio.create_task(loop.submit(labelled, ALICE)) for _ in range(40)]
    await asyncio.sleep(0)
    await loop._turn()
    await loop._turn()  # of those that waited
    assert (await asking[-1]).version.index == 40
    assert saver.saved == [AUDITS_PER_OBJECT, AUDITS_PER_OBJECT, 6, 2]
    versions = [record.version for record in chain.from_iterable(loop.audit.log.kept())]
    assert versions == list(range(1, 41))
