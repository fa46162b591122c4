"""Creating, using and removing volumes: what changes, and what is refused."""

from collections.abc import Iterator
from typing import NoReturn

import pytest
from msgspec.structs import replace

from controller.api.changes.nodes import remove_node
from controller.api.changes.removal import remove_object
from controller.api.changes.services import create_service, remove_service
from controller.api.changes.volumes import (
    copies_of,
    copies_removed,
    create_volume,
    remove_volume,
    warnings,
)
from controller.api.queries.lists import find_all
from controller.brain.slices import finish
from controller.identity.differences import differences
from pyswarm_core.decision import Writes
from pyswarm_core.docker.volumes import of_volume
from pyswarm_core.errors import AlreadyExists, Conflict, InvalidArgument, NotFound, Unavailable
from pyswarm_core.ids import NodeId, ServiceId
from pyswarm_core.indexes.columns import pack_ids
from pyswarm_core.kinds import SERVICE, VOLUME
from pyswarm_core.objects import Service
from pyswarm_core.specs import ContainerMode, UpdateConfig, UpdateOrder
from pyswarm_core.state import State
from pyswarm_core.states import NodeState, TaskState
from pyswarm_core.volumes.mounts import Mount, MountType
from pyswarm_core.volumes.volume import ANONYMOUS, Volume, VolumePlacement, VolumeSpec
from tests.fixtures import build
from tests.fixtures.build import NOW, Numbered, service, task, volume, with_mount

DATA = VolumeSpec(name="data")


def state(*objects: Service | Volume) -> State:
    found = build.state(nodes=build.nodes(2))
    found.apply(Writes(objects=objects))
    return found


def mounting(name: str, volume_name: str) -> Service:
    made = service(name)
    return replace(made, spec=with_mount(made.spec, volume_name))


def volumes(found: State) -> dict[str, Volume]:
    return {one.spec.name: one for one in found.of(VOLUME).values()}


def test_a_volume_is_created_once_and_a_second_request_is_the_same() -> None:
    found = state()
    writes, made = create_volume(found, DATA, NOW, Numbered())
    assert (made.spec, made.copies) == (DATA, ())
    found.apply(writes)
    again, same = create_volume(found, DATA, NOW, Numbered(5))
    assert (again, same) == (Writes(), made)


def test_one_that_differs_is_refused() -> None:
    found = state(volume("data"))
    other = replace(DATA, placement=VolumePlacement.ANY)
    told = "a volume named data already exists with the placement pinned"
    with pytest.raises(AlreadyExists, match=told):
        create_volume(found, other, NOW, Numbered())
    with pytest.raises(InvalidArgument, match="expected one of local, nfs, cifs"):
        create_volume(found, replace(DATA, driver="rexray"), NOW, Numbered())


def test_a_password_is_stored_apart_and_shown_to_nobody() -> None:
    found = state()
    options = {"share": "//nas/media", "o": "username=u,password=geheim"}
    spec = VolumeSpec(name="media", driver="cifs", driver_opts=options)
    writes, made = create_volume(found, spec, NOW, Numbered())
    assert made.full_driver.options == options
    shown = VOLUME.shown(made)
    assert shown.spec.driver_opts["o"] == "username=u,password=***"
    assert "geheim" not in str(shown)
    assert "geheim" not in str(of_volume(made, str))
    changes = list(differences(None, shown)) + list(differences(None, made))
    assert "geheim" not in str(changes)
    found.apply(writes)
    assert create_volume(found, spec, NOW, Numbered(5)) == (Writes(), made)
    other = replace(spec, driver_opts={**options, "o": "username=u,password=anderes"})
    with pytest.raises(AlreadyExists, match="already exists with another password"):
        create_volume(found, other, NOW, Numbered())


def test_without_a_name_it_gets_one_and_is_anonymous() -> None:
    _, made = create_volume(state(), VolumeSpec(name=""), NOW, Numbered())
    assert len(made.spec.name) == 64
    assert made.is_anonymous


def test_there_is_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("controller.api.changes.volumes.VOLUMES_MAX", 1)
    with pytest.raises(Unavailable, match="there are 1 volumes, which is the limit"):
        create_volume(state(volume("other")), DATA, NOW, Numbered())


