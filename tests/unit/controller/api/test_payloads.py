"""Secrets and configs: versions, who follows them, what is refused, and which agent may read."""

import pytest
from msgspec.structs import replace

from controller.api.changes.removal import remove_object
from controller.api.changes.services import (
    Rollback,
    Update,
    create_service,
    rollback_service,
    update_service,
)
from controller.api.payloads import changes
from controller.api.payloads.changes import New, create_payload, update_payload
from controller.api.payloads.references import fetched
from controller.api.queries.lists import find_all
from controller.api.queries.views import encoded, listed
from controller.brain.slices import finish
from controller.identity.audit import bare_record_of, record_of, target_of
from controller.identity.caller import Caller, CallerKind, Role
from controller.leader.events.made import events_of
from pyswarm_core.decision import Writes
from pyswarm_core.errors import (
    AlreadyExists,
    Conflict,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    PyswarmError,
    Unavailable,
)
from pyswarm_core.ids import NodeId, TaskId
from pyswarm_core.kinds import CONFIG, SECRET, Kind
from pyswarm_core.objects import Service
from pyswarm_core.payloads.limits import CONFIG_BYTES_MAX, SECRET_BYTES_MAX
from pyswarm_core.payloads.payload import Payload, PayloadSpec, Secret
from pyswarm_core.payloads.references import (
    ConfigReference,
    FileTarget,
    Reference,
    SecretReference,
)
from pyswarm_core.specs import ServiceSpec
from pyswarm_core.state import State
from pyswarm_core.states import TaskState, UpdateState
from pyswarm_core.volumes.mounts import Driver
from tests.fixtures import build
from tests.fixtures.build import NOW, Numbered

HIDDEN = b"hunter2-hidden"


class World:
    """A state that requests change one after the other."""

    def __init__(self) -> None:
        self.state = build.state(nodes=build.nodes(2))
        self.ids = Numbered()

    def create(self, kind: Kind = SECRET, name: str = "db", data: bytes = HIDDEN) -> Payload:  # type: ignore[type-arg]
        writes, made = create_payload(
            self.state, kind, New(PayloadSpec(name=name), data), NOW, self.ids
        )
        self.state.apply(writes)
        return made

    def update(self, data: bytes, keep: int | None = None, name: str = "db") -> Writes:
        update = changes.Update(name, data, keep)
        writes, _ = finish(update_payload(self.state, SECRET, update, NOW, self.ids))
        self.state.apply(writes)
        return writes

    def remove(self, ref: str = "db") -> None:
        writes, _ = remove_object(self.state, SECRET, ref, NOW)
        self.state.apply(writes)

    def serve(self, name: str, *references: Reference) -> Service:
        spec = using(build.service(name).spec, *references)
        writes, made = create_service(self.state, spec, (), NOW, self.ids)
        self.state.apply(writes)
        return made

    def service(self, name: str) -> Service:
        return self.state.services[self.state.service_of_name[name]]

    def numbers(self, name: str) -> list[int]:
        spec = self.service(name).spec
        return [one.number for one in spec.task_template.container_spec.references]

    def versions(self, name: str = "db") -> list[int]:
        return sorted(self.state.payloads["secret"].of(name))


def using(spec: ServiceSpec, *references: Reference) -> ServiceSpec:
    container = replace(
        spec.task_template.container_spec,
        secrets=tuple(one for one in references if isinstance(one, SecretReference)),
        configs=tuple(one for one in references if isinstance(one, ConfigReference)),
    )
    return replace(spec, task_template=replace(spec.task_template, container_spec=container))


def secret(name: str = "db", number: int = 0, target: str = "") -> SecretReference:
    file = FileTarget(name=target or name)
    return SecretReference(secret_name=name, number=number, pinned=bool(number), file=file)


@pytest.mark.parametrize(("kind", "most"), [(SECRET, SECRET_BYTES_MAX), (CONFIG, CONFIG_BYTES_MAX)])
def test_the_data_has_docker_s_limits(kind: Kind[Payload, str], most: int) -> None:
    assert most == (512_000 if kind.name == "secret" else 1_024_000)
    World().create(kind, data=b"x" * (most - 1))
    for size in (0, most):
        told = f"{kind.name} data must be larger than 0 and less than {most} bytes"
        with pytest.raises(InvalidArgument, match=told):
            World().create(kind, data=b"x" * size)


