"""buildah's storage where the kernel's overlay cannot be used."""

import subprocess
from pathlib import Path

import pytest

from cli.image import builder
from pyswarm_core.docker.reference import parse_reference


def test_an_image_is_built_where_the_file_system_is_an_overlay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("lower", "upper", "work", "home")
    lower, upper, work, home = (tmp_path / name for name in names)
    context = tmp_path / "context"
    for folder in (lower, upper, work, home, context):
        folder.mkdir()
    (context / "Containerfile").write_text("FROM scratch\nCOPY file /file\n")
    (context / "file").write_text("text")
    options = f"lowerdir={lower},upperdir={upper},workdir={work}"
    subprocess.run(["mount", "-t", "overlay", "overlay", "-o", options, home], check=True)
    try:
        monkeypatch.setenv("XDG_CACHE_HOME", str(home))
        builder.build(builder.Recipe(directory=context, quiet=True), [parse_reference("web:1")])
        assert (home / "pyswarm" / "build" / "storage" / "vfs-images").is_dir()
    finally:
        subprocess.run(["umount", home], check=True)
