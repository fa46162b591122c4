"""`secret update --reload`: running containers get the version; no task is replaced."""

import pytest
from msgspec.structs import replace

from controller.api.changes.services import Rollback, rollback_service
from controller.api.payloads import changes
from controller.api.payloads.changes import update_payload
from controller.api.payloads.references import fetched
from controller.brain.revisions import in_place, made_from
from controller.brain.slices import finish
from pyswarm_core.decision import Writes
from pyswarm_core.errors import InvalidArgument, PermissionDenied
from pyswarm_core.indexes.in_place import awaits_in_place
from pyswarm_core.kinds import CONFIG, SECRET
from pyswarm_core.payloads import syntax
from tests.fixtures import build
from tests.fixtures.build import NOW
from tests.unit.controller.api.test_payloads import World, secret


class Live(World):
    """Services whose secrets change while they run."""

    def reload(self, data: bytes, signal: str = "HUP", name: str = "db") -> None:
        update = changes.Update(name, data, None, signal)
        kind = SECRET if self.state.payloads["secret"].of(name) else CONFIG
        writes, _ = finish(update_payload(self.state, kind, update, NOW, self.ids))
        self.state.apply(writes)

    def back(self, name: str) -> None:
        service = self.service(name)
        writes, _ = rollback_service(self.state, Rollback(name), (), NOW, self.ids)
        self.state.apply(writes)
        assert self.service(name).spec_version > service.spec_version


def world_with_a_task() -> Live:
    world = Live()
    world.create()
    service = world.serve("web", secret())
    task = replace(build.task("web.1", node="n1"), service_id=service.id)
    world.state.apply(Writes(tasks=[task]))
    return world


def test_tasks_stay_and_their_agents_get_the_version() -> None:
    world = world_with_a_task()
    world.reload(b"next")
    after = world.service("web")
    assert (world.numbers("web"), after.is_current(1)) == ([2], True)
    assert (after.template_version, after.in_place_version) == (1, 2)
    (task,) = world.state.tasks.values()
    assert awaits_in_place(after, task)
    assert after.update_status is not None
    assert after.update_status.to_version == 2
    (reference,) = after.spec.task_template.container_spec.secrets
    assert reference.reload == "HUP"
    world.reload(b"third", "none")
    assert world.service("web").is_current(1)
    assert world.numbers("web") == [3]


def test_an_update_without_it_replaces_the_tasks_again() -> None:
    world = world_with_a_task()
    world.reload(b"next")
    world.update(b"third")
    after = world.service("web")
    assert (world.numbers("web"), after.is_current(1), after.is_current(2)) == ([3], False, False)
    (reference,) = after.spec.task_template.container_spec.secrets
    assert (reference.made_with, reference.reload) == ("", "")


def test_a_rollback_returns_to_the_version_in_running_containers() -> None:
    world = world_with_a_task()
    before = world.service("web").spec
    world.reload(b"next")
    during = world.service("web").spec
    assert made_from(before) == made_from(during)
    assert in_place(before) != in_place(during)
    world.back("web")
    after = world.service("web")
    assert (world.numbers("web"), after.is_current(1), after.in_place_version) == ([1], True, 3)


def test_an_agent_may_read_the_versions_that_its_container_may_be_getting() -> None:
    world = world_with_a_task()
    (task,) = world.state.tasks.values()
    versions = world.state.payloads["secret"].of("db")
    first = versions[1]
    for number in (2, 3):
        world.reload(b"%d" % number)
    versions = world.state.payloads["secret"].of("db")
    for number in sorted(versions):
        found = fetched(world.state, task.node_id, "secret", versions[number], task.id)
        assert found.number == number
    assert first in versions.values()
    world.update(b"rolled")
    newest = world.state.payloads["secret"].newest("db")
    with pytest.raises(PermissionDenied):
        fetched(world.state, task.node_id, "secret", str(newest), task.id)


@pytest.mark.parametrize(
    ("reference", "told"),
    [
        (secret(target="/etc/db"), 'service "web" has secret db at /etc/db, which does not change'),
        (syntax.secret_env("A=db"), 'service "web" has secret db in variable A, which does not'),
    ],
)
def test_what_cannot_change_is_refused_with_the_service(reference: object, told: str) -> None:
    world = Live()
    world.create()
    world.serve("web", reference)  # type: ignore[arg-type]
    with pytest.raises(InvalidArgument, match=told):
        world.reload(b"next")
    assert world.versions() == [1]
    world.update(b"next")


def test_a_config_needs_a_target_below_run_secrets() -> None:
    world = Live()
    world.create(CONFIG, name="conf")
    world.serve("web", syntax.config("source=conf,target=/run/secrets/conf"))
    world.reload(b"next", name="conf")
    assert world.numbers("web") == [2]
    world.serve("other", syntax.config("conf"))
    with pytest.raises(InvalidArgument, match='service "other" has config conf at /conf'):
        world.reload(b"third", name="conf")


def test_the_signal_is_one() -> None:
    world = world_with_a_task()
    with pytest.raises(InvalidArgument, match="--reload"):
        world.reload(b"next", "HANGUP")


@pytest.mark.parametrize(
    ("text", "signal"), [("signal=HUP", "HUP"), ("none", "none"), ("signal=none", "none")]
)
def test_the_form_of_reload(text: str, signal: str) -> None:
    assert syntax.reload(text) == signal


@pytest.mark.parametrize("text", ["", "HUP", "signal=", "sig=HUP"])
def test_other_forms_are_refused(text: str) -> None:
    with pytest.raises(InvalidArgument, match="--reload"):
        syntax.reload(text)
