"""The context of an administrator that `swarm init` saves and `swarm leave` removes."""

import pytest

from cli.context import store
from cli.context.model import Context, Material
from cli.swarm.admin import forget_context, save_context
from pyswarm_core.api.v1 import control_pb2 as pb
from pyswarm_core.api.v1 import objects_pb2
from pyswarm_core.errors import AlreadyExists
from tests.fixtures.identity import FLEET
from tests.unit.cli.scripted import Script

ADDRESS = "192.0.2.1:2377"


@pytest.fixture
def fleet(script: Script) -> Script:
    def issued(request: pb.IssueUserCertificateRequest) -> pb.IssueUserCertificateReply:
        return pb.IssueUserCertificateReply(chain=FLEET.of_request(request.csr, "u"), user_id="u")

    user = objects_pb2.User(id="u", spec=objects_pb2.UserSpec(name="admin", role="admin"))
    script.on("CreateUser", pb.UserReply(user=user)).on("IssueUserCertificate", issued)
    return script.on("GetCa", pb.CaReply(certificate=FLEET.roots, is_finished=True))


def test_it_has_a_certificate_of_a_new_admin_and_is_not_current(fleet: Script) -> None:
    told = save_context(fleet.host, ADDRESS)
    assert told.endswith("    pyswarm context export admin\n")
    (request,) = fleet.requests("CreateUser")
    assert (request.spec.name, request.spec.role) == ("admin", "admin")
    assert [one.ref for one in fleet.requests("IssueUserCertificate")] == ["admin"]
    found = store.load("admin")
    assert found.host == ADDRESS
    assert found.material.ca == FLEET.roots
    assert found.renews_at > 0
    assert store.current_name() == "default"


def test_the_controllers_of_one_etcd_have_one_admin(fleet: Script) -> None:
    fleet.on("CreateUser", AlreadyExists('user "admin" exists already'))
    save_context(fleet.host, ADDRESS)
    assert store.load("admin").host == ADDRESS


def test_a_context_of_that_name_is_kept(fleet: Script) -> None:
    mine = Context(name="admin", host="192.0.2.9:2377", material=Material(token="t"))
    store.save(mine)
    told = save_context(fleet.host, ADDRESS)
    assert told.startswith('A context "admin" exists already.')
    assert "pyswarm context create --user admin NAME" in told
    assert store.load("admin") == mine
    assert fleet.requests("IssueUserCertificate") == []
    forget_context((ADDRESS,))
    assert store.load("admin") == mine


def test_it_ends_with_the_fleet(fleet: Script) -> None:
    forget_context((ADDRESS,))
    save_context(fleet.host, ADDRESS)
    forget_context(("192.0.2.2:2377", ADDRESS))
    assert store.names() == ["default"]
