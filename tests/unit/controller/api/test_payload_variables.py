"""Secrets in the environment: they follow versions as files do; containers keep theirs."""

import pytest
from msgspec.structs import replace

from controller.api.changes.services import create_service
from controller.api.queries.lists import find_all
from controller.brain.revisions import made_from
from controller.brain.slices import finish
from pyswarm_core.errors import InvalidArgument
from pyswarm_core.kinds import SECRET
from pyswarm_core.payloads import syntax
from pyswarm_core.specs import ContainerMode
from tests.fixtures import build
from tests.fixtures.build import NOW
from tests.unit.controller.api.test_payloads import HIDDEN, World, secret, using


def test_a_variable_rolls_with_an_update_and_a_pinned_one_stays() -> None:
    world = World()
    world.create()
    web = world.serve("web", syntax.secret_env("A=db"))
    world.serve("old", syntax.secret_env("A=db@1"))
    world.update(b"next", keep=1)
    assert (world.numbers("web"), world.numbers("old")) == ([2], [1])
    after = world.service("web")
    assert made_from(after.spec) != made_from(web.spec)
    (reference,) = after.spec.task_template.container_spec.secrets
    assert reference.env == "A"
    with pytest.raises(InvalidArgument, match="in use by the following services: old, web"):
        world.remove()


@pytest.mark.parametrize("data", [b"hunter2\0", b"hunter2\xff", b"hunter2" * 20_000])
def test_data_that_no_variable_can_have_is_refused_before_anything_changes(data: bytes) -> None:
    world = World()
    world.create(data=data)
    with pytest.raises(InvalidArgument, match="--secret-env A=db: ") as caught:
        world.serve("web", syntax.secret_env("A=db"))
    assert "hunter2" not in str(caught.value)
    world.create(name="good", data=HIDDEN)
    world.serve("web", syntax.secret_env("A=good"))
    with pytest.raises(InvalidArgument, match="--secret-env A=good: "):
        world.update(data, name="good")
    assert world.versions("good") == [1]
    world.serve("file", secret("db"))
    world.update(data + b"2")


def test_a_container_keeps_the_version_that_it_was_created_with() -> None:
    world = World()
    world.create()
    spec = using(build.service("box").spec, syntax.secret_env("A=db"))
    spec = replace(spec, mode=ContainerMode(), endpoint_spec=build.service("x").spec.endpoint_spec)
    writes, _ = create_service(world.state, spec, (), NOW, world.ids)
    world.state.apply(writes)
    world.update(b"next")
    assert (world.numbers("box"), world.versions()) == ([1], [1, 2])


def test_a_list_has_the_newest_versions_and_others_on_request() -> None:
    world = World()
    world.create()
    world.create(name="key")
    world.update(b"next", keep=1)

    def titles(*given: str) -> list[str]:
        found = finish(find_all(world.state, SECRET, given))
        return sorted(world.state.of(SECRET)[one].title for one in found)

    assert titles() == titles("version=newest") == ["db@2", "key@1"]
    assert titles("version=all") == ["db@1", "db@2", "key@1"]
    assert titles("version=1", "name=db") == ["db@1"]
    assert titles("version=7") == []