def test_one_without_a_copy_is_removed_at_once() -> None:
    found = state(volume("data"))
    writes, _ = remove_object(found, VOLUME, "data", NOW)
    found.apply(writes)
    assert not volumes(found)
    with pytest.raises(NotFound, match="no such volume"):
        remove_volume(found, "data", NOW)


def test_one_with_copies_goes_when_its_last_node_has_deleted_its_own() -> None:
    found = state(volume("data", "n1", "n2", "gone"))
    writes, left = remove_volume(found, "data", NOW)
    assert (left.removing, left.copies) == (True, ("n1", "n2"))
    found.apply(writes)
    assert "data" not in found.ids_of_names(VOLUME)
    assert found.copies.to_remove(NodeId("n1")) == ["data"]
    create_volume(found, DATA, NOW, Numbered())  # its name is free
    for node_id in ("n1", "n2"):
        assert volumes(found)
        change = copies_removed(NodeId(node_id), [left.id])
        found.apply(change(found, NOW, Numbered())[0])
    assert not volumes(found)


def test_a_node_reports_only_its_own_removals() -> None:
    name = "v" * 25
    found = state(replace(volume(name, "n1"), removing=True))
    assert copies_of(found, NodeId("n1"), pack_ids([name])) == [name]
    assert copies_of(found, NodeId("n2"), pack_ids([name])) == []
    assert copies_of(found, NodeId("n1"), b"short") == []
    assert copies_of(found, NodeId("n1"), b"\xff" * 25) == []
    kept = state(volume(name, "n1"))
    assert copies_of(kept, NodeId("n1"), pack_ids([name])) == []


def test_one_in_use_is_refused_with_its_users() -> None:
    found = state(volume("data", "n1"), mounting("db", "data"), mounting("web", "data"))
    with pytest.raises(Conflict, match=r"volume is in use - \[db, web\]"):
        remove_volume(found, "data", NOW)


class _Unwalked(dict[ServiceId, Service]):
    """Services that are looked up, and never walked through."""

    def __iter__(self) -> Iterator[ServiceId]:
        raise AssertionError("all services are looked at")

    def values(self) -> NoReturn:
        raise AssertionError("all services are looked at")

    items = keys = values


def test_its_removal_and_a_list_look_at_its_users_alone() -> None:
    found = state(volume("data", "n1"), volume("logs", "n1"), mounting("db", "data"))
    found.services = _Unwalked(found.services)
    with pytest.raises(Conflict, match=r"\[db\]"):
        remove_volume(found, "data", NOW)
    assert remove_volume(found, "logs", NOW)[1].removing
    assert named(found, "dangling=true") == ["logs"]


def test_the_services_that_may_mount_a_volume_are_found_by_their_templates_too() -> None:
    found = state()
    slots, both = mounting("db", "data-{{.Task.Slot}}"), mounting("web", "data-{{.Service.Name}}")
    both = replace(both, spec=with_mount(both.spec, "data-{{.Task.Slot}}", "/more"))
    found.apply(Writes(objects=(slots, both, mounting("any", "{{.Task.Slot}}"))))
    found.apply(Writes(objects=(mounting("named", "data-1"), mounting("other", "logs"))))
    assert {*found.copies.mounting("data-1")} == {"db", "web", "any", "named"}
    assert {*found.copies.mounting("data")} == {"any"}
    assert {*found.copies.mounting("logs")} == {"any", "other"}
    found.apply(Writes(objects=(replace(both, spec=with_mount(service("web").spec, "data-1")),)))
    assert {*found.copies.mounting("data-1")} == {"db", "web", "any", "named"}
    for name in ("db", "any", "web"):
        found.apply(Writes(removed=(SERVICE.object_name(ServiceId(name)),)))
    assert {*found.copies.mounting("data-1")} == {"named"}


def test_what_a_node_is_to_delete_is_looked_up() -> None:
    data, logs = volume("data", "n1", "n2"), volume("logs", "n1")
    found = state(data, logs)
    n1, n2 = NodeId("n1"), NodeId("n2")
    assert [found.copies.to_remove(one) for one in (n1, n2)] == [[], []]
    found.apply(Writes(objects=(replace(data, removing=True),)))
    assert [found.copies.to_remove(one) for one in (n1, n2)] == [["data"], ["data"]]
    found.apply(Writes(objects=(replace(data, removing=True, copies=(n2,)),)))
    assert [found.copies.to_remove(one) for one in (n1, n2)] == [[], ["data"]]
    found.apply(Writes(removed=(VOLUME.object_name(data.id),)))
    assert [found.copies.to_remove(one) for one in (n1, n2)] == [[], []]


