"""Which disks get a rule for the moment that makes the kernel count."""

from pathlib import Path

import pytest

from agent.runtime.cgroups import Hierarchies
from agent.runtime.usage.disks import count_disks


@pytest.fixture
def blocks(tmp_path: Path) -> Path:
    root = tmp_path / "block"
    for name, device, size in (("vda", "254:0", 100), ("loop0", "7:0", 0), ("sda", "8:0", 5)):
        (root / name).mkdir(parents=True)
        (root / name / "dev").write_text(f"{device}\n")
        (root / name / "size").write_text(f"{size}\n")
    (root / "gone").mkdir()
    return root


def test_each_disk_gets_a_rule_that_is_removed(
    blocks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = list[tuple[str, str]]()

    def write(path: Path, text: str) -> int:
        written.append((str(path.relative_to(tmp_path)), text))
        return len(text)

    monkeypatch.setattr(Path, "write_text", write)
    hierarchies = Hierarchies("", {"blkio": str(tmp_path / "blkio")})
    assert count_disks(hierarchies, "/p", blocks) == ("sda", "vda")
    file = "blkio/p/blkio.throttle.read_bps_device"
    assert written == [
        (file, text) for text in ("8:0 1099511627776", "8:0 0", "254:0 1099511627776", "254:0 0")
    ]


def test_nothing_is_written_on_v2(blocks: Path, tmp_path: Path) -> None:
    assert count_disks(Hierarchies(str(tmp_path / "unified")), "/p", blocks) == ()
    assert not (tmp_path / "unified").exists()
