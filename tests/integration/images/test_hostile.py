"""Pulls from registries that refuse, limit, lie or hang, and of images that attack the host."""

import asyncio
import os
import subprocess
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec
import pytest

from agent.images.base import (
    DiskFull,
    ImageError,
    Images,
    InvalidImage,
    RegistryUnavailable,
    Unauthorized,
)
from agent.images.settings import ImageSettings
from agent.images.store import open_images
from tests.fixtures.hostile import (
    DOCKER,
    DOCKER_LIST,
    OCI,
    OCI_INDEX,
    SCHEMA_1,
    HostileRegistry,
    answers,
    entry,
    error,
    first,
    hangs,
    hostile_registry,
    tar,
)
from tests.integration.images.conftest import HASTY

PAGE = b"<!DOCTYPE html><html><body><h1>Welcome: log in to the network</h1></body></html>"
LIMIT = error("TOOMANYREQUESTS", "You have reached your pull rate limit")


@pytest.fixture
def hostile() -> Iterator[HostileRegistry]:
    """A registry with `web:1`."""
    with hostile_registry() as registry:
        registry.image("1")
        yield registry


async def failed(images: Images, hostile: HostileRegistry, tag: str = "1") -> ImageError:
    """The error of the pull, which leaves nothing."""
    with pytest.raises(ImageError) as caught:
        await images.resolve(f"{hostile.address}/web:{tag}")
    assert str(caught.value).isprintable()
    assert (await images.stored()).images == ()
    return caught.value


async def test_the_reason_of_a_registry_that_requires_credentials_is_shown_whole(
    images: Images, hostile: HostileRegistry
) -> None:
    reason = f"ask the team of platform, {'a long way down the corridor, ' * 10}for a login"
    refusal = error("UNAUTHORIZED", reason)
    hostile.on["/v2/"] = answers(401, refusal, WWW_Authenticate='Basic realm="x"')
    said = await failed(images, hostile)
    assert isinstance(said, Unauthorized)
    assert f"unauthorized: {reason}" in str(said)


async def test_a_wait_that_the_registry_requires_is_made(
    images: Images, hostile: HostileRegistry
) -> None:
    hostile.on["/manifests/"] = first(1, answers(429, LIMIT, Retry_After="1"))
    await images.resolve(f"{hostile.address}/web:1")


@HASTY
@pytest.mark.parametrize("part", ["/manifests/", "/blobs/"])
async def test_a_wait_that_is_too_long_is_an_error_with_the_registrys_time(
    images: Images, hostile: HostileRegistry, part: str
) -> None:
    hostile.on[part] = answers(429, LIMIT, Retry_After="3600")
    said = await failed(images, hostile)
    assert isinstance(said, RegistryUnavailable)
    assert "registry limits the rate of pulls" in str(said)
    assert "Retry-After: 3600" in str(said)


@pytest.mark.parametrize("part", ["/v2/", "/manifests/"])
async def test_a_page_instead_of_an_answer_is_named(
    images: Images, hostile: HostileRegistry, part: str
) -> None:
    hostile.on[part] = answers(200, PAGE, "text/html")
    said = await failed(images, hostile)
    assert said.temporary
    assert "a page of HTML, as a proxy or a login page does" in str(said)


async def test_a_page_that_forbids_is_named(images: Images, hostile: HostileRegistry) -> None:
    hostile.on["/v2/"] = answers(403, PAGE, "text/html")
    said = await failed(images, hostile)
    assert "does not answer as a registry (/v2/), perhaps a proxy does" in str(said)


