"""The verbs about images of nodes: what they send, and what they print."""

from typing import Any

import pytest

from cli.client import Client
from cli.image import listing
from cli.image.finding import identified
from cli.image.progress import PullView
from cli.image.shared import Known, Tagged
from pyswarm_core.api.v1 import control_pb2 as pb
from pyswarm_core.api.v1 import dispatcher_pb2 as dp
from pyswarm_core.api.v1 import images_pb2
from pyswarm_core.clock import Instant
from pyswarm_core.docker.reference import parse_reference
from pyswarm_core.errors import Conflict, NotFound, PermissionDenied
from pyswarm_core.images.views import (
    Image,
    ImageProgress,
    LayerProgress,
    NodeImageProgress,
    NodeImages,
)
from tests.unit.cli.conftest import Pyswarm
from tests.unit.cli.scripted import Script

HUB = "docker.io/library"
DIGEST = "sha256:" + "d" * 64
OLD, NEW = "a" * 64, "b" * 64


def image(image_id: str, *names: str, created: str = "", services: tuple[str, ...] = ()) -> Image:
    return Image(image_id, DIGEST, names, 7, created, services=services)


def shown(*nodes: NodeImages, **how: bool) -> list[tuple[Any, ...]]:
    found = listing.rows(listing.grouped(nodes), Instant(0), **how)
    keys = ("Repository", "Tag", "ID", "Nodes", "Services")
    return [tuple(row[key] for key in keys) for row in found]


@pytest.mark.parametrize(
    "name",
    [f"{HUB}/web:1", f"{HUB}/web@{DIGEST}", "docker.io/team/web:1", "docker.io/a.b/web:1",
     "docker.io/localhost/web:1", "r.test:5000/a/web:1", f"r.test:5000/web@{DIGEST}",
     "docker.io/library/a/web:1"],
)  # fmt: skip
def test_a_name_is_cut_as_it_is_parsed(name: str) -> None:
    reference = parse_reference(name)
    repository, tag, digest = listing.split(name)
    assert (tag, digest) == (reference.tag, reference.digest)
    assert f"{repository}{f':{tag}' if tag else f'@{digest}'}" == reference.familiar


def test_an_image_of_several_nodes_is_one_row() -> None:
    first = NodeImages("host1", (image(OLD, f"{HUB}/web:1", services=("web",)),), "")
    second = NodeImages("host2", (image(OLD, f"{HUB}/web:1", services=("web", "api")),), "")
    assert shown(first, second) == [("web", "1", OLD[:12], "host1, host2", "web, api")]


def test_a_digest_is_shown_with_the_tag_that_its_image_has_elsewhere() -> None:
    tagged = NodeImages("host1", (image(OLD, f"{HUB}/web:1"),), "")
    pinned = NodeImages("host2", (image(OLD, f"{HUB}/web@{DIGEST}"),), "")
    assert shown(tagged, pinned) == [("web", "1", OLD[:12], "host1, host2", "")]
    assert shown(pinned) == [("web", "<none>", OLD[:12], "host2", "")]


def test_a_tag_that_moved_is_two_images_and_one_without_a_name_is_none() -> None:
    nodes = [
        NodeImages("host1", (image(NEW, f"{HUB}/web:1", created="2026-02-01T00:00:00Z"),), ""),
        NodeImages("host2", (image(OLD, f"{HUB}/web:1", created="2026-01-01T00:00:00Z"),), ""),
        NodeImages("host3", (image("c" * 64),), ""),
    ]
    assert shown(*nodes) == [
        ("web", "1", NEW[:12], "host1", ""),
        ("web", "1", OLD[:12], "host2", ""),
        ("<none>", "<none>", "c" * 12, "host3", ""),
    ]


def test_many_nodes_are_counted_unless_nothing_is_cut() -> None:
    names = [f"host{number}" for number in range(1, 6)]
    nodes = [NodeImages(name, (image(OLD, f"{HUB}/web:1"),), "") for name in names]
    assert shown(*nodes)[0][3] == "host1, host2, host3, host4 and 1 more"
    (row,) = shown(*nodes, long=True)
    assert row[2:4] == (f"sha256:{OLD}", ", ".join(names))


