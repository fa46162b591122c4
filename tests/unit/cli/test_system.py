"""`system df` and `system prune`."""

import json
from typing import Any

import pytest
from google.protobuf.message import Message
from msgspec.structs import replace

from pyswarm_core.api.v1 import control_pb2 as pb
from pyswarm_core.api.v1 import images_pb2
from pyswarm_core.docker.containers.views import ContainerState
from pyswarm_core.errors import Conflict, Unavailable
from pyswarm_core.ids import NetworkId, NodeId
from pyswarm_core.kinds import encode
from pyswarm_core.objects import Network
from pyswarm_core.specs import NetworkSpec
from tests.unit.cli.conftest import Pyswarm
from tests.unit.cli.objects import CREATED, NODE_ID, NOW, node_view, service_reply
from tests.unit.cli.scripted import Script
from tests.unit.cli.test_containers import VIEW, container, listed
from tests.unit.cli.test_volumes import DATA, UNNAMED, USAGE

STOPPED = replace(
    VIEW, id="s" * 25, service_id="s" * 25, name="old", state=ContainerState.EXITED, size_rw=212
)
RUNS = replace(VIEW, size_rw=1_000)
NETWORK = Network(
    id=NetworkId("w" * 25), spec=NetworkSpec(name="app"), subnet="10.1.0.0/16", vni=4096,
    created_at=CREATED, updated_at=CREATED,
)  # fmt: skip
PRUNE_WORDS = """\
WARNING! This will remove:
  - all stopped containers
  - all networks not used by at least one container
  - all dangling images
  - unused build cache
"""


def images(*, error: str = "") -> pb.ListImagesReply:
    """host1: `db` uses the first, the stopped container the second; the third has no name."""
    reply = pb.ListImagesReply()
    node = reply.nodes.add(node_name="host1")
    for letter, name, size, unique, users in (
        ("1", "docker.io/library/db:1", 9_000_000, 4_000_000, ["db"]),
        ("2", "docker.io/library/old:1", 7_000_000, 2_000_000, ["old"]),
        ("3", "", 6_000_000, 1_000_000, []),
        ("4", "docker.io/library/spare:1", 3_000_000, 3_000_000, []),
    ):
        node.images.add(
            id=letter * 64,
            names=[name] if name else [],
            size_bytes=size,
            unique_bytes=unique,
            used_by=users,
            created="2023-11-14T22:13:20Z",
            labels={"keep": "1"} if letter == "4" else {},
        )
    node.use.bytes, node.use.reclaimable = 16_430_000, 6_000_000
    node.use.loose, node.use.loose_bytes = 2, 430_000
    node.use.disk_bytes, node.use.disk_free = 100_000_000_000, 40_000_000_000
    if error:
        reply.nodes.add(node_name="host2", error=error)
    return reply


@pytest.fixture
def fleet(script: Script, monkeypatch: pytest.MonkeyPatch) -> Script:
    monkeypatch.setattr("pyswarm_core.aio.system.SystemClock.now", lambda _: NOW)
    monkeypatch.setattr("cli.system.prune.PAUSE_S", 0.0)
    used = replace(DATA, copies=(NodeId(NODE_ID),), usage=(USAGE,))
    unused = replace(UNNAMED, copies=(NodeId(NODE_ID),), usage=(replace(USAGE, bytes=36),))

    def objects(request: Any) -> list[pb.ListObjectsReply]:
        dangling = "dangling=true" in request.filters
        found: list[Any] = [unused] if dangling else [used, unused]
        found = [NETWORK] if request.kind == "network" else found
        found = [] if request.kind == "service" else found
        return [pb.ListObjectsReply(objects=[pb.EncodedObject(value=encode(o)) for o in found])]

    script.on("ListImages", images()).on("ListContainers", listed(RUNS, STOPPED))
    script.on("ListObjects", objects).on("ListNodes", pb.ListNodesReply(nodes=[node_view()]))
    script.on("GetRegistryUsage", images_pb2.RegistryUsage())
    script.on("RemoveService", service_reply(container()))
    script.on("RemoveObject", pb.RemoveObjectReply())
    script.on("WatchService", [pb.ServiceProgress(gone=True, converged=True)])
    return script.on("PruneImages", removed())


