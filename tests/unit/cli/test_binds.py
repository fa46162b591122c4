"""Sources of binds that mean the host on which the command runs."""

import os
from pathlib import Path

import msgspec
import pytest

from pyswarm_core.aio import thisnode
from pyswarm_core.aio.thisnode import ThisNode
from pyswarm_core.api.v1 import control_pb2 as pb
from pyswarm_core.codec import from_proto
from pyswarm_core.specs import ServiceSpec
from pyswarm_core.volumes.mounts import Mount, MountType
from tests.unit.cli.conftest import Pyswarm
from tests.unit.cli.objects import NODE_ID, node_view, service_reply
from tests.unit.cli.scripted import Script

CLUSTER = "cluster-of-tests"
HERE = ThisNode(NODE_ID, CLUSTER, "host1")


@pytest.fixture
def fleet(script: Script) -> Script:
    info = pb.GetInfoReply()
    info.cluster.id = CLUSTER
    script.on("GetInfo", info).on("CreateService", service_reply())
    script.on("ListNodes", [pb.ListNodesReply(nodes=[node_view()])])
    return script


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file that says that this host is host1."""
    path = tmp_path / "run" / "node.json"
    monkeypatch.setattr(thisnode, "PATH", path)
    thisnode.write(HERE, path)
    return path


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory."""
    made = tmp_path / "work" / "app"
    made.mkdir(parents=True)
    monkeypatch.chdir(made)
    monkeypatch.setenv("PWD", str(made))
    return made


def made(fleet: Script) -> tuple[list[str], tuple[str, ...]]:
    """The sources and the constraints of what was created."""
    (request,) = fleet.requests("CreateService")
    template = from_proto(ServiceSpec, request.spec).task_template
    return [one.source for one in template.container_spec.mounts], template.placement.constraints


PINNED = (f"node.id=={NODE_ID}",)


@pytest.mark.parametrize(
    ("flags", "path"),
    [
        (("-v", "./conf:/etc/x"), "conf"),
        (("-v", "./conf:/etc/x:ro,z"), "conf"),
        (("-v", ".:/etc/x"), ""),
        (("-v", "..:/etc/x"), ".."),
        (("-v", "../x/./y:/etc/x"), "../x/y"),
        (("--mount", "type=bind,src=.,dst=/etc/x"), ""),
        (("--mount", "type=bind,source=./a b,target=/etc/x,readonly"), "a b"),
    ],
)
def test_a_relative_source_is_of_this_host_and_so_is_the_container(
    fleet: Script, pyswarm: Pyswarm, node: Path, folder: Path, flags: tuple[str, str], path: str
) -> None:
    ran = pyswarm("create", *flags, "web:1")
    assert ran.code == 0, ran.err
    long = flags[0] == "--mount"
    typed = flags[1].split(",")[1].partition("=")[2] if long else flags[1].partition(":")[0]
    assert f"bind {typed}: the container runs on this host, host1\n" in ran.err
    assert made(fleet) == ([os.path.normpath(folder / path)], PINNED)


@pytest.mark.parametrize("below", ["", "/conf", "/a/b"])
def test_the_working_directory_that_a_shell_inserts_means_this_host(
    fleet: Script, pyswarm: Pyswarm, node: Path, folder: Path, below: str
) -> None:
    source = f"{folder}{below}"
    ran = pyswarm("create", "-v", f"{source}:/x", "web:1")
    assert f"bind {source}: the container runs on this host, host1\n" == ran.err
    assert made(fleet) == ([source], PINNED)


def test_so_does_its_name_with_the_links_that_the_shell_went_through(
    fleet: Script, pyswarm: Pyswarm, node: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = folder.parent / "link"
    link.symlink_to(folder)
    monkeypatch.setenv("PWD", str(link))
    assert pyswarm("create", "-v", f"{link}/conf:/x", "web:1").code == 0
    assert made(fleet) == ([f"{link}/conf"], PINNED)


@pytest.mark.parametrize("shell", ["", "relative", "/no/such", "/etc"])
def test_a_wrong_pwd_of_the_environment_is_ignored(
    fleet: Script,
    pyswarm: Pyswarm,
    node: Path,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    shell: str,
) -> None:
    monkeypatch.setenv("PWD", shell)
    ran = pyswarm("create", "-v", "./a:/x", "-v", "/etc/passwd:/y", "web:1")
    assert ran.err.count("\n") == 1, ran.err
    assert made(fleet) == ([f"{folder}/a", "/etc/passwd"], PINNED)


def test_other_absolute_sources_are_of_any_node(
    fleet: Script, pyswarm: Pyswarm, folder: Path
) -> None:
    """Also those beside the working directory whose names begin like its own."""
    sources = ["/srv/data", f"{folder}2/x", str(folder.parent)]
    flags = [word for one in enumerate(sources) for word in ("-v", f"{one[1]}:/x{one[0]}")]
    ran = pyswarm("create", *flags, "web:1")
    assert (ran.code, ran.err) == (0, "")
    assert made(fleet) == (sources, ())
    assert fleet.requests("GetInfo") == []


def test_in_the_root_directory_absolute_sources_are_of_any_node(
    fleet: Script, pyswarm: Pyswarm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir("/")
    monkeypatch.setenv("PWD", "/")
    assert pyswarm("create", "-v", "/srv/data:/x", "web:1").err == ""
    assert made(fleet) == (["/srv/data"], ())


def test_an_absolute_source_with_a_node_is_of_that_node(
    fleet: Script, pyswarm: Pyswarm, folder: Path
) -> None:
    flags = ("--constraint", "node.hostname==host2", "-v", f"{folder}:/x")
    assert pyswarm("create", *flags, "web:1").err == ""
    assert made(fleet) == ([str(folder)], ("node.hostname==host2",))


def test_a_relative_source_and_another_node_contradict(
    fleet: Script, pyswarm: Pyswarm, node: Path, folder: Path
) -> None:
    flags = ("--constraint", "node.hostname==host2", "-v", "./x:/x")
    ran = pyswarm("create", *flags, "web:1")
    assert ran.code == 2
    assert "bind ./x is on this host, node host1, and node.hostname==host2 demands another" in (
        ran.err
    )
    assert fleet.requests("CreateService") == []
    same = pyswarm("create", "--constraint", "node.hostname==HOST1", "-v", "./x:/x", "web:1")
    assert same.code == 0


@pytest.mark.parametrize("source", ["./conf", "{folder}/conf"])
@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "this host is no node"),
        (b"", "this host is no node"),
        (b"\xff{", "this host is no node"),
        (b'{"node_id": 7}', "this host is no node"),
        (
            msgspec.json.encode(ThisNode(NODE_ID, "another", "host1")),
            "this host is a node of another fleet",
        ),
    ],
)
def test_on_a_host_that_is_no_node_it_is_refused_before_anything_changes(
    fleet: Script,
    pyswarm: Pyswarm,
    node: Path,
    folder: Path,
    source: str,
    content: bytes | None,
    reason: str,
) -> None:
    if content is None:
        node.unlink()
    else:
        node.write_bytes(content)
    ran = pyswarm("run", "-d", "-v", f"{source.format(folder=folder)}:/x", "web:1")
    assert ran.code == 125
    assert f"{reason}: copy the files into a volume" in ran.err
    assert f"--constraint node.hostname==NODE with the source {folder}/conf" in ran.err
    assert fleet.requests("CreateService") == []


