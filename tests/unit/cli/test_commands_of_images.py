"""`ps` shows the command of an image while no agent has reported that of a container."""

import pytest

from pyswarm_core.api.v1 import containers_pb2 as cp
from pyswarm_core.api.v1 import images_pb2
from pyswarm_core.codec import to_proto
from pyswarm_core.docker.containers.views import ContainerState, ContainerView
from pyswarm_core.errors import Unavailable
from tests.unit.cli.conftest import Pyswarm
from tests.unit.cli.objects import CREATED
from tests.unit.cli.scripted import Script

FORM = ("--no-trunc", "--format", "{{.Command}}")


def view(state: ContainerState, *command: str) -> ContainerView:
    return ContainerView("c" * 25, "db", "web:1", command, CREATED, state)


@pytest.fixture
def scripted(script: Script) -> Script:
    """One container waits, one runs, one has ended, and its agent reported no command."""
    found = cp.ListContainersReply()
    for one in (
        view(ContainerState.CREATED),
        view(ContainerState.RUNNING, "run", "it"),
        view(ContainerState.EXITED),
    ):
        to_proto(one, found.containers.add())
    return script.on("ListContainers", found)


def test_a_container_that_waits_has_the_command_of_its_image(
    scripted: Script, pyswarm: Pyswarm
) -> None:
    config = b'{"config": {"Entrypoint": ["/entry"], "Cmd": ["serve", "-v"]}}'
    details = images_pb2.ImageDetails(config=config)
    scripted.on("InspectImage", images_pb2.InspectImageReply(details=details))
    ran = pyswarm("ps", "-a", *FORM)
    assert ran.out.splitlines() == ['"/entry serve -v"', '"run it"', ""]
    assert [one.ref for one in scripted.requests("InspectImage")] == ["web:1"]


def test_an_image_that_nobody_knows_leaves_it_empty(scripted: Script, pyswarm: Pyswarm) -> None:
    scripted.on("InspectImage", Unavailable("no node answers"))
    ran = pyswarm("ps", "-a", *FORM)
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.splitlines() == ["", '"run it"', ""]


@pytest.mark.parametrize("flags", [("-q",), ("--format", "{{.Names}}")])
def test_a_list_without_commands_asks_for_no_image(
    scripted: Script, pyswarm: Pyswarm, flags: tuple[str, ...]
) -> None:
    pyswarm("ps", "-a", *flags)
    assert scripted.requests("InspectImage") == []