def test_with_digests_each_digest_of_a_repository_is_a_row() -> None:
    other = "sha256:" + "e" * 64
    names = (f"{HUB}/web:1", f"{HUB}/web@{DIGEST}", f"{HUB}/web@{other}", f"{HUB}/api:1")
    rows = list(
        listing.rows(
            listing.grouped([NodeImages("host1", (image(OLD, *names),), "")]),
            Instant(0),
            digests=True,
        )
    )
    found = [(row["Repository"], row["Tag"], row["Digest"]) for row in rows]
    assert found == [("api", "1", DIGEST), ("web", "1", DIGEST), ("web", "1", other)]


def test_images_takes_a_repository_and_dockers_placeholders(
    script: Script, pyswarm: Pyswarm
) -> None:
    reply = pb.ListImagesReply()
    reply.nodes.add(node_name="host1").images.add(id=OLD, names=[f"{HUB}/web:1"])
    script.on("ListImages", reply)
    form = "{{.ID}} {{.Repository}} {{.Tag}} {{.Digest}} {{.CreatedSince}} {{.Size}} {{.Nodes}}"
    said = pyswarm("images", "--format", form, "web").out
    assert said == f"{OLD[:12]} web 1 <none> N/A 0B host1\n"
    assert script.requests("ListImages")[-1].filters == ["reference=web"]
    pyswarm("images", "web:1")
    assert script.requests("ListImages")[-1].filters == ["reference=web:1"]
    assert pyswarm("images", "-q", "--no-trunc").out == f"sha256:{OLD}\n"


def test_a_removal_prints_what_each_node_removed(script: Script, pyswarm: Pyswarm) -> None:
    reply = images_pb2.RemoveImageReply()
    gone = reply.nodes.add(node_name="host1").images.add(id=OLD, deleted=True)
    gone.untagged.extend([f"{HUB}/web:1", f"{HUB}/web@{DIGEST}"])
    gone.parents.append("0" * 64)
    reply.nodes.add(node_name="host2").images.add(id=OLD, error="image web:1 is used by a task")
    reply.nodes.add(node_name="host3", error="it did not answer")
    script.on("RemoveImage", reply)
    ran = pyswarm("rmi", "-f", "web:1")
    assert ran.out.splitlines() == [
        "host1: Untagged: web:1",
        f"host1: Untagged: web@{DIGEST}",
        f"host1: Deleted: sha256:{OLD}",
        f"host1: Deleted: sha256:{'0' * 64}",
    ]
    assert (ran.code, ran.err) == (
        1,
        "Error: host2: image web:1 is used by a task; host3: it did not answer\n",
    )
    (request,) = script.requests("RemoveImage")
    assert (request.ref, request.force, request.no_prune) == ("web:1", True, False)
    pyswarm("rmi", "--no-prune", "web:1")
    assert script.requests("RemoveImage")[-1].no_prune


def test_the_refusal_of_one_removal_does_not_stop_the_others(
    script: Script, pyswarm: Pyswarm
) -> None:
    why = Conflict("image web:1 is needed by service web: remove or update what needs it")
    script.on("RemoveImage", why, images_pb2.RemoveImageReply())
    ran = pyswarm("rmi", "web:1", "db:1")
    assert (ran.code, ran.err) == (1, f"Error: {why}\n")
    assert [one.ref for one in script.requests("RemoveImage")] == ["web:1", "db:1"]


def test_force_takes_no_offence_at_an_image_that_is_not_there(
    script: Script, pyswarm: Pyswarm
) -> None:
    why = NotFound('No such image: "web:1"')
    script.on("RemoveImage", why, images_pb2.RemoveImageReply())
    ran = pyswarm("rmi", "-f", "web:1", "db:1")
    assert (ran.code, ran.out, ran.err) == (0, "", f"Error: {why}\n")
    assert [one.ref for one in script.requests("RemoveImage")] == ["web:1", "db:1"]


