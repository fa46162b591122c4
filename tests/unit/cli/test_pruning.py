"""What the prunes of containers and volumes say that they freed."""

import io

import pytest
from msgspec.structs import replace

from pyswarm_core.api.v1 import control_pb2 as pb
from pyswarm_core.docker.containers.views import ContainerState
from pyswarm_core.kinds import encode
from tests.unit.cli.conftest import Pyswarm
from tests.unit.cli.objects import service_reply
from tests.unit.cli.scripted import Script
from tests.unit.cli.test_containers import VIEW, container, listed
from tests.unit.cli.test_volumes import UNNAMED, USAGE


@pytest.mark.parametrize("noun", ["container", "volume", "image"])
def test_a_prune_of_nothing_says_so(noun: str, script: Script, pyswarm: Pyswarm) -> None:
    script.on("ListContainers", listed()).on("ListObjects", [pb.ListObjectsReply()])
    script.on("ListImages", [pb.ListImagesReply()])
    ran = pyswarm(noun, "prune", "-f")
    assert (ran.code, ran.out, ran.err) == (0, "Total reclaimed space: 0B\n", "")


def test_the_writable_layers_of_containers_are_freed(script: Script, pyswarm: Pyswarm) -> None:
    stopped = replace(VIEW, state=ContainerState.EXITED, size_rw=2_120)
    script.on("ListContainers", listed(stopped, replace(stopped, id="c" * 25, size_rw=-1)))
    script.on("RemoveService", service_reply(container()))
    script.on("WatchService", [pb.ServiceProgress(gone=True, converged=True)])
    ran = pyswarm("container", "prune", "-f")
    assert ran.out.endswith(f"{'c' * 25}\n\nTotal reclaimed space: 2.12kB\n")
    assert all(one.size for one in script.requests("ListContainers"))


def test_the_bytes_of_volumes_are_freed(script: Script, pyswarm: Pyswarm) -> None:
    volume = encode(replace(UNNAMED, usage=(replace(USAGE, bytes=36),)))
    script.on("ListObjects", [pb.ListObjectsReply(objects=[pb.EncodedObject(value=volume)])])
    script.on("RemoveObject", pb.RemoveObjectReply())
    ran = pyswarm("volume", "prune", "-f")
    assert ran.out == f"Deleted Volumes:\n{'f' * 64}\n\nTotal reclaimed space: 36B\n"


@pytest.mark.parametrize(
    "words", [("network", "prune"), ("volume", "prune"), ("container", "prune")]
)
def test_the_end_of_the_input_is_no_answer(
    words: tuple[str, str], script: Script, pyswarm: Pyswarm, monkeypatch: pytest.MonkeyPatch
) -> None:
    script.on("ListContainers", listed()).on("ListObjects", [pb.ListObjectsReply()])
    script.on("ListImages", [pb.ListImagesReply()])
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    ran = pyswarm(*words)
    assert (ran.code, ran.out.count("[y/N]")) == (1, 1)
    told = "standard input ended before the question was answered: nothing was changed"
    assert ran.err == f"\nError: {told}\n"


def test_an_interrupted_question_ends_its_line(
    pyswarm: Pyswarm, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr("click.termui.visible_prompt_func", interrupted)
    ran = pyswarm("network", "prune")
    assert (ran.code, ran.err) == (130, "\n")
