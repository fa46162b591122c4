"""`images` of nodes and of the fleet's registry."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from threading import Barrier

import pytest
from google.protobuf.message import Message

from cli.calls.parts import node_images
from pyswarm_core.api.v1 import control_pb2 as pb
from pyswarm_core.api.v1 import dispatcher_pb2, images_pb2
from pyswarm_core.codec import from_proto
from pyswarm_core.errors import Unavailable
from pyswarm_core.images.views import Image
from tests.unit.cli.conftest import Pyswarm
from tests.unit.cli.scripted import Script

HUB = "docker.io/library"
DIGEST, OTHER = "sha256:" + "d" * 64, "sha256:" + "e" * 64
FORM = "{{.Repository}}:{{.Tag}} {{.ID}} {{.Nodes}}"
WAIT_S = 20.0
START = """\
import os, sys
leave = os._exit
def named(code):
    print(*sorted(sys.modules), file=sys.stderr, flush=True)
    leave(code)
os._exit = named
from cli.start import main
main()
"""
OTHERS = ("cli.client", "cli.diagnosis", "cli.registry.opening", "cli.image.transfer", "tempfile",
          "pyswarm_core.views", "pyswarm_core.kinds", "pyswarm_core.specs")  # fmt: skip


def on_nodes(*nodes: str) -> list[pb.ListImagesReply]:
    replies: list[pb.ListImagesReply] = []
    for name in nodes:
        reply = pb.ListImagesReply()
        node = reply.nodes.add(node_name=name)
        node.images.add(id="a" * 64, digest=DIGEST, names=[f"{HUB}/web@{DIGEST}"])
        node.use.bytes = len(replies)
        replies.append(reply)
    return replies


def tags(*found: tuple[str, str]) -> list[images_pb2.ListRegistryReply]:
    return [
        images_pb2.ListRegistryReply(
            tags=[images_pb2.RegistryTag(name=f"{HUB}/web", tag=tag, digest=digest)]
        )
        for tag, digest in found
    ]


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What was read of a digest before."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    path = tmp_path / "pyswarm" / "manifests.json"
    path.parent.mkdir()
    known = {"id": "b" * 64, "created": "2026-01-01T00:00:00Z", "size_bytes": 10}
    path.write_text(json.dumps({OTHER: known, DIGEST: {**known, "id": "a" * 64}}))
    return path


def test_an_image_that_nodes_have_alike_is_decoded_once() -> None:
    nodes = [reply.nodes[0] for reply in on_nodes("host1", "host2")]
    nodes[1].images.add(id="c" * 64, labels={"a": "1"})
    one, two = node_images(nodes)
    assert one.images[0] is two.images[0]
    assert (two.images[1].labels, two.use.bytes, one.use.bytes) == ({"a": "1"}, 1, 0)


def test_every_field_of_an_image_is_read() -> None:
    full = dispatcher_pb2.Image(
        id="a", digest="b", names=["c", "d"], size_bytes=1, created="e", labels={"f": "g"},
        platform="h", services=["i"], unique_bytes=2, used_by=["j"], step=True,
    )  # fmt: skip
    assert len(full.ListFields()) == len(full.DESCRIPTOR.fields)
    for message in (full, dispatcher_pb2.Image()):
        (node,) = node_images([pb.NodeImages(node_name="host1", images=[message])])
        assert node.images == (from_proto(Image, message),)


def test_nodes_and_registry_are_asked_at_once(script: Script, pyswarm: Pyswarm) -> None:
    asked = Barrier(2, timeout=WAIT_S)

    def after_both(answer: list[Message]) -> Callable[[Message], list[Message]]:
        def answered(_: Message) -> list[Message]:
            asked.wait()
            return answer

        return answered

    script.on("ListImages", after_both([*on_nodes("host1")])).on("ListRegistry", after_both([]))
    ran = pyswarm("images", "--format", FORM)
    assert (ran.code, ran.out, ran.err) == (0, f"web:<none> {'a' * 12} host1\n", "")


def test_a_failure_of_the_nodes_is_reported_as_before(script: Script, pyswarm: Pyswarm) -> None:
    script.on("ListImages", Unavailable("the disk is gone")).on("ListRegistry", [])
    ran = pyswarm("images")
    assert (ran.code, ran.out, ran.err) == (1, "", "Error: the disk is gone\n")


def test_a_list_imports_nothing_that_only_other_commands_need(script: Script) -> None:
    script.on("ListImages", on_nodes("host1")).on("ListRegistry", [])
    command = [sys.executable, "-c", START, "--host", script.host, "images"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "a" * 12 in done.stdout
    assert not set(OTHERS) & set(done.stderr.split())


def test_the_registrys_tags_are_one_call_once_their_images_are_known(
    script: Script, pyswarm: Pyswarm, cache: Path
) -> None:
    script.on("ListImages", on_nodes("host1", "host2"))
    script.on("ListRegistry", tags(("1", DIGEST), ("2", OTHER)))
    assert pyswarm("images", "--format", FORM).out.splitlines() == [
        f"web:2 {'b' * 12} registry",
        f"web:1 {'a' * 12} host1, host2, registry",
    ]
    assert len(script.requests("ListRegistry")) == 1
    assert not script.requests("ReadRegistry")


def test_a_registry_that_does_not_answer_hides_no_tag(
    script: Script, pyswarm: Pyswarm, cache: Path
) -> None:
    cache.unlink()
    script.on("ListImages", on_nodes("host1")).on("ReadRegistry", Unavailable("it is starting"))
    script.on("ListRegistry", tags(("2", OTHER)))
    ran = pyswarm("images", "--format", FORM)
    assert (ran.code, ran.err) == (0, "")
    assert f"web:2 {'e' * 12} registry" in ran.out.splitlines()


@pytest.mark.parametrize("answer", [Unavailable("the disk is gone"), []])
def test_a_registry_that_fails_costs_a_warning(
    answer: Unavailable | list[Message], script: Script, pyswarm: Pyswarm
) -> None:
    script.on("ListImages", on_nodes("host1")).on("ListRegistry", answer)
    ran = pyswarm("images", "--format", FORM)
    assert (ran.code, ran.out) == (0, f"web:<none> {'a' * 12} host1\n")
    assert ("the disk is gone" in ran.err) == bool(answer)
