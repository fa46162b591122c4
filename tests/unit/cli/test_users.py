"""`pyswarm user`: requests, output and bad input."""

import json
import re
from typing import Any

import pytest

from pyswarm_core.api.v1 import control_pb2 as pb
from pyswarm_core.api.v1 import objects_pb2
from pyswarm_core.clock import HOUR, MINUTE, Instant
from pyswarm_core.codec import to_proto
from pyswarm_core.errors import Conflict
from pyswarm_core.identity.users import Role, User, UserId, UserSpec, UserToken
from pyswarm_core.kinds import encode
from pyswarm_core.objects import Version
from tests.fixtures.build import NOW
from tests.unit.cli.conftest import Pyswarm
from tests.unit.cli.scripted import Script

CI = User(
    id=UserId("c" * 25),
    spec=UserSpec(name="ci", role=Role.OPERATOR, stacks=("web", "db"), labels={"team": "a"}),
    version=Version(index=3),
    created_at=NOW,
    updated_at=NOW,
)
TIME = "2023-11-14T22:13:20.000000000Z"
TEXT = f"PYSWU-1-{'0' * 50}-{'t' * 25}-{'s' * 25}"


INFO = pb.GetInfoReply(join_addr="192.0.2.1:2377")


def _reply(user: User = CI) -> pb.UserReply:
    return pb.UserReply(user=to_proto(user, objects_pb2.User()))


def _encoded(user: User = CI) -> pb.EncodedObject:
    return pb.EncodedObject(value=encode(user))


def test_create(script: Script, pyswarm: Pyswarm) -> None:
    script.on("CreateUser", _reply())
    line = "user create ci --role operator --stack web --stack db --stack web --label team=a"
    assert pyswarm(*line.split()).out == f"{CI.id}\n"
    (request,) = script.requests("CreateUser")
    assert request.spec == to_proto(CI.spec, objects_pb2.UserSpec())


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("user create ci", "Missing option '--role'"),
        ("user create ci --role boss", "expected one of viewer, operator, admin"),
        ("user create root --role admin", "expected another name than root"),
        ("user create ci --role admin --stack web", '--role: value "admin" is not valid'),
        ("user create ci --role viewer --stack a/b", '--stack: value "a/b" is not valid'),
        ("user update ci", "nothing to update: specify at least one flag"),
        ("user token ci --expires soon", '--expires: value "soon" is not valid: expected days'),
        ("user token ci --expires 0s", '--expires: value "0s" is not valid: expected days'),
        ("user token ci --expires 9999d", 'value "9999d" is not valid: expected at most 3650d'),
        ("user token ci --expires 100000d", 'value "100000d" is not valid: expected at'),
    ],
)
def test_bad_input(script: Script, pyswarm: Pyswarm, line: str, told: str) -> None:
    ran = pyswarm(*line.split())
    assert ran.code == 2
    assert told in ran.err
    assert not script.asked


def test_lists(script: Script, pyswarm: Pyswarm) -> None:
    script.on("ListObjects", pb.ListObjectsReply(objects=[_encoded()]))
    rows = [line.split() for line in pyswarm("user", "ls").out.splitlines()]
    assert rows == [
        ["USER", "ID", "NAME", "ROLE", "STACKS"],
        ["c" * 12, "ci", "operator", "web,db"],
    ]
    assert pyswarm("user", "ls", "-q", "--no-trunc").out == f"{CI.id}\n"
    shown = pyswarm("user", "ls", "--format", "{{.Name}} {{.Labels}} {{.CreatedAt}}").out
    assert shown == f"ci team=a {TIME}\n"
    pyswarm("user", "ls", "-f", "role=admin")
    request = script.requests("ListObjects")[-1]
    assert (request.kind, list(request.filters)) == ("user", ["role=admin"])


def test_inspect(script: Script, pyswarm: Pyswarm) -> None:
    script.on("GetObject", _encoded())
    (shown,) = json.loads(pyswarm("user", "inspect", "ci").out)
    assert shown["ID"] == CI.id
    assert shown["Spec"]["Role"] == "operator"
    assert shown["Spec"]["Stacks"] == ["web", "db"]
    assert pyswarm("user", "inspect", "-f", "{{.Spec.Role}}", "ci").out == "operator\n"


def test_rm(script: Script, pyswarm: Pyswarm) -> None:
    script.on("RemoveObject", pb.RemoveObjectReply())
    assert pyswarm("user", "rm", "ci", "ann").out == "ci\nann\n"
    asked = [(one.kind, one.ref) for one in script.requests("RemoveObject")]
    assert asked == [("user", "ci"), ("user", "ann")]


