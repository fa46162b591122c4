"""A service that a decision writes is applied, saved, and told to those who watch it."""

from collections.abc import Iterable
from unittest.mock import patch

from msgspec.structs import replace

from controller.leader.persistence.unsaved import Unsaved
from pyswarm_core.clock import SECOND, Instant
from pyswarm_core.decision import Decision, Dirty, Writes
from pyswarm_core.ids import IdSource, ServiceId
from pyswarm_core.kinds import SERVICE
from pyswarm_core.state import State
from tests.fixtures.build import NOW
from tests.unit.controller.leader.test_loop_slices import WEB, Brain, Saver, loop_over

LATER = Instant(NOW + SECOND)


class Recording(Brain):
    """Records once when it decided."""

    def decide(self, state: State, dirty: Dirty, now: Instant, ids: IdSource) -> Decision:
        web = state.services[WEB]
        if web.updated_at == LATER:
            return Decision()
        return Decision(Writes(objects=(replace(web, updated_at=LATER),)))


class Remembering(Saver):
    """Remembers the services that it was to save, as they were then."""

    def __init__(self) -> None:
        super().__init__()
        self.saved: list[Instant] = []

    async def save(self, state: State, unsaved: Unsaved) -> dict[str, str]:
        written = unsaved.objects[SERVICE.name]
        self.saved += [state.services[ServiceId(one)].updated_at for one in written]
        return {}


async def test_a_service_that_a_decision_writes_is_saved_and_then_told() -> None:
    saver = Remembering()
    loop = loop_over(saver, Recording(saver))
    told: list[tuple[ServiceId, int]] = []

    def touch(services: Iterable[ServiceId]) -> None:
        told.extend((service_id, len(saver.saved)) for service_id in services)

    with patch.object(loop.watches, "touch", touch):
        await loop._turn()
        await loop._turn()
    assert saver.saved == [LATER]
    assert told == [(WEB, 1)]