@pytest.mark.parametrize("what", ["layer", "config", "manifest"])
async def test_content_that_is_not_that_of_its_digest_is_refused(
    images: Images, hostile: HostileRegistry, what: str
) -> None:
    digest = hostile.image("1", [tar({"a": os.urandom(1000)})])
    said = msgspec.json.decode(hostile.manifests[digest][1])
    reference = f"{hostile.address}/web:1"
    if what == "manifest":
        media, content = hostile.manifests[digest]
        hostile.manifests[digest] = (media, content + b" ")
        reference = f"{hostile.address}/web@{digest}"
    else:
        part = said["layers"][0] if what == "layer" else said["config"]
        lie = bytearray(hostile.blobs[part["digest"]])
        lie[-1] ^= 1
        hostile.blobs[part["digest"]] = bytes(lie)
    with pytest.raises(InvalidImage, match="broken image"):
        await images.resolve(reference)
    assert (await images.stored()).images == ()


async def test_a_layer_that_hangs_delays_no_other_pull(
    images: Images, hostile: HostileRegistry
) -> None:
    _with_a_layer_that_hangs(hostile)
    async with asyncio.TaskGroup() as group:
        hung = group.create_task(images.resolve(f"{hostile.address}/web:slow"))
        await images.resolve(f"{hostile.address}/web:1")
        assert not hung.done()
        hung.cancel()


@HASTY
async def test_a_layer_that_hangs_is_given_up(images: Images, hostile: HostileRegistry) -> None:
    _with_a_layer_that_hangs(hostile)
    with pytest.raises(RegistryUnavailable, match="did not answer for 2 s"):
        await images.resolve(f"{hostile.address}/web:slow")


def _with_a_layer_that_hangs(hostile: HostileRegistry) -> None:
    """The layer of `web:slow` arrives by half."""
    hostile.image("slow", [tar({"a": os.urandom(200_000)})])
    digest = msgspec.json.decode(hostile.manifests["slow"][1])["layers"][0]["digest"]
    hostile.on[digest] = hangs(100_000)


@pytest.mark.parametrize("in_index", [False, True])
async def test_an_image_of_another_platform_is_refused(
    images: Images, hostile: HostileRegistry, in_index: bool
) -> None:
    digest = hostile.image("1", architecture="s390x")
    if in_index:
        hostile.index("1", {"s390x": digest})
    with pytest.raises(InvalidImage, match=r"wrong platform: .*web:1"):
        await images.resolve(f"{hostile.address}/web:1")


async def test_a_tag_that_moves_between_two_pulls_names_the_new_image(
    images: Images, hostile: HostileRegistry
) -> None:
    old = await images.resolve(f"{hostile.address}/web:1")
    digest = hostile.image("1", [tar({"b": b"2"})])
    new = await images.pull(f"{hostile.address}/web:1")
    assert new.digest == digest != old.digest
    pinned = await images.resolve(f"{hostile.address}/web:1@{old.digest}")
    assert pinned.id == old.id
    nameless = [one for one in (await images.stored()).images if not one.names]
    assert [one.id for one in nameless] in ([], [old.id])


@pytest.mark.parametrize(
    ("media", "list_media"), [(OCI, OCI_INDEX), (DOCKER, DOCKER_LIST), (OCI, ""), (DOCKER, "")]
)
async def test_manifests_of_both_formats_and_their_indexes_are_pulled(
    images: Images, hostile: HostileRegistry, media: str, list_media: str
) -> None:
    digest = hostile.image("2", [tar({"a": b"2"})], media=media)
    if list_media:
        other = hostile.image("3", architecture="s390x", media=media)
        digest = hostile.index("2", {"s390x": other, "amd64": digest}, list_media)
    assert (await images.resolve(f"{hostile.address}/web:2@{digest}")).architecture == "amd64"


def _zstd(content: bytes) -> bytes:
    command = ["zstd", "-q", "-c"]
    return subprocess.run(command, input=content, capture_output=True, check=True).stdout


async def test_layers_packed_by_zstd_are_unpacked(images: Images, hostile: HostileRegistry) -> None:
    media = "application/vnd.oci.image.layer.v1.tar+zstd"
    hostile.image("z", [tar({"a": b"zstd" * 1000})], pack=_zstd, layer_media=media)
    (layer,) = (await images.resolve(f"{hostile.address}/web:z")).layers
    assert Path(layer, "a").read_bytes() == b"zstd" * 1000


