"""Directories that are uploaded into volumes before a stack is applied."""

from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from cli.compose import uploads
from cli.container.files import local
from cli.volume.archiving import streaming
from compose.mapping.mapped import Mapped, Upload
from pyswarm_core.ids import NodeId
from pyswarm_core.specs import ContainerSpec, Placement, ServiceSpec, TaskSpec
from pyswarm_core.stacks.spec import StackSpec
from pyswarm_core.volumes.mounts import Mount
from pyswarm_core.volumes.volume import Volume, VolumeId, VolumeSpec


class Fleet:
    """The volume, and what was sent into it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *copies: str) -> None:
        self.copies = tuple(map(NodeId, copies))
        self.filled: list[tuple[Any, bytes]] = []
        self.copied: list[tuple[Any, bytes]] = []
        monkeypatch.setattr(streaming, "restore", self._restore)
        monkeypatch.setattr(local, "from_files", self._from_files)

    def create_volume(self, spec: VolumeSpec) -> Volume:
        return Volume(id=VolumeId("v1"), spec=spec, copies=self.copies)

    async def _restore(self, client: Any, request: Any, source: Any, progress: Any) -> int:
        self.filled.append((request, b"".join(source.chunks())))
        source.close()
        return len(self.filled[-1][1])

    async def _from_files(self, client: Any, request: Any, departure: Any) -> int:
        self.copied.append((request, b"".join(departure.archive())))
        departure.close()
        return len(self.copied[-1][1])


def mapped(directory: Path, *constraints: str) -> Mapped:
    container = ContainerSpec(image="x", mounts=(Mount(source="shop_html", target="/h"),))
    template = TaskSpec(
        container_spec=container, placement=Placement(constraints=tuple(constraints))
    )
    spec = StackSpec(
        name="shop",
        services=(ServiceSpec(name="shop_web", task_template=template),),
        volumes=(VolumeSpec(name="shop_html"),),
    )
    return Mapped(
        spec=spec,
        services={"web": "shop_web"},
        uploads=(Upload("shop_html", str(directory)),),
    )


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "index").write_text("the page")
    return tmp_path


def test_a_volume_without_files_is_filled(
    directory: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fleet = Fleet(monkeypatch)
    uploads.upload(fleet, mapped(directory, "node.hostname==host2"))  # type: ignore[arg-type]
    ((request, archive),) = fleet.filled
    assert (request.ref, request.node, request.path) == ("v1", "host2", "")
    assert b"the page" in archive
    assert f"of {directory} are in volume shop_html\n" in capsys.readouterr().err


def test_files_are_copied_into_each_copy(
    directory: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fleet = Fleet(monkeypatch, "n1", "n2")
    uploads.upload(fleet, mapped(directory), quiet=True)  # type: ignore[arg-type]
    assert [(one.node, one.path, one.name) for one, _ in fleet.copied] == [
        ("n1", "/", ""),
        ("n2", "/", ""),
    ]
    assert all(b"the page" in archive for _, archive in fleet.copied)
    assert capsys.readouterr().err == ""


def test_a_directory_that_is_gone_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pyswarm_core.errors import InvalidArgument

    fleet = Fleet(monkeypatch)
    gone = replace(mapped(tmp_path / "gone"))
    with pytest.raises(InvalidArgument, match="gone: no such file or directory"):
        uploads.upload(fleet, gone)  # type: ignore[arg-type]