def removed() -> Any:
    """Each node removes all that it is asked to."""

    def answer(request: Any) -> list[Message]:
        all_images = {image.id: image for node in images().nodes for image in node.images}
        replies: list[Message] = []
        for asked in request.nodes:
            node = images_pb2.NodeImagesRemoved(node_name=asked.node)
            if asked.loose:
                node.images.add(reclaimed_bytes=430_000)
            for image in (all_images[one] for one in asked.ids):
                size = image.unique_bytes
                node.images.add(
                    id=image.id, untagged=image.names, deleted=True, reclaimed_bytes=size
                )
            replies.append(node)
        return replies

    return answer


def test_df_is_dockers_table_and_one_by_node(fleet: Script, pyswarm: Pyswarm) -> None:
    ran = pyswarm("system", "df")
    assert ran.code == 0
    assert ran.out.splitlines() == [
        "TYPE            TOTAL     ACTIVE    SIZE      RECLAIMABLE",
        "Images          4         2         16MB      6MB (37%)",
        "Containers      2         1         1.21kB    212B (17%)",
        "Local Volumes   2         1         4.27MB    36B (0%)",
        "Build Cache     2         0         430kB     430kB (100%)",
        "",
        "NODE      DISK USED             IMAGES     CONTAINERS   LOCAL VOLUMES   BUILD CACHE"
        "   RECLAIMABLE",
        "host1     60GB of 100GB (60%)   4 (16MB)   2 (1.21kB)   2 (4.27MB)      2 (430kB)"
        "     6.43MB",
    ]


def test_df_has_dockers_placeholders(fleet: Script, pyswarm: Pyswarm) -> None:
    ran = pyswarm("system", "df", "--format", "{{.Type}}: {{.TotalCount}} {{.Reclaimable}}")
    assert ran.out.splitlines()[0] == "Images: 4 6MB (37%)"
    assert json.loads(pyswarm("system", "df", "--format", "json").out.splitlines()[1]) == {
        "Type": "Containers",
        "TotalCount": 2,
        "Active": 1,
        "Size": "1.21kB",
        "Reclaimable": "212B (17%)",
    }
    refused = pyswarm("system", "df", "--format", "{{.Nothing}}")
    assert refused.code == 2
    assert len(fleet.requests("ListImages")) == 2


def test_df_verbose_shows_each_object(fleet: Script, pyswarm: Pyswarm) -> None:
    lines = pyswarm("system", "df", "-v").out.splitlines()
    assert lines[0] == "Images space usage:"
    assert lines[2].split("  ")[0] == "NODE"
    spare = next(line for line in lines if " spare " in line)
    assert spare.split()[-4:] == ["3MB", "0B", "3MB", "0"]
    assert "Containers space usage:" in lines
    assert "Local Volumes space usage:" in lines
    assert "Build cache usage: 430kB" in lines
    document = json.loads(pyswarm("system", "df", "-v", "--format", "json").out)
    assert list(document) == ["Images", "Containers", "Volumes", "Nodes"]
    assert pyswarm("system", "df", "-v", "--format", "{{.Type}}").code == 2


def test_a_node_without_an_answer_is_an_error_after_the_others(
    fleet: Script, pyswarm: Pyswarm
) -> None:
    fleet.on("ListImages", images(error="host2 is down"))
    ran = pyswarm("system", "df")
    assert ran.code == 1
    assert "host2     N/A" in ran.out
    assert ran.err == "Error: host2: host2 is down\n"


def test_prune_shows_what_it_removes_before_it_asks(fleet: Script, pyswarm: Pyswarm) -> None:
    ran = pyswarm("system", "prune")
    assert ran.out.startswith(PRUNE_WORDS)
    assert "  containers: old\n  networks: app\n  images on host1: 333333333333 (1MB)\n" in ran.out
    assert "  build cache on host1: 430kB\n" in ran.out
    assert "\nTotal reclaimable space: 1.43MB\n" in ran.out
    assert "\nAre you sure you want to continue? [y/N]: " in ran.out
    assert not any(fleet.requests(name) for name in ("RemoveService", "PruneImages"))


def test_a_dry_run_asks_and_removes_nothing(fleet: Script, pyswarm: Pyswarm) -> None:
    ran = pyswarm("system", "prune", "--dry-run", "--all", "--volumes", "-f")
    assert ran.code == 0
    assert ran.out.startswith("This would remove:\n  - all stopped containers\n")
    assert "  - all anonymous volumes not used by at least one container\n" in ran.out
    assert "  - all images without at least one container associated to them\n" in ran.out
    assert "  - all build cache\n" in ran.out
    assert f"  volumes: {'f' * 64}\n" in ran.out
    assert "old:1 (2MB), 333333333333 (1MB), spare:1 (3MB)\n" in ran.out
    assert "Are you sure" not in ran.out
    changed = ("RemoveService", "RemoveObject", "PruneImages")
    assert not any(fleet.requests(name) for name in changed)


