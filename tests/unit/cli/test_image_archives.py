"""Archives of images, instructions of `import`, and answers of registries."""

import gzip
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from cli.image.transfer import archives, skopeo, sources
from cli.image.transfer.changes import configured
from cli.image.transfer.import_ import write_layout
from cli.image.transfer.search import Found, one_passes, parsed, split
from pyswarm_core.errors import InvalidArgument


def packed(path: Path, **files: bytes) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name.replace("_json", ".json"))
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return path


def entry(config: str, *tags: str) -> dict[str, Any]:
    return {"Config": config, "RepoTags": list(tags) or None, "Layers": ["layer"]}


def manifest(*entries: dict[str, Any]) -> bytes:
    return json.dumps(entries).encode()


def test_an_archive_names_its_images(tmp_path: Path) -> None:
    said = manifest(entry("a", "web:1", "web:2"), entry("b"))
    path = packed(tmp_path / "a.tar", layer=b"x", manifest_json=said)
    assert archives.entries(path) == [
        archives.Entry(f"docker-archive:{path}:@0", ("web:1", "web:2")),
        archives.Entry(f"docker-archive:{path}:@1"),
    ]
    zipped = tmp_path / "a.tar.gz"
    zipped.write_bytes(gzip.compress(path.read_bytes()))
    assert len(archives.entries(zipped)) == 2


def test_an_oci_archive_names_its_images(tmp_path: Path) -> None:
    notes = {"org.opencontainers.image.ref.name": "1", "io.containerd.image.name": "web:1"}
    said = json.dumps({"manifests": [{"annotations": notes}]}).encode()
    path = packed(tmp_path / "a.tar", index_json=said)
    assert archives.entries(path) == [archives.Entry(f"oci-archive:{path}:1", ("web:1",))]


@pytest.mark.parametrize("content", [b"", b"no tar", b"\x28\xb5\x2f\xfd zstd"])
def test_a_file_that_is_no_archive_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(InvalidArgument) as raised:
        archives.entries(tmp_path / "a")
    assert "method" not in str(raised.value), "what each decompressor said"


@pytest.mark.parametrize("said", [b"{", b"5", b'[{"RepoTags": 5}]', b"null"])
def test_a_manifest_of_other_types_is_refused(said: bytes, tmp_path: Path) -> None:
    path = packed(tmp_path / "a.tar", manifest_json=said)
    with pytest.raises(InvalidArgument, match="no archive of images"):
        archives.entries(path)
    empty = packed(tmp_path / "b.tar", other=b"x")
    with pytest.raises(InvalidArgument, match=r"neither manifest\.json nor index\.json"):
        archives.entries(empty)


def merged(*archives_: Path) -> Path:
    target = archives_[0].with_name("all")
    with target.open("wb") as out:
        archives.merge(archives_, out)
    return target


def test_several_archives_become_one_with_each_layer_once(tmp_path: Path) -> None:
    one = packed(tmp_path / "1", a=b"1", layer=b"x", manifest_json=manifest(entry("a", "web:1")))
    two = packed(tmp_path / "2", a=b"1", layer=b"x", manifest_json=manifest(entry("a", "web:2")))
    three = packed(tmp_path / "3", b=b"2", layer=b"x", manifest_json=manifest(entry("b", "db:1")))
    whole = merged(one, two, three)
    with tarfile.open(whole) as archive:
        assert archive.getnames() == ["a", "layer", "b", "manifest.json"]
    assert [one.names for one in archives.entries(whole)] == [("web:1", "web:2"), ("db:1",)]


def test_an_archive_has_dockers_short_names(tmp_path: Path) -> None:
    hub, other = "docker.io/library/web:1", "registry.test:5000/team/web:2"
    said = manifest(entry("a", hub, other), entry("b"))
    tags = {"docker.io/library/web": {"1": "layer"}, "registry.test:5000/team/web": {"2": "layer"}}
    one = packed(tmp_path / "1", repositories=json.dumps(tags).encode(), manifest_json=said)
    with tarfile.open(merged(one)) as archive:
        found = {
            member.name: json.loads((archive.extractfile(member) or io.BytesIO()).read())
            for member in archive
        }
    assert [one["RepoTags"] for one in found["manifest.json"]] == [["web:1", other], None]
    assert found["repositories"] == {
        "web": {"1": "layer"},
        "registry.test:5000/team/web": {"2": "layer"},
    }