@pytest.mark.parametrize("name", ["", "a/b", "../x", "a@2", "-a", "a" * 65, "a b"])
def test_a_name_is_docker_s(name: str) -> None:
    with pytest.raises(InvalidArgument, match="secret name"):
        World().create(name=name)


def test_a_name_is_taken_once_per_kind() -> None:
    world = World()
    world.create()
    world.create(CONFIG)
    with pytest.raises(AlreadyExists, match="secret db already exists"):
        world.create()


def test_there_is_a_limit_of_versions_and_of_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    world.create()
    with monkeypatch.context() as patched:
        patched.setattr(changes, "PAYLOADS_MAX", 1)
        with pytest.raises(Unavailable, match="there are 1 versions of secrets"):
            world.update(b"two")
    monkeypatch.setattr(changes, "PAYLOADS_BYTES_MAX", len(HIDDEN))
    with pytest.raises(Unavailable, match="all secrets would have more than"):
        world.update(b"two")


def test_services_name_the_newest_version_or_the_one_that_they_pin() -> None:
    world = World()
    world.create()
    world.update(b"two", keep=5)
    world.serve("web", secret(), secret(number=1, target="old"))
    assert world.numbers("web") == [2, 1]
    with pytest.raises(NotFound, match="secret not found: none"):
        world.serve("other", secret("none"))
    with pytest.raises(NotFound, match="secret db has no version 7: expected one of 1, 2"):
        world.serve("other", secret(number=7))


def test_an_update_revises_the_services_that_follow_and_no_others() -> None:
    world = World()
    world.create()
    world.create(name="other")
    before = world.serve("web", secret())
    world.serve("pinned", secret(number=1))
    world.serve("none", secret("other"))
    writes = world.update(b"two")
    assert [item.id for item in writes.objects[:-1]] == [before.id]
    assert (world.numbers("web"), world.numbers("pinned")) == ([2], [1])
    web = world.service("web")
    assert web.spec_version == web.template_version == before.spec_version + 1
    assert world.service("none").spec_version == 1
    assert not world.update(b"two").objects  # the same again


def test_the_same_update_again_reaches_services_that_a_leader_has_left() -> None:
    world = World()
    world.create()
    left = world.serve("web", secret())
    world.update(b"two")
    world.state.apply(Writes(objects=(left,)))
    assert world.numbers("web") == [1]
    assert [item.id for item in world.update(b"two").objects] == [left.id]
    assert (world.numbers("web"), world.versions()) == ([2], [1, 2])


def test_a_rollback_returns_to_the_version_and_is_followed_by_no_other_update() -> None:
    world = World()
    world.create()
    world.serve("web", secret())
    world.update(b"two")
    writes, _ = rollback_service(world.state, Rollback("web"), (), NOW, world.ids)
    world.state.apply(writes)
    assert world.numbers("web") == [1]
    world.update(b"three")
    assert world.numbers("web") == [3]


def test_unused_versions_go_and_none_that_a_kept_spec_names() -> None:
    world = World()
    world.create()
    world.update(b"2")
    assert world.versions() == [2]
    world.serve("web", secret())
    world.update(b"3")  # version 2 is in the service's previous spec
    assert world.versions() == [2, 3]
    world.update(b"4", keep=1)
    assert world.versions() == [2, 3, 4]
    world = World()
    world.create()
    for number in range(2, 6):
        world.update(b"%d" % number, keep=2)
    assert world.versions() == [3, 4, 5]


def test_what_is_used_is_not_removed_and_docker_s_error_names_by_whom() -> None:
    world = World()
    world.create()
    world.serve("web", secret())
    with pytest.raises(InvalidArgument) as one:
        world.remove()
    assert str(one.value) == "secret 'db' is in use by the following service: web"
    world.serve("api", secret())
    with pytest.raises(InvalidArgument) as two:
        world.remove()
    assert str(two.value) == "secret 'db' is in use by the following services: api, web"


