"""Every flag that Docker's commands about volumes have: honoured, or refused by name."""

import json

import pytest

from pyswarm_core.api.v1 import control_pb2 as pb
from pyswarm_core.codec import from_proto
from pyswarm_core.kinds import encode
from pyswarm_core.volumes.volume import Volume, VolumeId, VolumeSpec
from tests.fixtures.source import ROOT
from tests.unit.cli.conftest import Pyswarm
from tests.unit.cli.scripted import Script
from tests.unit.cli.test_container_flags import options_of

DOCKER = json.loads((ROOT / "tests/fixtures/docker_volume_flags.json").read_text())["commands"]
ROWS = [(command, row) for command in DOCKER for row in DOCKER[command] if command[-6:] != "update"]
"""`volume update` changes cluster volumes alone."""
LISTS = ("list", "map", "filter")


@pytest.mark.parametrize(
    ("command", "row"), ROWS, ids=[f"{command} {row['flag']}" for command, row in ROWS]
)
def test_a_flag_of_docker_has_its_form_or_is_refused(
    command: str, row: dict[str, str], script: Script, pyswarm: Pyswarm
) -> None:
    flag = row["flag"]
    option = options_of(command)[flag]
    if option.hidden:
        value = ("x",) if "type" in row else ()
        ran = pyswarm(*command.split()[1:], flag, *value)
        assert (ran.code, ran.out) == (2, "")
        assert f"Error: {flag} is not supported: it is for cluster volumes of CSI" in ran.err
        assert script.asked == []
        return
    assert (row.get("short") or "") in ("", *option.opts)
    assert option.is_flag == ("type" not in row)
    assert option.multiple == (row.get("type") in LISTS)
    if "default" in row and not option.multiple:
        assert option.default == json.loads(row["default"])


def test_create_has_dockers_old_flag_for_the_name(script: Script, pyswarm: Pyswarm) -> None:
    made = Volume(id=VolumeId("v" * 25), spec=VolumeSpec(name="data"))
    script.on("CreateVolume", pb.EncodedObject(value=encode(made)))
    assert pyswarm("volume", "create", "--name", "data").out == "data\n"
    (request,) = script.requests("CreateVolume")
    assert from_proto(VolumeSpec, request.spec).name == "data"
    ran = pyswarm("volume", "create", "--name", "data", "other")
    assert (ran.code, len(script.requests("CreateVolume"))) == (2, 1)
    assert "cannot specify a volume-name through both --name and as a positional arg" in ran.err


def test_ls_is_by_name_and_knows_dockers_placeholders(script: Script, pyswarm: Pyswarm) -> None:
    found = [
        Volume(id=VolumeId(name[0] * 25), spec=VolumeSpec(name=name, labels={"tier": name}))
        for name in ("logs", "data")
    ]
    values = [pb.EncodedObject(value=encode(one)) for one in found]
    script.on(
        "ListObjects",
        lambda request: [pb.ListObjectsReply(objects=values if request.kind == "volume" else [])],
    )
    assert pyswarm("volume", "ls", "-q").out.split() == ["data", "logs"]
    form = '{{.Name}} {{.Label "tier"}} {{.Scope}} {{.Links}} {{.Size}}'
    assert pyswarm("volume", "ls", "--format", form).out.splitlines() == [
        "data data local 0 N/A",
        "logs logs local 0 N/A",
    ]
    (first, _) = pyswarm("volume", "ls", "--format", "json").out.splitlines()
    dockers = "Availability Driver Group Labels Links Mountpoint Name Scope Size Status".split()
    assert set(dockers) <= json.loads(first).keys()
