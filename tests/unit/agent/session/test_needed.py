"""Which images the tasks of a host need."""

from msgspec.structs import replace

from agent.session.needed import needed, users
from agent.tasks.record import Record
from pyswarm_core.ids import NodeId, ServiceId, TaskId
from pyswarm_core.specs import ContainerSpec, TaskSpec
from pyswarm_core.states import TaskState
from pyswarm_core.volumes.mounts import Mount, MountType
from tests.unit.agent.images.gc.test_plan import image

DIGEST = f"sha256:{'1' * 64}"
RECORD = Record(
    task_id=TaskId("t1"),
    service_id=ServiceId("s1"),
    service_name="web",
    slot=1,
    node_id=NodeId("n1"),
    spec=TaskSpec(container_spec=ContainerSpec(image=f"web:2@{DIGEST}")),
    state=TaskState.RUNNING,
    image_id="web2",
    kept_images=("web:1",),
)
ENDED = replace(RECORD, state=TaskState.SHUTDOWN, clean=True)
OLD = image("web1", "docker.io/library/web:1")


def test_a_task_needs_its_image_by_id_name_and_digest() -> None:
    found = needed([RECORD])
    assert found.ids == {"web2"}
    assert f"docker.io/library/web@{DIGEST}" in found.references
    assert found.has(replace(image("x"), digest=DIGEST))


def test_a_task_needs_the_image_that_its_service_may_be_rolled_back_to() -> None:
    assert needed([RECORD]).has(OLD)


def test_a_task_that_has_ended_needs_nothing() -> None:
    found = needed([ENDED])
    assert not found.has(OLD)
    assert found.ids == frozenset()


def test_what_is_not_clean_yet_and_a_container_that_may_start_again_need_theirs() -> None:
    assert needed([replace(ENDED, clean=False)]).has(OLD)
    assert needed([replace(ENDED, layer="s1")]).ids == {"web2"}


def test_mounted_images_are_needed() -> None:
    mount = Mount(type=MountType.IMAGE, source="data:1", target="/data")
    spec = TaskSpec(container_spec=ContainerSpec(image="web:2", mounts=(mount,)))
    record = replace(RECORD, spec=spec, mounted_images=("data1",))
    found = needed([record])
    assert found.ids == {"web2", "data1"}
    assert "docker.io/library/data:1" in found.references


def test_a_template_names_no_image() -> None:
    spec = TaskSpec(container_spec=ContainerSpec(image="{{.Node.Hostname}}:1"))
    assert needed([replace(RECORD, spec=spec, kept_images=())]).references == frozenset()


def test_users_are_services_and_containers_by_name() -> None:
    other = replace(RECORD, task_id=TaskId("t2"), service_name="api", kept_images=())
    both = image("web2")
    assert users([RECORD, other], [OLD, both]) == {"web1": ("web",), "web2": ("api", "web")}