def test_update(script: Script, pyswarm: Pyswarm) -> None:
    script.on("GetObject", _encoded()).on("UpdateUser", _reply())
    line = "user update ci --role viewer --stack-add api --stack-rm db --label-add x=1"
    assert pyswarm(*line.split(), "--label-rm", "team").out == "ci\n"
    (request,) = script.requests("UpdateUser")
    assert (request.ref, request.version.index) == (CI.id, 3)
    spec = UserSpec(name="ci", role=Role.VIEWER, stacks=("web", "api"), labels={"x": "1"})
    assert request.spec == to_proto(spec, objects_pb2.UserSpec())


def test_update_of_a_user_that_changed_meanwhile(script: Script, pyswarm: Pyswarm) -> None:
    script.on("GetObject", _encoded()).on("UpdateUser", Conflict("changed"), _reply())
    assert pyswarm("user", "update", "ci", "--role", "viewer").code == 0
    assert len(script.requests("UpdateUser")) == 2


def test_a_user_does_not_lose_its_last_stack_by_accident(script: Script, pyswarm: Pyswarm) -> None:
    script.on("GetObject", _encoded()).on("UpdateUser", _reply())
    line = "user update ci --stack-rm web --stack-rm db".split()
    ran = pyswarm(*line)
    assert ran.code == 2
    assert "specify --role operator as well" in ran.err
    assert pyswarm(*line, "--role", "operator").code == 0
    assert not script.requests("UpdateUser")[0].spec.stacks


def _created(expires_at: int = 0) -> pb.CreateUserTokenReply:
    return pb.CreateUserTokenReply(token=TEXT, token_id="t" * 25, expires_at=expires_at)


@pytest.mark.parametrize(
    "line",
    [
        "user token create ci --expires 90d --description x",
        "user token ci --expires 90d --description x",
        "user token --expires 90d --description x ci",
        "user token ci --expires 2160h --description x",
    ],
)
def test_a_token_is_created_and_shown(script: Script, pyswarm: Pyswarm, line: str) -> None:
    script.on("CreateUserToken", _created(NOW)).on("GetInfo", INFO)
    shown = pyswarm(*line.split()).out
    assert shown.startswith(
        f"Token {'t' * 12} of user ci, which expires at {TIME}:\n\n    {TEXT}\n"
    )
    assert "It is not shown again." in shown
    assert "    pyswarm context create NAME --pyswarm host=192.0.2.1:2377,token=TOKEN\n" in shown
    (request,) = script.requests("CreateUserToken")
    assert (request.ref, request.lifetime, request.description) == ("ci", 90 * 24 * HOUR, "x")


def test_a_token_without_an_end(script: Script, pyswarm: Pyswarm) -> None:
    script.on("CreateUserToken", _created()).on("GetInfo", INFO)
    assert pyswarm("user", "token", "-q", "ci").out == f"{TEXT}\n"
    assert pyswarm("user", "token", "ci").out.startswith(f"Token {'t' * 12} of user ci:\n")
    assert [one.lifetime for one in script.requests("CreateUserToken")] == [0, 0]


def test_the_group_of_tokens_has_help(pyswarm: Pyswarm) -> None:
    for line in ("user token", "user token --help"):
        shown = pyswarm(*line.split()).out
        assert all(
            re.search(rf"^  {verb} ", shown, re.MULTILINE) for verb in ("create", "ls", "rm")
        )


def test_tokens_are_listed(script: Script, pyswarm: Pyswarm) -> None:
    tokens: list[Any] = [
        UserToken(id="t" * 25, created_at=NOW, description="pipeline"),
        UserToken(id="u" * 25, created_at=NOW, expires_at=Instant(NOW + MINUTE)),
    ]
    reply = pb.ListUserTokensReply(
        tokens=[to_proto(one, objects_pb2.UserToken()) for one in tokens]
    )
    script.on("ListUserTokens", reply)
    lines = pyswarm("user", "token", "ls", "ci").out.splitlines()
    assert lines[1].split() == ["t" * 12, "pipeline", TIME, "never"]
    assert lines[2].split() == ["u" * 12, TIME, TIME.replace("22:13", "22:14")]
    assert pyswarm("user", "token", "ls", "-q", "ci").out == f"{'t' * 12}\n{'u' * 12}\n"
    assert script.requests("ListUserTokens")[0].ref == "ci"


def test_tokens_are_removed(script: Script, pyswarm: Pyswarm) -> None:
    script.on("RemoveUserToken", pb.RemoveUserTokenReply(token_id="t" * 25))
    assert pyswarm("user", "token", "rm", "ci", "ttt", "uuu").out == "ttt\nuuu\n"
    asked = [(one.ref, one.token) for one in script.requests("RemoveUserToken")]
    assert asked == [("ci", "ttt"), ("ci", "uuu")]
