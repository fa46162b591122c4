"""`pyswarm image import` and `pyswarm import`."""

import bz2
import datetime
import gzip
import json
import lzma
import platform as machine
import shutil
import sys
import tarfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import IO, Any

import click

from cli import session
from cli.lazy import Verb
from pyswarm_core.docker.reference import parse_reference
from pyswarm_core.errors import InvalidArgument, PyswarmError, invalid

_BLOCK = 1024 * 1024
_URL_TIMEOUT_S = 60.0
_ZSTD = b"\x28\xb5\x2f\xfd"
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm"}


@click.command(
    name="import",
    cls=Verb,
    help="Import the contents from a tarball to create a filesystem image in the fleet's registry"
    "\n\nExample: pyswarm import --change 'CMD [\"/web\"]' rootfs.tar.gz web:1",
)
@click.option(
    "-c", "--change", "changes", multiple=True, metavar="INSTRUCTION",
    help="Apply Dockerfile instruction to the created image",
)  # fmt: skip
@click.option(
    "-m", "--message", default="", metavar="TEXT", help="Set commit message for imported image"
)
@click.option(
    "--platform", default="", metavar="OS[/ARCH[/VARIANT]]", help="Set the platform of the image"
)
@click.argument("source", metavar="file|URL|-")
@click.argument("name", metavar="[REPOSITORY[:TAG]]", required=False)
def import_(
    *, changes: tuple[str, ...], message: str, platform: str, source: str, name: str | None
) -> None:
    from cli.image.transfer import skopeo, sources
    from cli.image.transfer.changes import configured
    from cli.registry.opening import opened

    if name is None:
        raise InvalidArgument(
            "REPOSITORY[:TAG]: expected a name: the fleet's registry keeps no image without one"
        )
    image = parse_reference(name)
    if image.digest:
        raise invalid("REPOSITORY", name, "expected a name without a digest")
    config = configured(changes)
    with skopeo.folder() as folder, _opened(source) as content:
        layout = folder / "layout"
        image_id = write_layout(layout, content, config, message, platform)
        with opened(session.connection(), write=True) as registry:
            to = sources.to_registry(registry, image)
            failure = f"{image.familiar} could not be imported"
            sources.copy(sources.Source(f"oci:{layout}"), to, failure)
    click.echo(f"sha256:{image_id}")


@contextmanager
def _opened(source: str) -> Iterator[IO[bytes]]:
    if source == "-":
        if sys.stdin.isatty():
            raise InvalidArgument("file: expected an archive on stdin, which is a terminal")
        yield sys.stdin.buffer
    elif source.startswith(("http://", "https://")):
        try:
            with urllib.request.urlopen(source, timeout=_URL_TIMEOUT_S) as answer:
                yield answer
        except (urllib.error.URLError, TimeoutError) as error:
            raise PyswarmError(f"{source} cannot be read: {error}") from None
    else:
        if not Path(source).is_file():
            raise invalid("file", source, "expected a file that exists, a URL or -")
        with Path(source).open("rb") as file:
            yield file


def write_layout(
    layout: Path, content: IO[bytes], config: dict[str, Any], message: str, platform: str
) -> str:
    """Write an OCI layout with one layer; returns the image's id. Raises InvalidArgument."""
    blobs = layout / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    raw, plain = layout / "raw", layout / "layer"
    with raw.open("wb") as out:
        shutil.copyfileobj(content, out, _BLOCK)
    diff_id = _unpacked(raw, plain)
    raw.unlink()
    size = plain.stat().st_size
    plain.rename(blobs / diff_id)
    system = [*platform.split("/"), "", ""] if platform else ["linux", "", ""]
    now = datetime.datetime.now(datetime.UTC).isoformat().replace("+00:00", "Z")
    found: dict[str, Any] = {
        "created": now,
        "architecture": system[1] or _ARCHITECTURES.get(machine.machine(), machine.machine()),
        "os": system[0],
        "config": config,
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{diff_id}"]},
        "history": [{"created": now, "comment": message or "Imported from -"}],
    }
    if system[2]:
        found["variant"] = system[2]
    media = "application/vnd.oci.image"
    image_id, length = _blob(blobs, found)
    manifest = {
        "schemaVersion": 2,
        "mediaType": f"{media}.manifest.v1+json",
        "config": {
            "mediaType": f"{media}.config.v1+json",
            "digest": f"sha256:{image_id}",
            "size": length,
        },
        "layers": [
            {
                "mediaType": f"{media}.layer.v1.tar",
                "digest": f"sha256:{diff_id}",
                "size": size,
            }
        ],
    }
    name, length = _blob(blobs, manifest)
    entry = {"mediaType": manifest["mediaType"], "digest": f"sha256:{name}", "size": length}
    (layout / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))
    (layout / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    return image_id


def _blob(blobs: Path, document: dict[str, Any]) -> tuple[str, int]:
    content = json.dumps(document).encode()
    name = sha256(content).hexdigest()
    (blobs / name).write_bytes(content)
    return name, len(content)


def _unpacked(raw: Path, plain: Path) -> str:
    """Write the archive without its compression; returns its digest. Raises InvalidArgument."""
    with raw.open("rb") as file:
        start = file.read(6)
    if start.startswith(_ZSTD):
        raise InvalidArgument("file: it is compressed with zstd: expected gzip, bzip2, xz or none")
    readers: list[tuple[bytes, Any]] = [
        (b"\x1f\x8b", gzip.open),
        (b"BZh", bz2.open),
        (b"\xfd7zXZ", lzma.open),
    ]
    open_ = next((one for magic, one in readers if start.startswith(magic)), open)
    digest = sha256()
    try:
        with open_(raw, "rb") as file, plain.open("wb") as out:
            while block := file.read(_BLOCK):
                digest.update(block)
                out.write(block)
        with tarfile.open(plain, "r:") as archive:
            archive.next()
    except (tarfile.TarError, EOFError, lzma.LZMAError, ValueError, gzip.BadGzipFile) as error:
        raise InvalidArgument(f"file: it is no tar archive, or it is cut off: {error}") from None
    return digest.hexdigest()