async def test_what_no_host_can_run_is_refused_before_a_layer_is_pulled(
    images: Images, hostile: HostileRegistry
) -> None:
    foreign = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
    hostile.manifest("s1", SCHEMA_1, {"schemaVersion": 1, "name": "web", "tag": "s1"})
    hostile.image("foreign", media=DOCKER, layer_media=foreign)
    hostile.image("deep", [tar({f"f{n}": b""}) for n in range(140)])
    for tag, told in (("s1", "schema 1"), ("foreign", foreign), ("deep", "140 layers")):
        assert told in str(await failed(images, hostile, tag))
    assert not any("/blobs/" in path for path in hostile.paths)


ATTACKS: Mapping[str, tuple[tarfile.TarInfo, ...]] = {
    "a path above the root": (entry("../../../outside/evil", tarfile.REGTYPE),),
    "an absolute path": (entry("/outside/evil", tarfile.REGTYPE),),
    "a file through an absolute symlink": (
        entry("link", tarfile.SYMTYPE, "/outside"),
        entry("link/evil", tarfile.REGTYPE),
    ),
    "a file through a symlink of dots": (
        entry("link", tarfile.SYMTYPE, "../../../../../outside"),
        entry("link/evil", tarfile.REGTYPE),
    ),
    "a hard link to a file of the host": (
        entry("link", tarfile.LNKTYPE, "../../../../../../outside/secret"),
    ),
    "a whiteout above the root": (entry("../../../outside/.wh.secret", tarfile.REGTYPE),),
    "an opaque whiteout above the root": (entry("../../outside/.wh..wh..opq", tarfile.REGTYPE),),
    "a device": (entry("disk", tarfile.BLKTYPE, device=(8, 0)),),
}


@pytest.mark.parametrize("attack", ATTACKS)
async def test_no_layer_reaches_outside_of_its_directory(
    settings: ImageSettings, hostile: HostileRegistry, tmp_path: Path, attack: str
) -> None:
    folders = [tmp_path / part for part in ("host/root/overlay/outside", "host/outside", "outside")]
    folders.append(Path("/outside"))
    for folder in folders:
        folder.mkdir(parents=True)
        (folder / "secret").write_bytes(b"of the host")
    try:
        hostile.image("evil", [tar({"a": b"1"}, *ATTACKS[attack])])
        async with open_images(settings) as images:
            try:
                image = await images.resolve(f"{hostile.address}/web:evil")
            except InvalidImage:
                assert (await images.stored()).images == ()
            else:
                assert all(Path(layer).is_dir() for layer in image.layers)
            await images.resolve(f"{hostile.address}/web:1")
        for folder in folders:
            assert [one.name for one in folder.iterdir()] == ["secret"]
            assert (folder / "secret").read_bytes() == b"of the host"
            assert (folder / "secret").stat().st_nlink == 1
    finally:
        Path("/outside/secret").unlink()
        Path("/outside").rmdir()


@pytest.fixture
def few_inodes(tmp_path: Path) -> Iterator[Path]:
    """A disk with space, and few inodes."""
    folder = tmp_path / "inodes"
    folder.mkdir()
    options = "size=64m,nr_inodes=400"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], check=True)
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


async def test_a_disk_without_inodes_stores_nothing_in_part_and_others_still_fit(
    settings: ImageSettings, hostile: HostileRegistry, few_inodes: Path
) -> None:
    hostile.image("many", [tar({f"f{n}": b"" for n in range(600)})])
    full = msgspec.structs.replace(settings, root=few_inodes / "root")
    async with open_images(full) as images:
        said = await failed(images, hostile, "many")
        assert isinstance(said, DiskFull)
        assert "to remove unused images: pyswarm system prune --all" in str(said)
        await images.resolve(f"{hostile.address}/web:1")
        stored = await images.stored()
        assert [len(image.names) for image in stored.images] == [1]
