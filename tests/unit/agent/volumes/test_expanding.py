"""What an agent makes of templates: the spec that a task is prepared from."""

import shlex

import pytest

from agent.assignment import parse_assignment
from agent.tasks.record import Record
from agent.volumes.expanding import paths_as_words, with_image_volumes, with_templates_expanded
from pyswarm_core.api.v1 import dispatcher_pb2
from pyswarm_core.clock import Instant
from pyswarm_core.codec import to_proto
from pyswarm_core.errors import InvalidArgument
from pyswarm_core.ids import NodeId
from pyswarm_core.indexes.columns import pack_ids
from pyswarm_core.specs import ContainerMode, ContainerSpec, TaskSpec
from pyswarm_core.validation.volumes import MOUNTS_MAX
from pyswarm_core.volumes.mounts import Mount

SPEC = ContainerSpec(
    image="a",
    env=("SLOT={{.Task.Slot}}", "HOST={{.Node.Hostname}}", "ARCH={{.Node.Platform.Architecture}}"),
    hostname="{{.Service.Name}}-{{.Task.Slot}}",
    mounts=(Mount(source="data-{{.Task.Slot}}", target="/d"),),
)


def record(
    spec: ContainerSpec = SPEC, *, container: bool = False, is_global: bool = False
) -> Record:
    template = dispatcher_pb2.TaskTemplate(
        service_id="s" * 25, service_name="db", spec_version=1, service_labels={"tier": "back"}
    )
    setattr(template, "global", is_global)
    to_proto(TaskSpec(container_spec=spec), template.spec)
    if container:
        to_proto(ContainerMode(), template.container)
    message = dispatcher_pb2.Assignments(
        templates=[template.SerializeToString()],
        ids=pack_ids(["t" * 25]),
        slots=[3],
        template_index=[0],
        desired_states=bytes([0]),
    )
    message.own_volumes.add(task=0).volumes["data-3"] = "v3"
    (task,) = parse_assignment(message).tasks
    return task.record(NodeId("n" * 25), Instant(1))


def test_the_spec_of_one_task() -> None:
    found = with_templates_expanded(record(), "host-1", "x86_64")
    container = found.spec.container_spec
    assert container.env == ("SLOT=3", "HOST=host-1", "ARCH=amd64")
    assert container.hostname == "db-3"
    (mount,) = container.mounts
    assert found.volumes[mount.source] == "v3"


def test_the_slot_of_a_global_service_is_its_node() -> None:
    spec = ContainerSpec(image="a", env=("A={{.Task.Slot}} {{.Task.Name}}",))
    found = with_templates_expanded(record(spec, is_global=True), "h", "x86_64")
    node, task = "n" * 25, "t" * 25
    assert found.spec.container_spec.env == (f"A={node} db.{node}.{task}",)


def test_labels_are_kept_only_for_templates() -> None:
    assert record().service_labels == {"tier": "back"}
    assert record(ContainerSpec(image="a")).service_labels == {}


def test_a_container_has_no_templates() -> None:
    made = record(container=True)
    assert with_templates_expanded(made, "h", "x86_64") is made


@pytest.mark.parametrize(
    ("paths", "added"),
    [
        (("/data", "/var/lib/db/"), ["/data", "/var/lib/db"]),
        (("/d", "/t", "/d/"), []),
        (("/", "/proc/x", "relative", "/a/../b", ""), []),
        (tuple(f"/v{number}" for number in range(100)), [f"/v{n}" for n in range(MOUNTS_MAX - 1)]),
    ],
)
def test_the_volumes_that_an_image_declares(paths: tuple[str, ...], added: list[str]) -> None:
    spec = ContainerSpec(image="a", mounts=(Mount(source="x", target="/d/"),), tmpfs={"/t": ""})
    found = with_image_volumes(record(spec), paths).spec.container_spec.mounts
    assert [mount.target for mount in found[1:]] == added
    assert not any(mount.source for mount in found[1:])


def test_paths_are_reported_as_words_as_many_as_fit() -> None:
    paths = ["/data", "/with space", "/o'clock", "/" + "é" * 300, "/never"]
    told = paths_as_words(Mount(target=path) for path in paths)
    assert shlex.split(told) == paths[:3]
    assert paths_as_words([]) == ""


def test_a_value_that_is_not_valid_on_this_node_rejects_the_task() -> None:
    spec = ContainerSpec(image="a", hostname="{{.Node.Hostname}}")
    with pytest.raises(InvalidArgument, match="--hostname: value"):
        with_templates_expanded(record(spec), "not a name", "x86_64")