def test_a_task_of_an_earlier_spec_uses_it_until_it_has_ended() -> None:
    old, new = mounting("db", "data"), replace(service("db"), spec_version=2, template_version=2)
    previous = build.updating(new, old.spec)
    found = state(volume("data", "n1"), previous)
    found.apply(Writes(tasks=[task("db.1", node="n1", state=TaskState.RUNNING)]))
    with pytest.raises(Conflict, match=r"in use - \[db\]"):
        remove_volume(found, "data", NOW)
    found.apply(Writes(tasks=[task("db.1", node="n1", state=TaskState.SHUTDOWN)]))
    assert remove_volume(found, "data", NOW)[1].removing


def named(found: State, *filters: str) -> list[str]:
    return [found.of(VOLUME)[one].spec.name for one in finish(find_all(found, VOLUME, filters))]


def test_lists_have_dockers_filters_and_no_removed_ones() -> None:
    removed = replace(volume("gone", "n1"), removing=True)
    found = state(volume("data", "n1"), volume("logs"), removed, mounting("db", "data"))
    assert named(found) == ["data", "logs"]
    assert named(found, "dangling=true") == ["logs"]
    assert named(found, "dangling=false") == ["data"]
    assert named(found, "name=og") == ["logs"]
    assert named(found, "driver=local") == ["data", "logs"]
    assert named(found, "node=n1") == ["data"]


def test_anonymous_volumes_of_a_container_have_names_and_those_of_a_service_do_not() -> None:
    for mode, length in ((ContainerMode(), 64), (service("x").spec.mode, 0)):
        spec = replace(with_mount(service("job").spec, ""), mode=mode)
        _, made = create_service(state(), spec, (), NOW, Numbered())
        (mount,) = made.spec.task_template.container_spec.mounts
        assert len(mount.source) == length
        if length:
            assert mount.volume_options is not None
            assert ANONYMOUS in mount.volume_options.labels


def test_a_bind_is_left_as_it_is() -> None:
    spec = service("job").spec
    bind = Mount(type=MountType.BIND, source="/srv", target="/srv")
    container = replace(spec.task_template.container_spec, mounts=(bind,))
    template = replace(spec.task_template, container_spec=container)
    spec = replace(spec, mode=ContainerMode(), task_template=template)
    _, made = create_service(state(), spec, (), NOW, Numbered())
    assert made.spec.task_template.container_spec.mounts == (bind,)


def test_rm_v_marks_the_container() -> None:
    job = build.container("job")
    found = state(job)
    assert remove_service(found, "job", NOW)[1].remove_volumes is False
    assert remove_service(found, "job", NOW, volumes=True)[1].remove_volumes is True


def test_start_first_is_warned_of_if_slots_write() -> None:
    spec = mounting("db", "data").spec
    config = UpdateConfig(order=UpdateOrder.START_FIRST)
    told = "--update-order start-first: slots with a writable volume are updated stop-first"
    assert warnings(replace(spec, update_config=config)) == [told]
    assert warnings(spec) == []
    assert warnings(replace(service("web").spec, update_config=config)) == []


def test_a_node_with_the_only_copy_is_removed_by_force_alone() -> None:
    found = state(
        volume("data", "n1"),
        replace(volume("logs", "n1"), spec=VolumeSpec(name="logs", placement=VolumePlacement.ANY)),
        replace(volume("old", "n1"), removing=True),
    )
    down = found.nodes[NodeId("n1")]
    down = replace(down, status=replace(down.status, state=NodeState.DOWN))
    found.apply(Writes(objects=(down,)))
    with pytest.raises(Conflict, match="has the only copies of volumes data, which would be lost"):
        remove_node(found, "n1", force=False)
    writes, _ = remove_node(found, "n1", force=True)
    found.apply(writes)
    assert {name: one.copies for name, one in volumes(found).items()} == {
        "data": ("n1",),  # its tasks start on no other copy
        "logs": (),
    }
