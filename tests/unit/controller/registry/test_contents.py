"""What of the fleet's registry nobody needs."""

from pathlib import Path

import pytest

from controller.registry.contents import (
    Contents,
    Described,
    Manifest,
    Repository,
    superfluous,
    usage_of,
)
from controller.registry.storage import RegistryStorage
from pyswarm_core.clock import HOUR, Instant
from pyswarm_core.registry.usage import RegistryRepository, RegistryUsage

NOW = Instant(100 * HOUR)
ONE, TWO = ("sha256:" + letter * 64 for letter in "ab")


def test_a_manifest_that_cannot_be_read_keeps_its_own_repository_alone() -> None:
    found = Contents(
        repositories=(
            Repository("docker.io/library/bad", {}, {ONE: Instant(0), TWO: Instant(0)}),
            Repository("docker.io/library/web", {}, {TWO: Instant(0)}),
        ),
        manifests={TWO: Manifest()},
    )
    assert superfluous(found, (), NOW) == (("docker.io/library/web", TWO),)


@pytest.mark.parametrize(
    ("content", "blobs"),
    [
        (b'{"config": {"digest": "c"}, "layers": null, "manifests": null}', ("c",)),
        (b'{"config": null, "layers": [{"digest": "l"}]}', ("l",)),
    ],
)
def test_a_manifest_with_null_for_none_is_read(
    content: bytes, blobs: tuple[str, ...], tmp_path: Path
) -> None:
    base = tmp_path / "docker" / "registry" / "v2"
    digits = ONE.removeprefix("sha256:")
    files = {
        f"blobs/sha256/{digits[:2]}/{digits}/data": content,
        f"repositories/r.test/web/_manifests/revisions/sha256/{digits}/link": ONE.encode(),
    }
    for name, data in files.items():
        (base / name).parent.mkdir(parents=True)
        (base / name).write_bytes(data)
    assert RegistryStorage(tmp_path).contents().manifests[ONE].blobs == blobs


def test_the_usage_of_the_registry_counts_each_blob_once() -> None:
    old, new, base, config, loose = ("sha256:" + letter * 64 for letter in "01234")
    web, api = "docker.io/library/web", "docker.io/library/api"
    found = Contents(
        repositories=(
            Repository(web, {"1": new, "2": new}, {old: Instant(0), new: Instant(0)}),
            Repository(api, {"1": ONE}, {ONE: Instant(0)}),
        ),
        manifests={
            old: Manifest(layers=(Described(base), Described(config))),
            new: Manifest(layers=(Described(base),)),
            ONE: Manifest(layers=(Described(base),)),
        },
        blobs={old: 1, new: 2, ONE: 4, base: 100, config: 1_000, loose: 10_000},
    )
    usage = usage_of(found, {f"{api}:1", new}, NOW)
    assert usage == RegistryUsage(
        images=3, active=3, size=11_107, reclaimable=11_001, loose_bytes=10_000,
        repositories=(
            RegistryRepository(
                name=web, tags=2, manifests=2, size=1_103, unique_bytes=1_003, reclaimable=1_001
            ),
            RegistryRepository(name=api, tags=1, manifests=1, size=104, unique_bytes=4),
        ),
    )  # fmt: skip
    assert usage_of(found, {old}, NOW).reclaimable == 10_000
    assert usage_of(found, (), NOW).active == 0
