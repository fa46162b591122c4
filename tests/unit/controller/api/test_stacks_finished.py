"""What the leader completes of stacks: when it may, and what it waits for."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from msgspec.structs import replace

from controller.api.stacking import changes
from controller.api.stacking.apply import apply_stack
from controller.api.stacking.finish import finish_stack, remove_stack, rollback_stack
from controller.brain.slices import finish
from pyswarm_core.decision import Writes
from pyswarm_core.ids import TaskId
from pyswarm_core.kinds import CONFIG, SECRET, SERVICE, STACK
from pyswarm_core.objects import Task, Version
from pyswarm_core.stacks.changes import ApplyStack
from pyswarm_core.stacks.limits import STACK_SLICE
from pyswarm_core.stacks.stack import Stack
from pyswarm_core.state import State
from tests.fixtures import build
from tests.fixtures.build import NOW
from tests.fixtures.stacks import IDS, actions, applied, payload, service, stack

WITH_PAGE = stack(
    "shop",
    service("shop", "web", config="page"),
    secrets=(payload("shop", "key", b"one"),),
    configs=(payload("shop", "page", b"<html>"),),
)
WITHOUT = stack("shop", service("shop", "web"))


def the_stack(state: State) -> Stack:
    return next(iter(state.of(STACK).values()))


def finished(state: State, version: Version | None = None) -> Stack:
    """The stack after a step of the leader's, which saw that version."""
    stored = the_stack(state).version if version is None else version
    writes, _ = finish(finish_stack(state, the_stack(state).id, (), NOW, IDS, stored=stored))
    state.apply(writes)
    return the_stack(state)


def test_an_apply_after_the_version_that_was_seen_stays_marked() -> None:
    state = build.state()
    applied(state, WITH_PAGE)
    finished(state)
    seen = the_stack(state).version
    applied(state, WITHOUT)
    assert finished(state, seen).applying, "the store may not have its services"
    assert not finished(state).applying


def test_what_completes_an_apply_is_stored_before_the_mark_goes() -> None:
    state = build.state()
    applied(state, WITH_PAGE)
    (web,) = state.services
    state.apply(Writes(removed=(SERVICE.object_name(web),)))
    assert finished(state).applying, "its services may be stored in several parts"
    assert [one.spec.name for one in state.services.values()] == ["shop_web"]
    assert not finished(state).applying


def old_task(state: State) -> Task:
    """A task that runs and was made from the first version of the service."""
    (web,) = state.services.values()
    return replace(build.task("web.1", node="n1", task_id="old"), service_id=web.id)


def test_what_is_pruned_goes_once_no_outdated_task_uses_it() -> None:
    state = build.state(nodes=[build.node("n1")])
    applied(state, WITH_PAGE)
    state.apply(Writes(tasks=[old_task(state)]))
    applied(state, WITHOUT, prune=True)
    finished(state)
    assert [one.name for one in finished(state).leaving] == ["shop_page"]
    assert not state.of(SECRET), "no task uses it"
    assert len(state.of(CONFIG)) == 1
    (web,) = state.services.values()
    updated = replace(web, update_status=None)
    state.apply(Writes(objects=(updated,), removed_tasks=[TaskId("old")]))
    assert not finished(state).leaving
    assert not state.of(CONFIG)


def test_what_is_pruned_and_the_spec_of_another_names_stays() -> None:
    state = build.state()
    applied(state, WITH_PAGE)
    other = replace(WITH_PAGE.services[0], name="tool", labels={})
    (web,) = state.services.values()
    template = replace(other.task_template, container_spec=web.spec.task_template.container_spec)
    tool = build.service("tool", spec=template)
    state.apply(Writes(objects=(tool,)))
    applied(state, WITHOUT, prune=True)
    finished(state)
    assert not finished(state).leaving
    assert len(state.of(CONFIG)) == 1


def test_a_rollback_records_the_versions_that_exist() -> None:
    state = build.state()
    applied(state, WITH_PAGE)
    page = stack("shop", service("shop", "web", config="page"), configs=WITH_PAGE.configs)
    applied(state, page, prune=True)
    finished(state)
    finished(state)
    assert not state.of(SECRET)
    target = the_stack(state).id
    writes, _ = finish(rollback_stack(state, target, 1, (), now=NOW, ids=IDS))
    state.apply(writes)
    content = the_stack(state).spec
    assert not content.secrets, "it was removed, and no service needs it"
    assert [one.spec.name for one in content.configs] == ["shop_page"]


