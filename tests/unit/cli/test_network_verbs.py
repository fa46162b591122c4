"""`network` as Docker's users type it: drivers, documents, what is removed."""

import json

import pytest
from msgspec.structs import replace

from cli.main import root
from pyswarm_core.api.v1 import control_pb2 as pb
from pyswarm_core.clock import Instant
from pyswarm_core.codec import from_proto
from pyswarm_core.docker import networking
from pyswarm_core.errors import Conflict, NotFound, PermissionDenied
from pyswarm_core.ids import NetworkId
from pyswarm_core.kinds import encode
from pyswarm_core.objects import Network
from pyswarm_core.specs import NetworkSpec
from tests.unit.cli.conftest import Pyswarm
from tests.unit.cli.objects import network_reply
from tests.unit.cli.scripted import Script

APP = Network(
    id=NetworkId("a" * 25), spec=NetworkSpec(name="app", labels={"tier": "back"}),
    subnet="10.9.0.0/16", vni=4097, created_at=Instant(1),
)  # fmt: skip
WEB = replace(APP, id=NetworkId("b" * 25), spec=NetworkSpec(name="web"))
PREDEFINED = networking.predefined(Instant(1))


def listed(*networks: Network) -> pb.ListObjectsReply:
    return pb.ListObjectsReply(objects=[pb.EncodedObject(value=encode(one)) for one in networks])


@pytest.mark.parametrize(
    ("flags", "notice"),
    [
        ("-d bridge", "network app: driver bridge means overlay: the network reaches every host\n"),
        ("-d overlay", ""),
        ("", ""),
        ("--scope swarm --ipv4 --ipam-driver default -o com.docker.network.bridge.enable_icc=true",
         ""),
        ("--ipv4=true --internal=false --attachable=true", ""),
    ],
)  # fmt: skip
def test_every_new_network_is_an_overlay_and_bridge_says_so(
    flags: str, notice: str, script: Script, pyswarm: Pyswarm
) -> None:
    script.on("CreateNetwork", network_reply(APP))
    ran = pyswarm("network", "create", *flags.split(), "app")
    assert (ran.code, ran.out, ran.err) == (0, f"{APP.id}\n", notice)
    spec = from_proto(NetworkSpec, script.requests("CreateNetwork")[-1].spec)
    assert (spec.driver, spec.internal) == ("overlay", False)


def test_predefined_networks_are_listed_as_docker_does(script: Script, pyswarm: Pyswarm) -> None:
    script.on("ListObjects", listed(APP, *PREDEFINED))
    assert pyswarm("network", "ls").out == (
        "NETWORK ID     NAME      DRIVER    SCOPE\n"
        "aaaaaaaaaaaa   app       overlay   swarm\n"
        "bridge         bridge    bridge    local\n"
        "host           host      host      local\n"
        "none           none      null      local\n"
    )
    assert pyswarm("network", "ls", "-q").out == "aaaaaaaaaaaa\nbridge\nhost\nnone\n"
    assert pyswarm("network", "ls", "-q", "--no-trunc").out.startswith(f"{APP.id}\n")
    form = "{{.Name}} {{.IPv4}} {{.IPv6}} {{.Internal}} {{.Labels}}"
    assert pyswarm("network", "ls", "--format", form).out.startswith(
        "app true false false tier=back\nbridge true false false \n"
    )
    form = 'table {{.Name}}\\t{{.Label "com.example.tier"}}{{.Label "tier"}}'
    assert pyswarm("network", "ls", "-f", "name=app", "--format", form).out.startswith(
        "NAME      tiertier\napp       back\nbridge\n"
    )


def test_inspect_shows_containers_by_id_with_their_addresses(
    script: Script, pyswarm: Pyswarm
) -> None:
    reply = network_reply(replace(APP, subnet6="fd00:9::/64"))
    service = reply.services.add(name="web")
    service.tasks.add(name="web.1", task_id="t" * 25, container_id="t" * 25, address="10.9.0.2")
    container = reply.services.add(name="db")
    container.tasks.add(name="db", task_id="u" * 25, container_id="c" * 25, address="10.9.0.3")
    script.on("GetNetwork", reply)
    (found,) = json.loads(pyswarm("network", "inspect", "app").out)
    assert list(found)[:16] == [
        "Name", "Id", "Created", "Scope", "Driver", "EnableIPv4", "EnableIPv6", "IPAM", "Internal",
        "Attachable", "Ingress", "ConfigFrom", "ConfigOnly", "Containers", "Options", "Labels",
    ]  # fmt: skip
    assert found["Containers"] == {
        "t" * 25: {
            "Name": f"web.1.{'t' * 25}",
            "EndpointID": "",
            "MacAddress": "",
            "IPv4Address": "10.9.0.2/16",
            "IPv6Address": "fd00:9::2/64",
        },
        "c" * 25: {
            "Name": "db",
            "EndpointID": "",
            "MacAddress": "",
            "IPv4Address": "10.9.0.3/16",
            "IPv6Address": "fd00:9::3/64",
        },
    }
    form = "{{.Id}} {{.ID}} {{.Driver}} {{range .Containers}}{{.Name}} {{end}}{{.Subnet6}}"
    expected = f"{APP.id} {APP.id} overlay db web.1.{'t' * 25} fd00:9::/64\n"
    assert pyswarm("network", "inspect", "-f", form, "app").out == expected
    assert pyswarm("inspect", "--type", "network", "-f", form, "app").out == expected
    (same,) = json.loads(pyswarm("inspect", "--type", "network", "app").out)
    assert same == found
    (line,) = pyswarm("network", "inspect", "-f", "json", "app").out.splitlines()
    assert json.loads(line) == found