def test_the_file_of_another_user_is_not_believed(
    node: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert thisnode.read(node) == HERE
    os.chown(node, 12345, 12345)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert thisnode.read(node) is None


def test_everybody_may_read_which_node_the_host_is(node: Path) -> None:
    mask = os.umask(0o077)
    try:
        thisnode.write(HERE, node)
    finally:
        os.umask(mask)
    assert node.stat().st_mode & 0o777 == 0o644
    thisnode.write(msgspec.structs.replace(HERE, hostname="other"), node)
    found = thisnode.read(node)
    assert found
    assert found.hostname == "other"


def test_a_removed_working_directory_has_no_relative_sources(
    fleet: Script, pyswarm: Pyswarm, node: Path, folder: Path
) -> None:
    folder.rmdir()
    ran = pyswarm("create", "-v", "./x:/x", "web:1")
    assert "the working directory does not exist: use an absolute source" in ran.err
    assert pyswarm("create", "-v", "/srv:/x", "web:1").code == 0


@pytest.mark.parametrize("flag", [("-v", "./x:/x"), ("--mount", "type=bind,src=./x,dst=/x")])
def test_a_service_has_no_relative_sources(
    fleet: Script, pyswarm: Pyswarm, node: Path, folder: Path, flag: tuple[str, str]
) -> None:
    ran = pyswarm("service", "create", "-d", *flag, "web:1")
    assert ran.code == 2
    assert 'invalid mount path: "./x" mount path must be absolute' in ran.err
    assert "an absolute path of the nodes, or a volume" in ran.err
    assert fleet.requests("CreateService") == []


def test_a_service_has_the_working_directory_as_an_ordinary_source(
    fleet: Script, pyswarm: Pyswarm, folder: Path
) -> None:
    assert pyswarm("service", "create", "-d", "-v", f"{folder}:/x", "web:1").code == 0
    assert made(fleet) == ([str(folder)], ())


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("/srv/\udcff", "is not valid UTF-8"),
        ("/srv/a\nb", "expected a source of printable characters"),
        ("/" + "/".join(["n" * 200] * 21), "expected a source of at most 4095 bytes"),
        ("/srv/" + "n" * 300, "expected names of at most 255 bytes"),
        ("/srv/" + "é" * 200, "expected names of at most 255 bytes"),
        ("/srv/../etc", "an absolute path without . and .."),
        ("//srv", "an absolute path without . and .."),
        ("conf", "mount path must be absolute"),
        ("~/conf", "mount path must be absolute"),
    ],
)
def test_a_source_that_no_host_has_is_refused(
    fleet: Script, pyswarm: Pyswarm, folder: Path, source: str, told: str
) -> None:
    ran = pyswarm("create", "--mount", f'type=bind,"src={source}",dst=/x', "web:1")
    assert ran.code == 2
    assert told in ran.err
    assert ran.err.count("\n") == 1
    assert fleet.requests("CreateService") == []


def test_binds_are_kept_as_they_were_typed_otherwise(
    fleet: Script, pyswarm: Pyswarm, node: Path, folder: Path
) -> None:
    flag = "type=bind,src=./x,dst=/x,bind-create-src,bind-propagation=rslave,ro"
    assert pyswarm("create", "--mount", flag, "web:1").code == 0
    (request,) = fleet.requests("CreateService")
    (mount,) = from_proto(ServiceSpec, request.spec).task_template.container_spec.mounts
    assert isinstance(mount, Mount)
    assert (mount.type, mount.read_only) == (MountType.BIND, True)
    assert mount.bind_options
    assert mount.bind_options.create_mountpoint
    assert mount.bind_options.propagation == "rslave"
