"""Builds by a real buildah, each test's in a storage of its own."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from cli.image.building import display, running
from cli.image.building.context import sources
from cli.image.building.storage import Storage
from cli.registry.opening import Endpoint
from pyswarm_core.docker.building.recipe import Recipe
from pyswarm_core.docker.reference import parse_reference

APPLETS = "cat chown echo env false id ls mkdir seq sh sleep touch true wc".split()


class Result(msgspec.Struct, frozen=True):
    """What a build made."""

    image: str
    storage: Storage

    def config(self) -> dict[str, Any]:
        """The image's configuration."""
        shown = self.storage.run(
            "inspect", "--type", "image", "--format", "{{.Config}}", self.image
        )
        found: dict[str, Any] = msgspec.json.decode(shown)
        return found

    def files(self, top: str = "/") -> dict[str, str]:
        """The files below a folder, or itself as `.`, with their contents."""
        container = self.storage.run("from", "--quiet", self.image).strip()
        try:
            root = Path(self.storage.run("mount", container).strip())
            folder = root / top.lstrip("/")
            return {
                str(path.relative_to(folder)): path.read_text()
                for path in (folder, *sorted(folder.rglob("*")))
                if path.is_file() and not path.is_symlink()
            }
        finally:
            self.storage.run("rm", container)


class Builds:
    """A storage, and contexts of files."""

    def __init__(self, folder: Path, registry: Endpoint | None = None) -> None:
        """The registry has base images."""
        self._registry = registry
        self.storage = Storage(folder / "storage")
        self.context = folder / "context"
        self.context.mkdir()

    def write(self, files: Mapping[str, str]) -> None:
        """Add files to the context."""
        for name, text in files.items():
            path = self.context / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    def add_busybox(self) -> None:
        """`COPY root/ /` gives an image a shell and some programs."""
        bin_ = self.context / "root" / "bin"
        bin_.mkdir(parents=True)
        busybox = shutil.which("busybox")
        assert busybox is not None
        shutil.copy(busybox, bin_ / "busybox")
        for name in APPLETS:
            (bin_ / name).symlink_to("busybox")

    def build(self, *, context: str = "", mode: str = "plain", **given: Any) -> Result:
        """Build the context, with the arguments of `Recipe`."""
        tags = tuple(map(parse_reference, given.pop("tags", ("web:1",))))
        recipe = Recipe(context=context or str(self.context), tags=tags, **given)
        with self.storage.in_use() as work:
            found = sources(recipe, work)
            running.check(recipe, found)
            shown = display.display(mode, found.content.name, quiet=mode == "quiet")
            with running.Build(recipe, found, self.storage, work, self._registry) as build:
                image = build.finish(shown)
        return Result(image, self.storage)
