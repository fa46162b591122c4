"""A new kind of objects is one entry of the table: every layer treats it like the others.

The layers are real: the loop with its saver over a store in memory, gRPC on a socket, the CLI.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import grpc
import pytest

from cli.main import run
from controller.api.queries.info import ControllerFacts
from controller.brain.decide import decide
from controller.grpc.calls import ErrorsToStatus
from controller.grpc.control import Control
from controller.identity.caller import ANONYMOUS
from controller.leader.election import Term
from controller.leader.loop import Loop
from controller.leader.persistence.loading import load
from controller.leader.persistence.saving import Saver
from controller.leader.tools import Tools
from controller.metrics import Metrics
from controller.store.base import Put, Txn
from controller.store.memory import MemoryKv
from controller.store.memory_store import MemoryStore
from pyswarm_core.api.v1 import control_pb2_grpc
from pyswarm_core.clock import Instant
from pyswarm_core.decision import Writes
from pyswarm_core.ids import IdSource
from pyswarm_core.keys import Keys
from pyswarm_core.kinds import KINDS
from pyswarm_core.objects import Cluster, Version
from pyswarm_core.state import State
from tests.fixtures.build import NOW, Numbered
from tests.fixtures.desk import StoppedClock
from tests.fixtures.envelopes import FixedAutolock, counted_nonces
from tests.fixtures.gadgets import GADGET, Gadget, GadgetId, GadgetSpec
from tests.sim.view import View

KEYS = Keys()


class Fleet:
    """A controller that leads, with a store in memory, and its CLI."""

    controller = "c1"
    leader = "192.0.2.1:2377"

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.kv = MemoryKv()
        self.envelope = counted_nonces()
        self.store = MemoryStore(self.kv, StoppedClock())
        self._capsys = capsys
        self._loop: Loop | None = None
        self._running: asyncio.Task[None] | None = None

    def current(self) -> Any:
        assert self._loop is not None
        return self._loop

    async def lead(self) -> State:
        """Begin a term with what the store holds."""
        await self.end()
        lease = await self.store.grant_lease(2)
        won = await self.store.commit(Txn((), (Put(KEYS.leader, b"me", lease.id),)))
        term = Term(lease.id, 2, won.revision, won.revision, NOW)
        saver = Saver(self.store, KEYS, term, b"me", envelope=self.envelope, on_error=Mock())
        nobody: Any = Mock()  # no host is probed here
        tools = Tools(
            decide, saver, StoppedClock(), Numbered(), Metrics(), (), echoes=lambda _: nobody
        )
        loaded = await load(self.store, KEYS, self.envelope, lambda: Cluster(id="fleet"), NOW)
        self._loop = Loop(loaded, tools)
        self._running = asyncio.create_task(self._loop.run())
        return loaded.state

    async def end(self) -> None:
        if self._running is not None:
            self._running.cancel()
            with suppress(asyncio.CancelledError):
                await self._running

    async def put(self, spec: GadgetSpec, gadget_id: str = "") -> Gadget:
        """Create it, or give the one of that id another spec."""

        def change(state: State, now: Instant, ids: IdSource) -> tuple[Writes, Gadget]:
            gadget = Gadget(
                id=GadgetId(gadget_id or ids.draw(1)[0]),
                spec=spec,
                version=Version(index=1),
                created_at=now,
                updated_at=now,
            )
            return Writes(objects=(gadget,)), gadget

        gadget: Gadget = await self.current().submit(change, ANONYMOUS)
        return gadget

    async def pyswarm(self, *arguments: str) -> str:
        """What the command prints; of one that fails, its error."""
        code = await asyncio.to_thread(run, arguments)
        shown = self._capsys.readouterr()
        assert bool(code) == bool(shown.err)
        return shown.err or shown.out


@pytest.fixture
async def fleet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> AsyncIterator[Fleet]:
    monkeypatch.setitem(KINDS, GADGET.name, GADGET)
    monkeypatch.setenv("PYSWARM_HOST", f"unix://{tmp_path}/api.sock")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    fleet = Fleet(capsys)
    await fleet.lead()
    server = grpc.aio.server(interceptors=[ErrorsToStatus(Numbered())])
    facts = ControllerFacts(version="1.2.3", store="none", join_addr=fleet.leader)
    control = Control(fleet, StoppedClock(), facts, list, FixedAutolock())
    control_pb2_grpc.add_ControlServicer_to_server(control, server)
    server.add_insecure_port(f"unix://{tmp_path}/api.sock")
    await server.start()
    yield fleet
    await server.stop(None)
    await fleet.end()


FAN = GadgetSpec(name="fan", labels={"room": "1"}, data=b"sesame")
LAMP = GadgetSpec(name="lamp", labels={"room": "2"})


async def test_it_is_saved_and_loaded_by_the_next_leader(fleet: Fleet) -> None:
    fan = await fleet.put(FAN)
    assert KEYS.object(GADGET, fan.id) == b"/pyswarm/gadget/" + fan.id.encode()
    stored = await fleet.store.get(KEYS.object(GADGET, fan.id))
    assert stored is not None
    state = await fleet.lead()
    assert state.of(GADGET) == {fan.id: fan}
    assert state.ids_of_names(GADGET) == {"fan": fan.id}


async def test_it_is_listed(fleet: Fleet) -> None:
    lamp, fan = await fleet.put(LAMP), await fleet.put(FAN)
    when = "2023-11-14T22:13:20.000000000Z"
    assert [line.split() for line in (await fleet.pyswarm("gadget", "ls")).splitlines()] == [
        ["ID", "NAME", "CREATED", "UPDATED"],
        [fan.id, "fan", when, when],
        [lamp.id, "lamp", when, when],
    ]
    assert await fleet.pyswarm("gadget", "ls", "-q", "-f", "label=room=2") == f"{lamp.id}\n"
    assert await fleet.pyswarm("gadget", "ls", "-q", "-f", f"id={fan.id}") == f"{fan.id}\n"
    assert await fleet.pyswarm("gadget", "ls", "--format", "{{.Name}}") == "fan\nlamp\n"
    assert "expected one of id, label, name" in await fleet.pyswarm("gadget", "ls", "-f", "x=1")


async def test_it_is_inspected_without_what_is_sensitive(fleet: Fleet) -> None:
    fan = await fleet.put(FAN)
    for ref in ("fan", fan.id, fan.id[:24]):
        (document,) = json.loads(await fleet.pyswarm("gadget", "inspect", ref))
        assert document["ID"] == fan.id
        assert document["Spec"] == {"Name": "fan", "Labels": {"room": "1"}}
    assert await fleet.pyswarm("gadget", "inspect", "-f", "{{.Spec.Name}}", "fan") == "fan\n"
    assert 'no such gadget: "lamp"' in await fleet.pyswarm("gadget", "inspect", "lamp")


async def test_it_is_told_of_in_events(fleet: Fleet) -> None:
    fan = await fleet.put(FAN)
    await fleet.put(GadgetSpec(name="fan"), fan.id)
    await fleet.pyswarm("gadget", "rm", "fan")
    form = ("--format", "{{.Type}} {{.Action}} {{.Name}} {{.ID}}")
    told = await fleet.pyswarm("events", "--until", "1s", "--filter", "type=gadget", *form)
    assert told.splitlines() == [f"gadget {what} fan {fan.id}" for what in _ACTIONS]
    assert await fleet.pyswarm("events", "--until", "1s", "-f", "gadget=fan", *form) == told


_ACTIONS = ("create", "update", "remove")


async def test_it_is_removed(fleet: Fleet) -> None:
    fan, lamp = await fleet.put(FAN), await fleet.put(LAMP)
    assert await fleet.pyswarm("gadget", "rm", "fan") == "fan\n"
    assert 'no such gadget: "fan"' in await fleet.pyswarm("gadget", "rm", "fan")
    assert await fleet.store.get(KEYS.object(GADGET, fan.id)) is None
    assert (await fleet.lead()).of(GADGET) == {lamp.id: lamp}


async def test_a_new_name_frees_the_old_one(fleet: Fleet) -> None:
    fan = await fleet.put(FAN)
    await fleet.put(GadgetSpec(name="breeze"), fan.id)
    assert await fleet.pyswarm("gadget", "ls", "--format", "{{.Name}}") == "breeze\n"
    assert "no such gadget" in await fleet.pyswarm("gadget", "inspect", "fan")


async def test_one_that_cannot_be_read_is_left_out_told_of_and_can_be_removed(
    fleet: Fleet,
) -> None:
    fan, lamp = await fleet.put(FAN), await fleet.put(LAMP)
    key = KEYS.object(GADGET, fan.id)
    await fleet.store.commit(Txn((), (Put(key, b"\xff\xff\xff"),)))
    state = await fleet.lead()
    assert list(state.of(GADGET)) == [lamp.id]
    assert list(state.unreadable) == [f"gadget/{fan.id}"]
    assert f"gadget {fan.id} cannot be read" in await fleet.pyswarm("why", fan.id)
    assert f"gadget quarantine {fan.id}" in await fleet.pyswarm("events", "--until", "1s")
    await fleet.pyswarm("gadget", "rm", fan.id)
    assert not state.unreadable
    assert await fleet.store.get(key) is None


async def test_one_that_cannot_be_stored_is_quarantined(fleet: Fleet) -> None:
    fan = await fleet.put(GadgetSpec(name="fan", data=b"x" * 2_000_000))
    assert fleet.current().quarantine.ids() == {fan.id}
    assert f"gadget quarantine {fan.id}" in await fleet.pyswarm("events", "--until", "1s")


async def test_the_simulator_s_view_follows_it(fleet: Fleet) -> None:
    view = View(fleet.kv)
    fan = await fleet.put(FAN)
    txn = Txn((), (Put(KEYS.object(GADGET, fan.id), b""),))
    change = view.take(Mock(), txn, Mock())
    assert change.of(GADGET) == [(None, fan)]
    assert view.of(GADGET) == {fan.id: fan}


async def test_a_kind_that_is_none_is_refused(fleet: Fleet) -> None:
    told = await fleet.pyswarm("gadgit", "ls")
    assert '"gadgit" is not a command of pyswarm' in told