def test_a_leader_that_begins_moves_a_port_from_what_was_pruned() -> None:
    state = build.state()
    applied(state, stack("shop", service("shop", "old", port=8080)))
    finished(state)
    after = stack("shop", service("shop", "new", port=8080))
    request = ApplyStack(spec=after, prune=True)
    writes, _ = finish(apply_stack(state, request, (), NOW, IDS))
    marked = tuple(one for one in writes.objects if isinstance(one, Stack))
    state.apply(Writes(objects=marked))  # its leader died then
    finished(state)
    assert list(state.service_of_name) == ["shop_new"]


def test_a_removal_looks_at_a_bounded_number_of_services_at_once() -> None:
    state = build.state()
    reply = applied(state, stack("shop", *(service("shop", f"s{n}") for n in range(50))))
    assert reply.stack is not None
    writes, _ = finish(remove_stack(state, "shop", NOW, IDS, volumes=False))
    state.apply(writes)
    steps = list(finish_stack(state, reply.stack.id, (), NOW, IDS))
    assert len(steps) >= 50 / STACK_SLICE


def test_what_is_pruned_goes_also_after_an_apply_without_prune() -> None:
    state = build.state(nodes=[build.node("n1")])
    applied(state, WITH_PAGE)
    state.apply(Writes(tasks=[old_task(state)]))
    applied(state, WITHOUT, prune=True)
    finished(state)
    finished(state)
    applied(state, stack("shop", service("shop", "web", "web:2")), services=("shop_web",))
    reply = applied(state, stack("shop", service("shop", "web", "web:3")))
    assert actions(reply)["shop_page"] == "removed"
    finished(state)
    assert [one.name for one in finished(state).leaving] == ["shop_page"]
    (web,) = state.services.values()
    bare = replace(web, update_status=None, previous_specs=())
    state.apply(Writes(objects=(bare,), removed_tasks=[TaskId("old")]))
    assert not finished(state).leaving
    assert not state.of(CONFIG)


def test_what_is_pruned_and_in_the_file_again_stays() -> None:
    state = build.state(nodes=[build.node("n1")])
    applied(state, WITH_PAGE)
    state.apply(Writes(tasks=[old_task(state)]))
    applied(state, WITHOUT, prune=True)
    finished(state)
    applied(state, WITH_PAGE)
    assert not the_stack(state).leaving
    finished(state)
    assert state.of(CONFIG)


def test_an_apply_without_changes_is_none_while_something_leaves() -> None:
    state = build.state(nodes=[build.node("n1")])
    applied(state, WITH_PAGE)
    state.apply(Writes(tasks=[old_task(state)]))
    applied(state, WITHOUT, prune=True)
    finished(state)
    before = finished(state)
    assert before.leaving
    applied(state, WITHOUT)
    assert the_stack(state) == before


async def test_a_stack_whose_completion_fails_holds_up_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its error would end the term, and that of each leader after."""
    state = build.state()
    bad, good = (applied(state, stack(name, service(name, "web"))).stack for name in ("a", "b"))
    assert bad is not None
    assert good is not None
    done = asyncio.Event()

    async def submit(change: Any, *_: object) -> None:
        writes, _ = finish(change(state, NOW, IDS))
        state.apply(writes)

    def completed(state: State, stack_id: str, *_: object, **__: object) -> Any:
        if stack_id == bad.id:
            raise KeyError(stack_id)
        done.set()
        return finish_stack(state, good.id, (), NOW, IDS)

    monkeypatch.setattr(changes, "finish_stack", completed)
    monkeypatch.setattr(changes, "LOOK_PERIOD_S", 0.0)
    leader: Any = SimpleNamespace(state=state, submit=submit)
    finishing = asyncio.create_task(changes.finish_stacks(leader, tuple))
    async with asyncio.timeout(30):
        await done.wait()
    finishing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await finishing