def test_a_version_of_a_task_that_has_not_ended_is_in_use() -> None:
    world = World()
    world.create()
    made = world.serve("web", secret())
    task = build.task("web.1", node="n1", task_id="t1")
    world.state.apply(Writes(tasks=[replace(task, service_id=made.id)]))
    update = Update("web", made.version, using(made.spec))
    writes, _ = update_service(world.state, update, (), NOW, world.ids)
    world.state.apply(writes)
    with pytest.raises(InvalidArgument, match="in use"):
        world.remove()


def test_a_rollback_to_a_spec_whose_secret_was_removed_is_refused() -> None:
    world = World()
    world.create()
    made = world.serve("web", secret())
    update = Update("web", made.version, using(made.spec))
    writes, _ = update_service(world.state, update, (), NOW, world.ids)
    world.state.apply(writes)
    world.remove()
    with pytest.raises(Conflict, match="secret db@1 of spec version 1 was removed"):
        rollback_service(world.state, Rollback("web"), (), NOW, world.ids)


def test_an_older_version_is_removed_alone_and_the_name_removes_all() -> None:
    world = World()
    world.create()
    world.update(b"2", keep=5)
    world.update(b"3")
    world.remove("db@1")
    assert world.versions() == [2, 3]
    with pytest.raises(InvalidArgument, match="'db@3' is the newest version"):
        world.remove("db@3")
    world.remove()
    assert not world.versions()
    with pytest.raises(NotFound, match=r"^secret db not found$"):
        world.remove()


def test_a_list_has_the_newest_version_of_each_and_no_data() -> None:
    world = World()
    world.create(CONFIG)
    world.create()
    world.update(b"2", keep=5)
    (found,) = finish(find_all(world.state, SECRET, ()))
    assert world.state.of(SECRET)[found].number == 2
    (config,) = finish(find_all(world.state, CONFIG, ("name=d",)))
    shown = listed(world.state, CONFIG, config)
    assert shown is not None
    assert HIDDEN not in shown.value
    assert HIDDEN in encoded(CONFIG, world.state.of(CONFIG)[config]).value


@pytest.mark.parametrize("value", ["abc", "0", "-1", ""])
def test_a_version_to_list_is_a_number_or_a_word(value: str) -> None:
    with pytest.raises(InvalidArgument, match=r"--filter: version .*number, newest or all"):
        finish(find_all(World().state, SECRET, (f"version={value}",)))


def test_an_update_names_no_version() -> None:
    world = World()
    world.create()
    with pytest.raises(InvalidArgument, match=r'"db@1" is not valid: .* expected db$'):
        world.update(b"2", name="db@1")
    assert world.versions() == [1]


def test_nothing_that_others_see_has_the_data_of_a_secret() -> None:
    world = World()
    new = New(PayloadSpec(name="db"), HIDDEN)
    writes, made = create_payload(world.state, SECRET, new, NOW, world.ids)
    root = Caller(CallerKind.ROOT, role=Role.ADMIN)
    target = target_of(world.state, writes)
    assert target is not None
    record = record_of(world.state, writes, target, bare_record_of(target, root, NOW))
    assert isinstance(made, Secret)
    events = events_of(world.state, writes)
    seen = (encoded(SECRET, made), record, events, repr(made), str(target))
    assert not [one for one in seen if HIDDEN.decode() in str(one) or str(HIDDEN) in str(one)]
    (event,) = events
    assert (event.type, event.action, event.name) == ("secret", "create", "db")


class Fetching:
    """A task of a service with a secret and a config, on n1."""

    def __init__(self, state: TaskState = TaskState.PREPARING) -> None:
        self.world = World()
        self.secret = self.world.create()
        self.config = self.world.create(CONFIG)
        self.other = self.world.create(name="other")
        config = ConfigReference(config_name="db", file=FileTarget(name="db"))
        made = self.world.serve("web", secret(), config)
        task = build.task("web.1", node="n1", task_id="t1", state=state)
        self.world.state.apply(Writes(tasks=[replace(task, service_id=made.id)]))

    def fetch(self, node: str, kind: str, ref: str, task: str) -> bytes:
        return fetched(self.world.state, NodeId(node), kind, ref, task).data