def test_a_dry_run_names_its_filters(fleet: Script, pyswarm: Pyswarm) -> None:
    fleet.on("ListImages", images())
    ran = pyswarm("system", "prune", "--dry-run", "--filter", "until=2001-01-01")
    assert ran.out.endswith(
        "  - unused build cache\n\n  Items to be pruned will be filtered with:\n"
        "  - until=2001-01-01\n\nTotal reclaimable space: 0B\n"
    )


def test_prune_removes_in_dockers_order(fleet: Script, pyswarm: Pyswarm) -> None:
    ran = pyswarm("system", "prune", "-f")
    assert ran.code == 0
    assert ran.out.splitlines() == [
        "Deleted Containers:",
        "s" * 25,
        "",
        "Deleted Networks:",
        "app",
        "",
        "Deleted Images:",
        f"host1: deleted: sha256:{'3' * 64}",
        "",
        "Total reclaimed space: 1.43MB",
    ]
    (asked,) = fleet.requests("PruneImages")
    assert [(one.node, list(one.ids), one.loose) for one in asked.nodes] == [
        ("host1", ["3" * 64], True)
    ]


def test_an_image_in_use_and_one_of_another_label_stay(fleet: Script, pyswarm: Pyswarm) -> None:
    pyswarm("system", "prune", "-af", "--filter", "label!=keep")
    (asked,) = fleet.requests("PruneImages")
    assert list(asked.nodes[0].ids) == ["2" * 64, "3" * 64]
    assert not asked.nodes[0].loose


def test_an_image_that_a_service_needs_on_another_node_stays(
    fleet: Script, pyswarm: Pyswarm
) -> None:
    reply = images()
    for image, services in zip(
        reply.nodes[0].images, ([], ["old"], ["api"], ["api (rollback)"]), strict=True
    ):
        image.services.extend(services)
    fleet.on("ListImages", reply)
    pyswarm("system", "prune", "-af")
    (asked,) = fleet.requests("PruneImages")
    assert list(asked.nodes[0].ids) == ["2" * 64], "the container that needs it is removed"


def test_an_image_that_was_pulled_by_its_digest_is_dangling(
    fleet: Script, pyswarm: Pyswarm
) -> None:
    reply = images()
    reply.nodes[0].images[3].names[:] = [f"docker.io/library/spare@sha256:{'5' * 64}"]
    fleet.on("ListImages", reply)
    pyswarm("system", "prune", "-f")
    (asked,) = fleet.requests("PruneImages")
    assert list(asked.nodes[0].ids) == ["3" * 64, "4" * 64]


def test_an_image_that_a_removed_container_still_holds_is_tried_again(
    fleet: Script, pyswarm: Pyswarm
) -> None:
    held = images_pb2.NodeImagesRemoved(node_name="host1")
    fleet.on("PruneImages", [held], removed())
    ran = pyswarm("system", "prune", "-f")
    assert f"deleted: sha256:{'3' * 64}" in ran.out
    assert len(fleet.requests("PruneImages")) == 2


def test_a_node_that_fails_is_reported_after_the_rest(fleet: Script, pyswarm: Pyswarm) -> None:
    why = "the image storage is busy: try again later"
    failed = images_pb2.NodeImagesRemoved(node_name="host1", error=why)
    fleet.on("PruneImages", [failed])
    ran = pyswarm("system", "prune", "-f")
    assert ran.code == 1
    assert ran.err == "Error: host1: the image storage is busy: try again later\n"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--filter", "x=1"), '--filter: value "x=1" is not valid: expected until=TIME'),
        (
            ("--volumes", "--filter", "until=24h"),
            "the until filter is not supported with --volumes",
        ),
    ],
)
def test_a_wrong_filter_is_refused_before_anything_is_read(
    words: tuple[str, ...], told: str, script: Script, pyswarm: Pyswarm
) -> None:
    ran = pyswarm("system", "prune", *words)
    assert (ran.code, ran.out) == (2, "")
    assert told in ran.err
    assert script.asked == []


def test_info_and_events_are_verbs_of_system_too(script: Script, pyswarm: Pyswarm) -> None:
    script.on("GetInfo", Unavailable("no leader"))
    assert "no leader" in pyswarm("system", "info").err
    assert "Get real time events" in pyswarm("system", "--help").out