def stored() -> pb.ListImagesReply:
    """host1 has `web:1`, an image without a name and two that are needed; host2 one untagged."""
    reply = pb.ListImagesReply()
    node = reply.nodes.add(node_name="host1")
    add = node.images.add
    add(id=OLD, names=[f"{HUB}/web:1"], unique_bytes=2_500_000, created="2026-01-01T00:00:00Z")
    add(id=NEW, unique_bytes=1_000, created="2026-03-01T00:00:00Z")
    add(id="c" * 64, services=["api"])
    add(id="d" * 64, used_by=["db"])
    node = reply.nodes.add(node_name="host2")
    node.images.add(id=NEW, names=[f"{HUB}/old@{DIGEST}"], labels={"keep": "1"})
    return reply


def pruned(**fields: Any) -> list[images_pb2.NodeImagesRemoved]:
    one = images_pb2.NodeImagesRemoved(node_name="host1")
    one.images.add(id=OLD, untagged=[f"{HUB}/web:1"], reclaimed_bytes=2_500_000, **fields)
    return [one]


def asked_for(script: Script) -> list[tuple[str, list[str], bool]]:
    (request,) = script.requests("PruneImages")
    return [(one.node, list(one.ids), one.loose) for one in request.nodes]


def test_prune_shows_what_it_removes_and_asks(
    script: Script, pyswarm: Pyswarm, monkeypatch: pytest.MonkeyPatch
) -> None:
    script.on("ListImages", [stored()]).on("PruneImages", pruned())
    monkeypatch.setattr("click.confirm", lambda text: False)
    ran = pyswarm("image", "prune", "-a")
    assert ran.out.splitlines() == [
        "WARNING! This will remove all images without at least one service or container that"
        " needs them.",
        f"  host1: web:1 {OLD[:12]} (2.5MB)",
        f"  host1: <none>:<none> {NEW[:12]} (1kB)",
        f"  host2: old:<none> {NEW[:12]} (0B)",
    ]
    assert not script.requests("PruneImages")
    monkeypatch.setattr("click.confirm", lambda text: True)
    ran = pyswarm("image", "prune", "-a")
    assert asked_for(script) == [("host1", [OLD, NEW], False), ("host2", [NEW], False)]


@pytest.mark.parametrize(
    ("words", "chosen"),
    [
        ((), [("host1", [NEW], False), ("host2", [NEW], False)]),
        (("-a", "--filter", "until=2026-01-31T00:00:00Z", "--filter", "label!=keep"),
         [("host1", [OLD], False)]),
        (("--filter", "label=keep=1"), [("host2", [NEW], False)]),
        (("--filter", "dangling=false", "--filter", "label!=keep"),
         [("host1", [OLD, NEW], False)]),
    ],
)  # fmt: skip
def test_prune_chooses_what_nothing_needs_and_passes_the_filters(
    words: tuple[str, ...],
    chosen: list[tuple[str, list[str], bool]],
    script: Script,
    pyswarm: Pyswarm,
) -> None:
    script.on("ListImages", [stored()]).on("PruneImages", pruned(deleted=True))
    ran = pyswarm("image", "prune", "-f", *words)
    assert ran.out.splitlines() == [
        "Deleted Images:",
        "host1: untagged: web:1",
        f"host1: deleted: sha256:{OLD}",
        "",
        "Total reclaimed space: 2.5MB",
    ]
    assert asked_for(script) == chosen


def test_prune_without_unused_images_asks_no_node(script: Script, pyswarm: Pyswarm) -> None:
    reply = pb.ListImagesReply()
    reply.nodes.add(node_name="host2", error="it did not answer")
    script.on("ListImages", [reply])
    ran = pyswarm("image", "prune", "-f")
    assert (ran.code, ran.err) == (1, "Error: host2: it did not answer\n")
    assert ran.out == "Total reclaimed space: 0B\n"
    assert not script.requests("PruneImages")