def test_instructions_become_a_configuration() -> None:
    assert configured(
        (
            'CMD ["/web", "-v"]',
            "entrypoint run it",
            'ENV A=1 B="2 3"',
            "ENV A 4 5",
            "EXPOSE 80 53/udp",
            "LABEL x=y",
            'VOLUME ["/data"]',
            "VOLUME /a /b",
            "USER web",
            "WORKDIR /app",
            "STOPSIGNAL SIGINT",
            "ONBUILD RUN x",
        )
    ) == {
        "Cmd": ["/web", "-v"],
        "Entrypoint": ["/bin/sh", "-c", "run it"],
        "Env": ["B=2 3", "A=4 5"],
        "ExposedPorts": {"80/tcp": {}, "53/udp": {}},
        "Labels": {"x": "y"},
        "Volumes": {"/data": {}, "/a": {}, "/b": {}},
        "User": "web",
        "WorkingDir": "/app",
        "StopSignal": "SIGINT",
        "OnBuild": ["RUN x"],
    }


@pytest.mark.parametrize("text", ["RUN x", "CMD", "CMD [5]", "CMD [", "ENV A", "LABEL x=1 y", ""])
def test_other_instructions_are_refused(text: str) -> None:
    with pytest.raises(InvalidArgument, match="--change"):
        configured((text,))


def test_a_file_system_becomes_an_image_of_one_layer(tmp_path: Path) -> None:
    plain = packed(tmp_path / "root.tar", file=b"x").read_bytes()
    ids = {
        write_layout(tmp_path / name, io.BytesIO(content), {}, "why", "linux/arm/v7")
        for name, content in (("a", plain), ("b", gzip.compress(plain)))
    }
    for image_id in ids:
        (path,) = tmp_path.glob(f"*/blobs/sha256/{image_id}")
        config = json.loads(path.read_text())
        assert (config["os"], config["architecture"], config["variant"]) == ("linux", "arm", "v7")
        assert config["history"][0]["comment"] == "why"
        (layer,) = config["rootfs"]["diff_ids"]
        assert (path.parent / layer.removeprefix("sha256:")).read_bytes() == plain


@pytest.mark.parametrize("content", [b"", b"no tar", b"\x1f\x8b no gzip", b"\x28\xb5\x2f\xfd"])
def test_what_is_no_archive_is_not_imported(content: bytes, tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match=r"^file: it is"):
        write_layout(tmp_path / "layout", io.BytesIO(content), {}, "", "")


def test_the_reason_of_a_registry_is_shown_whole() -> None:
    long = "denied: " + "the quota of the project is used up, " * 30
    text = f'time="x" level=fatal msg="writing blob: \\"{long}\\""\n'
    assert skopeo.reason(text) == f'writing blob: "{long}"'
    answer = b'{"errors": [{"code": "DENIED", "message": "no"}, {"code": "X", "message": "why"}]}'
    assert sources.said(answer) == "DENIED: no; X: why"
    assert sources.said(b"<html>\n busy</html>") == "<html> busy</html>"
    assert sources.said(b"") == "without a reason"


def test_the_next_page_is_that_of_the_header() -> None:
    link = '</v2/_catalog?last=b&n=1>; rel="next"'
    assert sources.following(link) == "/v2/_catalog?last=b&n=1"
    assert sources.following(f"<https://registry.test{link[1:]}") == "/v2/_catalog?last=b&n=1"
    assert sources.following("") == ""


@pytest.mark.parametrize(
    ("registry", "plain"),
    [("127.0.0.1:5000", True), ("localhost", True), ("[::1]:5000", True), ("[::1]", True),
     ("registry.test:5000", False), ("10.0.0.1", False)],
)  # fmt: skip
def test_a_registry_on_loopback_needs_no_tls(registry: str, plain: bool) -> None:
    assert bool(skopeo.tls(registry, "dest-")) == plain


def test_a_search_names_its_registry_and_filters() -> None:
    assert split("nginx") == ("", "nginx")
    assert split("team/nginx") == ("", "team/nginx")
    assert split("registry.test:5000/team/nginx") == ("registry.test:5000", "team/nginx")
    found = Found("web", star_count=5, is_official=True)
    for text, passes in (("stars=5", True), ("stars=6", False), ("is-official=true", True),
                         ("is-automated=true", False)):  # fmt: skip
        ((key, value),) = parsed([text])
        assert one_passes(found, key, value) == passes
    for text in ("stars=x", "is-official=1", "colour=red", "stars"):
        with pytest.raises(InvalidArgument, match="expected stars=NUMBER"):
            parsed([text])
