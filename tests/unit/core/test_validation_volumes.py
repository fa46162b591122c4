"""What mounts and volumes of a spec may be."""

import pytest
from msgspec.structs import replace

from pyswarm_core.specs import ContainerSpec
from pyswarm_core.validation import service_problems, volume_problems
from pyswarm_core.validation.volumes import MOUNTS_MAX
from pyswarm_core.volumes.mounts import (
    BindOptions,
    Driver,
    ImageOptions,
    Mount,
    MountType,
    TmpfsOptions,
    VolumeOptions,
)
from pyswarm_core.volumes.volume import VolumeSpec
from tests.fixtures import build

BIND, TMPFS = MountType.BIND, MountType.TMPFS


def below(path: str) -> Mount:
    return Mount(source="data", target="/a", volume_options=VolumeOptions(subpath=path))


def of_image(image: str, path: str = "") -> Mount:
    options = ImageOptions(subpath=path)
    return Mount(type=MountType.IMAGE, source=image, target="/i", image_options=options)


def problems(*mounts: Mount, **container: object) -> list[str]:
    template = build.template()
    spec = ContainerSpec(image="web", mounts=mounts, **container)  # type: ignore[arg-type]
    template = replace(template, container_spec=spec)
    return list(map(str, service_problems(build.service("web", spec=template).spec)))


def test_a_good_mount_of_each_type_is_valid() -> None:
    assert not problems(
        Mount(source="data", target="/a"),
        Mount(target="/b"),
        replace(below("a/b"), target="/e"),
        of_image("web:1", "a/b"),
        Mount(type=BIND, source="/sys", target="/sys", read_only=True),
        Mount(type=TMPFS, target="/c", tmpfs_options=TmpfsOptions(size_bytes=1, mode=0o1777)),
    )


@pytest.mark.parametrize(
    ("mount", "told"),
    [
        (Mount(target="data"), "expected an absolute target"),
        (Mount(target="/a/../b"), "expected an absolute target without . and .."),
        (Mount(target="/" + "a" * 4096), "of at most 4096 characters"),
        (Mount(target="/"), "expected a target other than / and outside of /proc"),
        (Mount(target="/proc/sys"), "outside of /proc"),
        (Mount(source="../x", target="/a"), "it includes invalid characters"),
        (Mount(source="a\nb", target="/a"), "it includes invalid characters"),
        (Mount(source="a" * 300, target="/a"), "expected at most 255 characters"),
        (Mount(type=BIND, source="src", target="/a"), "mount path must be absolute"),
        (Mount(type=BIND, source="/a/../b", target="/a"), "an absolute path without . and .."),
        (Mount(type=TMPFS, source="x", target="/a"), "expected no source"),
        (of_image("we b"), "type=image,source=we b,target=/i"),
        (of_image("web", "../b"), "expected a relative path in the image without . and .."),
        (below("../b"), "expected a relative path in the volume without . and .."),
        (below("/b"), "expected a relative path in the volume without . and .."),
        (replace(below("b"), source=""), "expected a source as well, in which volume-subpath"),
        (
            Mount(type=BIND, source="/s", target="/a", bind_options=BindOptions(propagation="x")),
            "expected bind-propagation to be one of",
        ),
        (
            Mount(
                type=BIND,
                source="/s",
                target="/a",
                bind_options=BindOptions(read_only_force_recursive=True),
            ),
            "expected readonly",
        ),
        (
            Mount(type=TMPFS, target="/a", tmpfs_options=TmpfsOptions(size_bytes=-1)),
            "expected tmpfs-size of 0 to",
        ),
        (
            Mount(
                source="data",
                target="/a",
                volume_options=VolumeOptions(driver_config=Driver(name="rexray")),
            ),
            'volume-driver: value "rexray" is not valid: expected one of local, nfs, cifs',
        ),
        (
            Mount(
                target="/a",
                source="data",
                volume_options=VolumeOptions(driver_config=Driver(options={"size": "1K"})),
            ),
            'volume-opt: option "size=1K" is not valid: expected 16m to 8t',
        ),
    ],
)  # fmt: skip
def test_a_bad_mount_is_named_with_what_would_be_valid(mount: Mount, told: str) -> None:
    (problem,) = problems(mount)
    assert told in problem


def test_two_mounts_have_two_targets() -> None:
    (problem,) = problems(Mount(target="/a"), Mount(source="data", target="/a/"))
    assert "duplicate mount point" in problem
    (problem,) = problems(Mount(target="/a"), tmpfs={"/a": ""})
    assert "duplicate mount point" in problem


def test_there_are_not_too_many() -> None:
    mounts = [Mount(target=f"/{number}") for number in range(MOUNTS_MAX + 1)]
    assert not problems(*mounts[:-1])
    assert f"expected at most {MOUNTS_MAX}" in problems(*mounts)[0]


def test_volumes_map_the_ids_of_a_user_namespace_and_images_do_not() -> None:
    assert not problems(Mount(source="data", target="/a"), userns_mode="auto")
    (problem,) = problems(of_image("web"), userns_mode="auto")
    assert "the kernel maps no ids of images" in problem


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        (VolumeSpec(name="x"), "it is too short: expected at least two characters"),
        (VolumeSpec(name="../data"), "invalid characters"),
        (
            VolumeSpec(name="data", driver="nfs"),
            '--opt: missing required option "share": expected share=HOST:/path',
        ),
        (VolumeSpec(name="data", driver_opts={"type": "nfs"}), 'required option "device"'),
        (VolumeSpec(name="data", labels={"a b": "c"}), "--label"),
    ],
)
def test_a_bad_volume_is_named_with_what_would_be_valid(spec: VolumeSpec, told: str) -> None:
    (problem,) = map(str, volume_problems(spec))
    assert told in problem


@pytest.mark.parametrize(
    ("mount", "told"),
    [
        (
            Mount(target="/a", volume_options=VolumeOptions(driver_config=Driver(name="nfs"))),
            "expected a source: only a named volume has driver options",
        ),
        (
            Mount(
                source="data",
                target="/a",
                volume_options=VolumeOptions(
                    driver_config=Driver(
                        name="cifs", options={"share": "//h/s", "o": "username=u,password=geheim"}
                    )
                ),
            ),
            "specs of services show it. Create the volume with pyswarm volume create",
        ),
    ],
)
def test_driver_options_of_a_mount_need_a_name_and_have_no_password(
    mount: Mount, told: str
) -> None:
    found = "; ".join(problems(mount))
    assert told in found
    assert "geheim" not in found


@pytest.mark.parametrize(
    "options",
    [
        {"share": "nowhere", "password": "geheim", "o": "password=geheim"},
        {"share": "//nas/x", "o": "bind,password=geheim"},
        {"share": "//nas/x", "password": "geheim\n"},
        {"share": "//nas/x", "o": "password=geheim,,ro,"},
        {"password": "geheim"},
    ],
)
def test_errors_of_options_do_not_show_passwords(options: dict[str, str]) -> None:
    (problem,) = map(
        str, volume_problems(VolumeSpec(name="data", driver="cifs", driver_opts=options))
    )
    assert "geheim" not in problem
