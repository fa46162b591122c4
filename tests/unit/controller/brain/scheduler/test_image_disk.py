"""A host whose image disk is full gets only tasks whose images it has, and says why."""

import pytest
from msgspec.structs import replace

from controller.api.queries.why import why
from pyswarm_core.decision import Writes
from pyswarm_core.docker.reference import parse_reference
from pyswarm_core.ids import NodeId
from pyswarm_core.images.disk import ImageDisk, checked, image_disk, image_key
from pyswarm_core.images.limits import DISK_IMAGES_MAX, DISK_REASON_MAX
from pyswarm_core.objects import Node
from tests.fixtures.build import NOW, dirty
from tests.unit.controller.brain.scheduler.test_kernels import PLAIN, _world

REASON = "the disk of its images is 91% full"
DIGEST = f"sha256:{'a' * 64}"


def with_disk(node: Node, *names: str) -> Node:
    disk = image_disk(REASON, [("", names)])
    return replace(node, status=replace(node.status, image_disk=disk))


def test_other_nodes_take_the_tasks_of_a_host_with_a_full_disk() -> None:
    world = _world(PLAIN, lacks=((), ()), replicas=4)
    world.state.apply(Writes(objects=(with_disk(world.state.nodes[NodeId("n1")]),)))
    assert {task.node_id for task in world.decide(dirty("web")).writes.tasks} == {"n2"}


def test_a_host_with_a_full_disk_takes_tasks_whose_image_it_has() -> None:
    world = _world(PLAIN, lacks=((), ()), replicas=4)
    (service,) = world.state.services.values()
    image = service.spec.task_template.container_spec.image
    node = with_disk(world.state.nodes[NodeId("n1")], parse_reference(image).canonical)
    world.state.apply(Writes(objects=(node,)))
    placed = {task.node_id for task in world.decide(dirty("web")).writes.tasks}
    assert placed == {"n1", "n2"}


def test_what_waits_says_why_and_is_placed_once_there_is_space() -> None:
    world = _world(PLAIN, lacks=((),), replicas=1)
    node = world.state.nodes[NodeId("n1")]
    world.state.apply(Writes(objects=(with_disk(node),)))
    world.settle(dirty("web"))
    (waiting,) = world.state.tasks.values()
    text = f"1 of 1 nodes do not have its image and have no space for it (n1: {REASON})"
    assert waiting.detail.message == f"no suitable node: {text}"
    said = "\n".join(why(world.state, "web", NOW))
    assert text in said
    assert "free space for images on n1: pyswarm system prune --all" in said
    world.state.apply(Writes(objects=(node,)))
    world.settle(dirty("web"))
    (placed,) = world.state.tasks.values()
    assert placed.node_id == "n1"


@pytest.mark.parametrize(
    "reference", [f"web@{DIGEST}", f"web:1@{DIGEST}", f"registry:5000/other@{DIGEST}"]
)
def test_an_image_with_a_digest_is_found_by_it(reference: str) -> None:
    assert image_disk(REASON, [(DIGEST, ())]).has(image_key(reference))
    assert image_disk(REASON, [("", (f"docker.io/library/web@{DIGEST}",))]).has(
        image_key(reference)
    )


def test_a_template_is_found_nowhere() -> None:
    assert not image_disk(REASON, [(DIGEST, ("web:1",))]).has(image_key("{{.Node.ID}}"))


def test_a_report_is_bounded_and_printable() -> None:
    told = ImageDisk("\x1b[2J" + "x" * 9_999, bytes(8 * DISK_IMAGES_MAX + 13))
    kept = checked(told)
    assert len(kept.reason) == DISK_REASON_MAX == 256
    assert kept.reason.isprintable()
    assert len(kept.images) == 8 * DISK_IMAGES_MAX == 8_000
    assert len(image_disk("r", [("", tuple(f"a:{n}" for n in range(1_100)))]).images) == 8_000


def test_images_without_a_reason_are_no_report() -> None:
    assert checked(ImageDisk("", b"12345678")) == ImageDisk()
