"""`--secret-env` of services and containers: references in specs, and the notice about files."""

from pathlib import Path

import pytest

from pyswarm_core.api.v1 import control_pb2 as pb
from pyswarm_core.codec import from_proto
from pyswarm_core.errors import NotFound
from pyswarm_core.kinds import encode
from pyswarm_core.payloads import syntax
from pyswarm_core.payloads.payload import PayloadId, PayloadSpec, Secret
from pyswarm_core.payloads.references import SecretReference
from pyswarm_core.specs import ServiceSpec
from tests.unit.cli.conftest import Pyswarm
from tests.unit.cli.objects import node_view, service_reply
from tests.unit.cli.scripted import Script

TOLD = (
    "notice: --secret-env PW: every program that the container starts gets the variable, and"
    " may log it; the file of --secret db is read by those that need it\n"
)


def secrets_of(script: Script, rpc: str) -> tuple[SecretReference, ...]:
    spec = from_proto(ServiceSpec, script.requests(rpc)[-1].spec)
    return spec.task_template.container_spec.secrets


@pytest.fixture
def fleet(script: Script) -> Script:
    script.on("CreateService", service_reply()).on("GetNode", pb.NodeReply(node=node_view()))
    return script.on("GetService", service_reply()).on("UpdateService", service_reply())


@pytest.mark.parametrize("command", [("service", "create", "-d"), ("create",)])
def test_a_variable_is_a_reference_and_says_why_a_file_is_better(
    command: tuple[str, ...], fleet: Script, pyswarm: Pyswarm
) -> None:
    ran = pyswarm(*command, "--secret-env", "PW=db@3", "web")
    assert (ran.code, ran.err) == (0, TOLD)
    assert secrets_of(fleet, "CreateService") == (syntax.secret_env("PW=db@3"),)


def test_a_secret_that_a_container_lacks_is_no_network(script: Script, pyswarm: Pyswarm) -> None:
    script.on("CreateService", NotFound("secret not found: db"))
    ran = pyswarm("create", "--secret-env", "PW=db", "web")
    assert (ran.code, ran.err) == (1, f"{TOLD}Error: secret not found: db\n")


def test_an_update_adds_and_removes_variables(fleet: Script, pyswarm: Pyswarm) -> None:
    ran = pyswarm("service", "update", "-d", "--secret-env-add", "PW=db", "web")
    assert (ran.code, ran.err) == (0, TOLD)
    assert secrets_of(fleet, "UpdateService") == (syntax.secret_env("PW=db"),)
    ran = pyswarm("service", "update", "-d", "--secret-env-rm", "PW", "web")
    assert (ran.code, ran.err) == (0, "")


@pytest.mark.parametrize(("given", "sent"), [("signal=USR1", "USR1"), ("none", "none"), ("", "")])
def test_reload_is_sent(
    given: str, sent: str, script: Script, pyswarm: Pyswarm, tmp_path: Path
) -> None:
    (tmp_path / "next").write_text("next")
    made = Secret(id=PayloadId("s" * 25), spec=PayloadSpec(name="db"), number=2)
    reply = pb.UpdatePayloadReply(object=pb.EncodedObject(value=encode(made)))
    script.on("UpdateSecret", reply)
    flags = ("--reload", given) if given else ()
    ran = pyswarm("secret", "update", *flags, "db", str(tmp_path / "next"))
    assert (ran.code, ran.out) == (0, "db@2\n")
    assert script.requests("UpdateSecret")[-1].reload == sent


def test_ls_shows_all_versions_on_request(script: Script, pyswarm: Pyswarm) -> None:
    found = [
        Secret(id=PayloadId(f"{number}" * 25), spec=PayloadSpec(name=name), number=number)
        for name, number in (("db", 1), ("api", 3), ("db", 2))
    ]
    values = [pb.EncodedObject(value=encode(one)) for one in found]
    script.on("ListObjects", lambda request: [pb.ListObjectsReply(objects=values)])
    heading, *rows = pyswarm("secret", "ls", "--all").out.splitlines()
    assert heading.split() == ["ID", "NAME", "VERSION", "DRIVER", "CREATED", "UPDATED"]
    assert [row.split()[1:3] for row in rows] == [["api", "3"], ["db", "2"], ["db", "1"]]
    assert list(script.requests("ListObjects")[-1].filters) == ["version=all"]
    heading, *_ = pyswarm("secret", "ls").out.splitlines()
    assert heading.split() == ["ID", "NAME", "DRIVER", "CREATED", "UPDATED"]
