"""The progress of a pull: the size of what skopeo has written so far."""

import os
import shutil
from pathlib import Path

import pytest

from agent.images import skopeo
from agent.images.base import PullProgress


def test_progress_is_reported_while_skopeo_removes_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "storage1"
    folder.mkdir()
    (folder / "gone").write_bytes(b"12345")
    (tmp_path / "blob").write_bytes(b"123")
    told: list[PullProgress] = []
    meter = skopeo._Meter("docker.io/library/web:1", tmp_path, told.append)
    walk = os.walk

    def removing(top: Path) -> object:
        for found in walk(top):
            if folder.exists():
                shutil.move(folder, tmp_path.parent / "moved")
            yield found

    monkeypatch.setattr(os, "walk", removing)
    meter.tick()
    assert told[-1].bytes == 3