def registry(*, quota: int = 0) -> images_pb2.RegistryUsage:
    """The fleet's registry with two repositories, one of which has a part without a tag."""
    found = images_pb2.RegistryUsage(
        address="192.0.2.1:2378", images=3, active=1, size=50_000_000, reclaimable=12_000_000,
        loose_bytes=2_000_000, disk_bytes=100_000_000, disk_free=30_000_000, quota=quota,
    )  # fmt: skip
    add = found.repositories.add
    add(name="docker.io/library/web", tags=2, manifests=4, size=40_000_000,
        unique_bytes=30_000_000, reclaimable=10_000_000)  # fmt: skip
    add(name="registry:5000/team/api", tags=1, manifests=1, size=18_000_000, unique_bytes=8_000_000)
    return found


def test_df_shows_the_fleets_registry_and_its_quota(fleet: Script, pyswarm: Pyswarm) -> None:
    fleet.on("GetRegistryUsage", registry())
    lines = pyswarm("system", "df").out.splitlines()
    assert lines[5] == "Registry        3         1         50MB      12MB (24%)"
    assert lines[-2:] == [
        "REGISTRY         DISK USED             IMAGES     QUOTA     RECLAIMABLE",
        "192.0.2.1:2378   70MB of 100MB (70%)   3 (50MB)   none      12MB",
    ]
    fleet.on("GetRegistryUsage", registry(quota=80_000_000))
    assert "   80MB (62% used)   " in pyswarm("system", "df").out.splitlines()[-1]


def test_df_verbose_shows_the_repositories_of_the_registry(fleet: Script, pyswarm: Pyswarm) -> None:
    found = registry()
    found.more = 7
    fleet.on("GetRegistryUsage", found)
    lines = pyswarm("system", "df", "-v").out.splitlines()
    at = lines.index("Registry space usage:")
    assert [line.split() for line in lines[at + 3 : at + 5]] == [
        ["web", "2", "4", "40MB", "10MB", "30MB", "10MB"],
        ["registry:5000/team/api", "1", "1", "18MB", "10MB", "8MB", "0B"],
    ]
    assert "and 7 smaller repositories" in lines
    assert lines[-1].startswith("192.0.2.1:2378 ")
    document = json.loads(pyswarm("system", "df", "-v", "--format", "json").out)
    assert document["Registry"]["Quota"] == "none"
    assert [one["Repository"] for one in document["Registry"]["Repositories"]] == [
        "web",
        "registry:5000/team/api",
    ]
    assert all(one.by_repository for one in fleet.requests("GetRegistryUsage"))


def test_prune_of_all_images_collects_the_registrys_garbage(
    fleet: Script, pyswarm: Pyswarm
) -> None:
    fleet.on("GetRegistryUsage", registry())
    fleet.on("CollectRegistry", images_pb2.CollectRegistryReply(freed_bytes=11_000_000))
    ran = pyswarm("system", "prune", "-a", "--dry-run")
    line = "  images of the registry: web (10MB), layers without an image (2MB)\n"
    assert line in ran.out
    assert "  - all images of the fleet's registry without a tag that no service needs\n" in ran.out
    assert ran.out.endswith("Total reclaimable space: 18.4MB\n")
    assert not fleet.requests("CollectRegistry")
    ran = pyswarm("system", "prune", "-af")
    assert "\nDeleted images of the registry: 11MB\n\nTotal reclaimed space: 17.4MB" in ran.out
    assert len(fleet.requests("CollectRegistry")) == 1


@pytest.mark.parametrize("words", [("-f",), ("-af", "--filter", "label!=keep")])
def test_the_registry_is_not_collected_without_all_or_with_filters(
    words: tuple[str, ...], fleet: Script, pyswarm: Pyswarm
) -> None:
    fleet.on("GetRegistryUsage", registry())
    assert "registry" not in pyswarm("system", "prune", *words).out
    assert not fleet.requests("CollectRegistry")


def test_a_registry_to_which_users_push_is_reported_after_the_rest(
    fleet: Script, pyswarm: Pyswarm
) -> None:
    why = "no garbage is collected while 1 connection may push images: try again later"
    fleet.on("GetRegistryUsage", registry()).on("CollectRegistry", Conflict(why))
    ran = pyswarm("system", "prune", "-af")
    assert (ran.code, ran.err) == (1, f"Error: {why}\n")
    assert "Deleted Images:" in ran.out
