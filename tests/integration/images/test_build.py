"""Images that buildah builds, also where the kernel's overlay cannot be used."""

import os
import subprocess
from pathlib import Path

import pytest

from agent.images.imageconfig import parse_configuration
from cli.image import builder
from pyswarm_core.clock import SECOND
from pyswarm_core.docker.reference import parse_reference
from pyswarm_core.specs import HealthConfig


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


def test_a_built_image_keeps_its_healthcheck(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    context = tmp_path / "context"
    context.mkdir()
    (context / "file").write_text("text")
    (context / "Containerfile").write_text(
        "FROM scratch\nCOPY file /file\n"
        "HEALTHCHECK --interval=7s --timeout=2s --start-period=9s --retries=5 CMD /check it\n"
    )
    builder.build(builder.Recipe(directory=context, quiet=True), [parse_reference("web:1")])
    storage = tmp_path / "home/pyswarm/build/storage.conf"
    shown = subprocess.run(
        ["buildah", "inspect", "--type", "image", "--format", "{{.Config}}", "web:1"],
        env={**os.environ, "CONTAINERS_STORAGE_CONF": str(storage)},
        check=True,
        capture_output=True,
    )
    assert parse_configuration(shown.stdout).run.healthcheck == HealthConfig(
        test=("CMD-SHELL", "/check it"),
        interval=7 * SECOND,
        timeout=2 * SECOND,
        start_period=9 * SECOND,
        retries=5,
    )