def test_the_node_of_a_task_receives_what_the_task_uses() -> None:
    found = Fetching()
    assert found.fetch("n1", "secret", found.secret.id, "t1") == HIDDEN
    assert found.fetch("n1", "config", found.config.id, "t1") == HIDDEN


def test_no_other_node_task_kind_or_version_is_served() -> None:
    found = Fetching()
    for asked in (
        ("n2", "secret", found.secret.id, "t1"),
        ("n1", "secret", found.other.id, "t1"),
        ("n1", "config", found.secret.id, "t1"),
        ("n1", "secret", found.secret.id, "t2"),
        ("n1", "user", found.secret.id, "t1"),
        ("n1", "secret", "", "t1"),
    ):
        with pytest.raises(PermissionDenied):
            found.fetch(*asked)
    with pytest.raises(PyswarmError):
        Fetching(TaskState.COMPLETE).fetch("n1", "secret", found.secret.id, "t1")


def test_a_state_knows_no_version_that_was_removed() -> None:
    state = State(build.state().cluster)
    assert state.payloads["secret"].newest("db") is None


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"hunter2 {{.Task.Name hunter2", "the action from character 9 does not end"),
        (b"hunter2 {{}} hunter2", "an action is not valid: a value is missing"),
        (b'{{.Task.Name "hunter2"}}', "an action is not valid: a value takes no arguments"),
        (b"{{.Task.Name # hunter2}}", "an action is not valid: a part of it is unexpected"),
        (b'{{.Task.Name | "\\hunter2"}}', "an action is not valid: cannot read a string"),
        (b"{{end hunter2}}", "{{else}} or {{end}} without a block before it"),
        (b"hunter2 {{.Task.Nme}}", "field .Task.Nme does not exist"),
        (b'hunter2 {{exec "id"}}', "function exec does not exist"),
        (b"\xffhunter2", "expected UTF-8"),
    ],
)
def test_a_template_is_checked_and_the_error_has_none_of_it(data: bytes, told: str) -> None:
    spec = PayloadSpec(name="db", templating=Driver(name="golang"))
    world = World()
    with pytest.raises(InvalidArgument) as caught:
        create_payload(world.state, SECRET, New(spec, data), NOW, world.ids)
    assert told in str(caught.value)
    assert "hunter2" not in str(caught.value)
    good = New(spec, b'{{secret "x"}} {{env "Y"}} {{"{{"}}')
    create_payload(world.state, SECRET, good, NOW, world.ids)


def updating(world: World) -> Service:
    """A service whose task has version 1 while it is updated to version 2."""
    world.create()
    made = world.serve("web", secret())
    task = build.task("web.1", node="n1", task_id="t1")
    world.state.apply(Writes(tasks=[replace(task, service_id=made.id)]))
    world.update(b"two")
    service = world.service("web")
    assert service.update_status is not None
    assert service.update_status.state is UpdateState.UPDATING
    return service


def test_an_update_while_another_rolls_returns_to_the_last_completed_if_it_fails() -> None:
    world = World()
    updating(world)
    world.update(b"three")
    service = world.service("web")
    assert world.numbers("web") == [3]
    assert service.update_status is not None
    status = service.update_status
    assert (status.state, status.from_version, status.to_version) == (UpdateState.UPDATING, 1, 3)
    assert world.versions() == [1, 2, 3], "a failed update returns to 1; 2 is in an earlier spec"
    writes, _ = rollback_service(world.state, Rollback("web"), (), NOW, world.ids)
    world.state.apply(writes)
    assert world.numbers("web") == [1]


def test_a_version_that_a_failed_update_would_return_to_is_in_use() -> None:
    world = World()
    service = updating(world)
    ended = replace(world.state.tasks[TaskId("t1")], state=TaskState.FAILED)
    world.state.apply(Writes(tasks=[ended]))
    update = Update("web", service.version, using(service.spec))
    writes, _ = update_service(world.state, update, (), NOW, world.ids)
    world.state.apply(writes)
    assert world.numbers("web") == []
    with pytest.raises(InvalidArgument, match="in use by the following service: web"):
        world.remove()
