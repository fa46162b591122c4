"""Which images are refused by their manifests, before a layer is pulled."""

import json
from typing import Any

import pytest

from agent.images.base import InvalidImage
from agent.images.manifest import check_manifest, check_platform, entry_for, parse_manifest

GZIP = "application/vnd.oci.image.layer.v1.tar+gzip"


def manifest(count: int, media: str = GZIP) -> dict[str, Any]:
    layers = [{"digest": f"sha256:{n:064}", "mediaType": media, "size": 1} for n in range(count)]
    return {"schemaVersion": 2, "layers": layers}


def refused(said: dict[str, Any]) -> str:
    with pytest.raises(InvalidImage) as caught:
        check_manifest(parse_manifest(json.dumps(said).encode()), "web:1")
    return str(caught.value)


def test_as_many_layers_as_the_kernel_mounts_are_fine() -> None:
    check_manifest(parse_manifest(json.dumps(manifest(127)).encode()), "web:1")


def test_more_layers_than_the_kernel_mounts_are_refused_by_number() -> None:
    said = refused(manifest(128))
    assert "web:1 has 128 layers, and a container mounts at most 127" in said


def test_schema_1_is_refused_by_name() -> None:
    assert "web:1 has a manifest of schema 1" in refused({"schemaVersion": 1, "fsLayers": []})


@pytest.mark.parametrize(
    "media",
    [
        "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
        "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
        "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd",
    ],
)
def test_a_foreign_layer_is_refused_by_name(media: str) -> None:
    said = refused(manifest(1, media))
    assert f"foreign layer sha256:{0:064} ({media})" in said


@pytest.mark.parametrize("text", [b"", b"<html>", b"[]", b"\xff", b'{"layers": 1}', b"null"])
def test_what_is_no_manifest_is_left_to_skopeo(text: bytes) -> None:
    check_manifest(parse_manifest(text), "web:1")


def test_of_an_index_the_entry_of_the_hosts_platform_is_looked_at() -> None:
    entries = [
        {"digest": name, "platform": {"os": system, "architecture": name}}
        for name, system in (("s390x", "linux"), ("amd64", "windows"), ("arm64", "linux"))
    ]
    index = parse_manifest(json.dumps({"schemaVersion": 2, "manifests": entries}).encode())
    assert entry_for(index, "arm64") == "arm64"
    assert entry_for(index, "amd64") == ""


@pytest.mark.parametrize(
    ("found", "own"),
    [("", "amd64"), ("amd64", "amd64"), ("386", "amd64"), ("arm", "arm64"), ("riscv64", "riscv64")],
)
def test_an_image_runs_on_its_platform(found: str, own: str) -> None:
    check_platform("web:1", found, own)


@pytest.mark.parametrize(("found", "own"), [("arm64", "amd64"), ("amd64", "arm64")])
def test_an_image_of_another_platform_is_refused(found: str, own: str) -> None:
    with pytest.raises(InvalidImage, match=f"web:1 is for linux/{found}, .* is linux/{own}"):
        check_platform("web:1", found, own)
