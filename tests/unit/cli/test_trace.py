"""`net trace`: what is asked for, what is shown, and how it ends."""

import json

import pytest

from pyswarm_core.api.v1 import control_pb2 as pb
from pyswarm_core.errors import NotFound
from tests.unit.cli.conftest import Pyswarm
from tests.unit.cli.scripted import Script


def reply(*, ok: bool) -> pb.TraceNetworkReply:
    found = pb.TraceNetworkReply()
    found.hops.add(hop="name", place="web.1", ok=True, found="db is 10.0.0.9", elapsed=410_000)
    found.hops.add(
        hop="listener", place="db.1", ok=ok, found="port 80", remedy="" if ok else "bind"
    )
    return found


def test_a_whole_way_is_a_table_and_exit_code_0(pyswarm: Pyswarm, script: Script) -> None:
    script.on("TraceNetwork", reply(ok=True))
    ran = pyswarm("net", "trace", "web.1", "db:5432")
    assert ran.code == 0
    assert [line.split() for line in ran.out.splitlines()] == [
        ["HOP", "PLACE", "STATE", "TIME", "FOUND"],
        ["name", "web.1", "ok", "0.41ms", "db", "is", "10.0.0.9"],
        ["listener", "db.1", "ok", "port", "80"],
    ]
    (sent,) = script.requests("TraceNetwork")
    assert (sent.source, sent.target, sent.port, sent.udp) == ("web.1", "db", 5432, False)


def test_a_broken_hop_ends_with_its_remedy_and_exit_code_1(
    pyswarm: Pyswarm, script: Script
) -> None:
    script.on("TraceNetwork", reply(ok=False))
    ran = pyswarm("net", "trace", "web", "db")
    assert ran.code == 1
    assert ran.out.splitlines()[-2:] == ["listener is broken at db.1.", "Remedy: bind"]
    assert script.requests("TraceNetwork")[0].port == 0


def test_json_has_a_hop_a_line_with_the_remedy(pyswarm: Pyswarm, script: Script) -> None:
    script.on("TraceNetwork", reply(ok=False))
    ran = pyswarm("net", "trace", "--format", "json", "web", "db")
    assert ran.code == 1
    last = json.loads(ran.out.splitlines()[-1])
    assert (last["Hop"], last["State"], last["Remedy"]) == ("listener", "broken", "bind")


@pytest.mark.parametrize("target", ["db:", "db:0", "db:65536", "db:http", ":80", "db:80/sctp"])
def test_a_port_that_is_none_is_refused(pyswarm: Pyswarm, script: Script, target: str) -> None:
    ran = pyswarm("net", "trace", "web", target)
    assert ran.code == 2
    assert script.requests("TraceNetwork") == []


@pytest.mark.parametrize(
    ("target", "sent"),
    [
        ("dns:53/udp", ("dns", 53, True)),
        ("fd00::1", ("fd00::1", 0, False)),
        ("[fd00::1]:80", ("fd00::1", 80, False)),
    ],
)
def test_udp_and_addresses_of_ipv6(
    pyswarm: Pyswarm, script: Script, target: str, sent: tuple[str, int, bool]
) -> None:
    script.on("TraceNetwork", NotFound("x"))
    assert pyswarm("net", "trace", "web", target).code == 1
    (request,) = script.requests("TraceNetwork")
    assert (request.target, request.port, request.udp) == sent