def test_a_predefined_network_is_inspected_without_a_subnet(
    script: Script, pyswarm: Pyswarm
) -> None:
    script.on("GetNetwork", network_reply(PREDEFINED[0]))
    (found,) = json.loads(pyswarm("network", "inspect", "bridge").out)
    assert (found["Id"], found["Driver"], found["Scope"]) == ("bridge", "bridge", "local")
    assert (found["IPAM"]["Config"], found["Containers"], found["Options"]) == ([], {}, {})
    assert "VNI" not in found


def test_prune_removes_what_nothing_uses(script: Script, pyswarm: Pyswarm) -> None:
    script.on("ListObjects", listed(APP, WEB)).on("RemoveObject", pb.RemoveObjectReply())
    ran = pyswarm("network", "prune", "--force")
    assert (ran.code, ran.out, ran.err) == (0, "Deleted Networks:\napp\nweb\n", "")
    (asked,) = script.requests("ListObjects")
    assert (asked.kind, list(asked.filters)) == ("network", ["dangling=true"])
    assert [one.ref for one in script.requests("RemoveObject")] == [APP.id, WEB.id]


@pytest.mark.parametrize(
    ("flags", "names"),
    [
        (["label=tier"], ["app"]),
        (["label=tier=front"], []),
        (["label!=tier"], ["web"]),
        (["label=tier", "label!=tier=front"], ["app"]),
        (["until=1970-01-01T00:00:00Z"], []),
        (["until=1m"], ["app", "web"]),
    ],
)
def test_prune_has_dockers_filters(
    flags: list[str], names: list[str], script: Script, pyswarm: Pyswarm
) -> None:
    script.on("ListObjects", listed(APP, WEB)).on("RemoveObject", pb.RemoveObjectReply())
    words = [word for flag in flags for word in ("--filter", flag)]
    ran = pyswarm("network", "prune", "-f", *words)
    assert ran.out.splitlines()[1:] == names
    assert not names or ran.out.startswith("Deleted Networks:\n")


@pytest.mark.parametrize("value", ["until=soon", "until=", "driver=overlay", "label", "x=1"])
def test_prune_refuses_other_filters_before_it_asks(
    value: str, script: Script, pyswarm: Pyswarm
) -> None:
    ran = pyswarm("network", "prune", "--filter", value)
    assert (ran.code, ran.out) == (2, "")
    assert f'--filter: value "{value.removeprefix("until=") if "soon" in value else value}"' in (
        ran.err
    )
    assert script.asked == []


def test_prune_leaves_what_was_joined_meanwhile_and_ends_for_a_viewer(
    script: Script, pyswarm: Pyswarm
) -> None:
    script.on("ListObjects", listed(APP, WEB))
    script.on("RemoveObject", Conflict("network is in use"), pb.RemoveObjectReply())
    assert pyswarm("network", "prune", "-f").out == "Deleted Networks:\nweb\n"
    script.on("RemoveObject", NotFound("network app not found"))
    assert pyswarm("network", "prune", "-f").out == ""
    script.on("RemoveObject", PermissionDenied("that needs the role operator"))
    ran = pyswarm("network", "prune", "-f")
    assert (ran.code, ran.out, ran.err) == (1, "", "Error: that needs the role operator\n")


def test_several_networks_are_removed_and_the_rest_reported(
    script: Script, pyswarm: Pyswarm
) -> None:
    refused = Conflict("bridge is a pre-defined network and cannot be removed")
    script.on("RemoveObject", pb.RemoveObjectReply(), refused, pb.RemoveObjectReply())
    ran = pyswarm("network", "rm", "app", "bridge", "web")
    assert (ran.code, ran.out) == (1, "app\nweb\n")
    assert ran.err == "Error: bridge is a pre-defined network and cannot be removed\n"
    script.on("RemoveObject", NotFound("network gone not found"))
    ran = pyswarm("network", "rm", "gone")
    assert (ran.code, ran.err) == (1, "Error: network gone not found\n")
    assert pyswarm("network", "rm", "-f", "gone").code == 0


def test_a_missing_network_is_named_beside_those_that_exist(
    script: Script, pyswarm: Pyswarm
) -> None:
    script.on("GetNetwork", network_reply(APP), NotFound("network gone not found"))
    ran = pyswarm("network", "inspect", "app", "gone")
    assert (ran.code, ran.err) == (1, "Error: network gone not found\n")
    assert [one["Name"] for one in json.loads(ran.out)] == ["app"]


def test_every_verb_of_networks_has_an_example() -> None:
    import click

    group = root.get_command(click.Context(root), "network")
    assert isinstance(group, click.Group)
    for name in group.list_commands(click.Context(group)):
        verb = group.get_command(click.Context(group), name)
        assert verb is not None
        assert f"Example: pyswarm network {name}" in (verb.help or "")