@pytest.mark.parametrize(
    ("text", "valid"),
    [
        ("until", "dangling=true, dangling=false, until=TIME, label=KEY[=VALUE] or label!="),
        ("label=", "dangling=true, dangling=false, until=TIME"),
        ("colour=red", "dangling=true, dangling=false, until=TIME"),
        ("dangling=maybe", "dangling=true or dangling=false"),
    ],
)
def test_prune_refuses_other_filters(
    text: str, valid: str, script: Script, pyswarm: Pyswarm
) -> None:
    ran = pyswarm("image", "prune", "-f", "--filter", text)
    assert (ran.code, script.asked) == (2, [])
    assert f'--filter: value "{text}" is not valid: expected {valid}' in ran.err


def test_history_has_dockers_columns(script: Script, pyswarm: Pyswarm) -> None:
    reply = images_pb2.InspectImageReply(id=OLD)
    reply.details.layer_sizes.extend([1_000_000, 2_000])
    reply.details.config = (
        b'{"history":[{"created":"2026-01-31T00:00:00Z","created_by":"ADD  rootfs /"},'
        b'{"created_by":"CMD [\\"/web\\"]","empty_layer":true},{"created_by":"COPY . /app",'
        b'"comment":"x"}]}'
    )
    script.on("InspectImage", reply)
    form = "{{.ID}}|{{.CreatedBy}}|{{.Size}}|{{.Comment}}"
    assert pyswarm("history", "--format", form, "web").out.splitlines() == [
        f"{OLD[:12]}|COPY . /app|2kB|x",
        '<missing>|CMD ["/web"]|0B|',
        "<missing>|ADD rootfs /|1MB|",
    ]
    plain = pyswarm("history", "--human=false", "web").out.splitlines()
    assert plain[0].split() == ["IMAGE", "CREATED", "AT", "CREATED", "BY", "SIZE", "COMMENT"]
    assert plain[-1].split()[:2] == ["<missing>", "2026-01-31T00:00:00Z"]


def update(node: str, *layers: LayerProgress, **fields: Any) -> NodeImageProgress:
    done = fields.pop("done", False)
    return NodeImageProgress(node, ImageProgress("copying", layers=layers, **fields), "", done)


def test_a_pull_is_shown_by_layer() -> None:
    view = PullView()
    view.take(update("host1", LayerProgress("l1", "downloading", 5, 10), LayerProgress("l2")))
    view.take(update("host2", LayerProgress("l1", "done", 10, 10), LayerProgress("l2", "exists")))
    assert view.lines() == [
        f"l1: Downloading [{'=' * 36}>{' ' * 13}] 15B/20B",
        "l2: Pulling fs layer",
        "host1: 0/2 layers 5B/10B",
        "host2: 2/2 layers 10B/10B",
    ]
    both = LayerProgress("l1", "done", 10, 10), LayerProgress("l2", "exists")
    for node in ("host1", "host2"):
        view.take(update(node, *both, digest=DIGEST, reference=f"{HUB}/web:1", done=True))
    assert view.lines() == ["l1: Pull complete", "l2: Already exists", "host1: done", "host2: done"]
    assert list(view.summary()) == [
        f"Digest: {DIGEST}",
        "Status: Downloaded newer image for web:1",
    ]


def test_one_node_is_shown_as_docker_does() -> None:
    view = PullView()
    view.take(update("host1"))
    assert view.lines() == ["host1: copying"]
    view.take(update("host1", LayerProgress("l1", "exists")))
    assert view.lines() == ["l1: Already exists"]
    view.take(update("host1", digest=DIGEST, reference="web:1", up_to_date=True))
    assert list(view.summary())[-1] == "Status: Image is up to date for web:1"


def test_pull_sends_the_users_login_platform_and_all_tags(
    script: Script, pyswarm: Pyswarm, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    auth = tmp_path / "auth.json"
    auth.write_text('{"auths": {"registry.test:5000": {"auth": "YW5uOnJpZ2h0"}}}')
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(auth))
    progress = dp.ImageProgress(digest=DIGEST, reference="registry.test:5000/web:1")
    script.on("PullImage", [pb.NodeImageProgress(node_name="h", progress=progress, done=True)])
    ran = pyswarm("pull", "-a", "--platform", "linux/arm64", "registry.test:5000/web")
    assert ran.out == "registry.test:5000/web\n"
    (request,) = script.requests("PullImage")
    assert (request.username, request.password) == ("ann", "right")
    assert (request.all_tags, request.platform) == (True, "linux/arm64")
    pyswarm("pull", "other.test/web")
    assert script.requests("PullImage")[-1].username == ""
    ran = pyswarm("pull", "--all-tags", "web:1")
    assert ran.code == 2
    assert "expected a name without a tag" in ran.err


def test_a_quiet_pull_prints_the_name_alone(script: Script, pyswarm: Pyswarm) -> None:
    progress = dp.ImageProgress(digest=DIGEST, reference=f"{HUB}/web:1")
    script.on("PullImage", [pb.NodeImageProgress(node_name="h", progress=progress, done=True)])
    ran = pyswarm("pull", "-q", "web:1")
    assert (ran.out, ran.err) == (f"{HUB}/web:1\n", "")
    assert f"Digest: {DIGEST}\n" in pyswarm("pull", "web:1").err


def test_who_may_not_read_users_inspects_images(script: Script, pyswarm: Pyswarm) -> None:
    kinds = ("GetContainer", "GetNetwork", "GetNode", "GetService", "ListTasks")
    for rpc in kinds:
        script.on(rpc, NotFound("no such thing"))
    script.on("GetObject", PermissionDenied("reading users needs the role admin"))
    script.on("InspectImage", images_pb2.InspectImageReply(id="a" * 64))
    ran = pyswarm("inspect", "-f", "{{.Id}}", "web:1")
    assert (ran.code, ran.out) == (0, f"sha256:{'a' * 64}\n")
    assert pyswarm("user", "inspect", "web").code == 1


def known_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """host1 has `web:1` and one image by a name that looks like an id; the registry `api:1`."""
    held = (image(OLD, f"{HUB}/web:1"), image("c" * 64, f"{HUB}/aaaaaa:latest"))
    monkeypatch.setattr("cli.image.calls.images", lambda _: [NodeImages("host1", held, "")])
    tags = [Tagged(parse_reference("api:1"), DIGEST), Tagged(parse_reference("api:2"), DIGEST)]
    monkeypatch.setattr("cli.image.shared.tagged", lambda _: tags)
    monkeypatch.setattr("cli.image.shared.known", lambda *_: {DIGEST: Known(NEW)})


@pytest.mark.parametrize(
    ("text", "image_id", "tags"),
    [
        ("aaaa", OLD, 0),
        (f"sha256:{OLD}", OLD, 0),
        (NEW[:12], NEW, 2),
        ("aaaaaa", None, 0),
        ("dddd", None, 0),
        ("aaa", None, 0),
        ("web:1", None, 0),
    ],
)
def test_an_id_means_an_image_of_nodes_or_of_the_registry_unless_it_is_a_name(
    monkeypatch: pytest.MonkeyPatch, text: str, image_id: str | None, tags: int
) -> None:
    known_images(monkeypatch)
    found = identified(Client("unix:///nowhere"), text)
    assert (found.id if found else None, len(found.tags) if found else 0) == (image_id, tags)


def test_the_beginning_of_two_ids_is_ambiguous(monkeypatch: pytest.MonkeyPatch) -> None:
    known_images(monkeypatch)
    monkeypatch.setattr("cli.image.shared.known", lambda *_: {DIGEST: Known("aaaab" + "0" * 59)})
    with pytest.raises(
        Conflict, match='image id "aaaa" is ambiguous: it begins aaaaaaaaaaaa, aaaab'
    ):
        identified(Client("unix:///nowhere"), "aaaa")
