"""`--mount` and `-v`: Docker's keys and forms, and what is refused with which words."""

from typing import Any

import pytest

from pyswarm_core.docker.mounts import mount, notices, volume_flag
from pyswarm_core.errors import InvalidArgument
from pyswarm_core.volumes.mounts import (
    BindOptions,
    Driver,
    Mount,
    MountType,
    TmpfsOptions,
    VolumeOptions,
)

BIND, VOLUME, TMPFS = MountType.BIND, MountType.VOLUME, MountType.TMPFS


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("source=data,target=/d", Mount(source="data", target="/d")),
        ("type=volume,src=data,dst=/d,ro", Mount(source="data", target="/d", read_only=True)),
        ("destination=/d,readonly=false", Mount(target="/d")),
        (
            "src=data,dst=/d,volume-nocopy,volume-driver=local,volume-label=a=b,volume-label=c",
            Mount(
                source="data",
                target="/d",
                volume_options=VolumeOptions(
                    no_copy=True, labels={"a": "b", "c": ""}, driver_config=Driver(name="local")
                ),
            ),
        ),
        (
            'dst=/d,"volume-opt=o=addr=10.0.0.1,rw"',
            Mount(
                target="/d",
                volume_options=VolumeOptions(
                    driver_config=Driver(options={"o": "addr=10.0.0.1,rw"})
                ),
            ),
        ),
        ("Type=bind,Source=/s,Target=/d", Mount(type=BIND, source="/s", target="/d")),
        (
            "type=bind,src=/s,dst=/d,consistency=cached,bind-propagation=rslave,bind-create-src",
            Mount(
                type=BIND,
                source="/s",
                target="/d",
                bind_options=BindOptions(propagation="rslave", create_mountpoint=True),
            ),
        ),
        (
            "type=bind,src=/s,dst=/d,ro,bind-recursive=readonly,bind-propagation=rprivate",
            Mount(
                type=BIND,
                source="/s",
                target="/d",
                read_only=True,
                bind_options=BindOptions(propagation="rprivate", read_only_force_recursive=True),
            ),
        ),
        (
            "type=bind,src=/s,dst=/d,bind-recursive=disabled",
            Mount(
                type=BIND, source="/s", target="/d", bind_options=BindOptions(non_recursive=True)
            ),
        ),
        (
            "type=tmpfs,dst=/d,tmpfs-size=64m,tmpfs-mode=0700",
            Mount(
                type=TMPFS, target="/d", tmpfs_options=TmpfsOptions(size_bytes=64 << 20, mode=0o700)
            ),
        ),
    ],
)
def test_every_key_of_docker_is_read(text: str, expected: Mount) -> None:
    assert mount(text) == expected


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("source=data", "target is required"),
        ("type=bind,target=/d", "source is required"),
        ("type=tmpfs,source=x,target=/d", "a mount of type tmpfs has no source"),
        ("type=nfs,target=/d", "type=nfs: expected one of bind, volume, tmpfs"),
        ("type=image,source=x,target=/d", "type=image is not supported: copy the files into"),
        ("type=cluster,source=x,target=/d", "type=cluster is not supported: use type=volume"),
        ("dst=/d,volume-subpath=a", "volume-subpath is not supported: mount the whole volume"),
        ("dst=/d,colour=red", 'unexpected key "colour": expected one of type, source, src'),
        ("dst=/d,source", 'invalid field "source": expected a key=value pair'),
        ("dst=/d,readonly=maybe", "readonly=maybe: expected true or false"),
        ("dst=/d,bind-propagation=shared", "cannot mix 'bind-*' options with mount type 'volume'"),
        ("type=bind,src=/s,dst=/d,volume-nocopy", "cannot mix 'volume-*' options with mount"),
        ("type=bind,src=/s,dst=/d,tmpfs-size=1m", "cannot mix 'tmpfs-*' options with mount"),
        ("type=bind,src=/s,dst=/d,bind-propagation=x", "bind-propagation=x: expected one of"),
        ("type=bind,src=/s,dst=/d,bind-recursive=readonly", "expected readonly as well"),
        ("type=bind,src=/s,dst=/d,consistency=x", "consistency=x: expected one of consistent"),
        ("type=tmpfs,dst=/d,tmpfs-size=x", "tmpfs-size=x: expected a size such as 64m"),
        ("type=tmpfs,dst=/d,tmpfs-mode=9", "tmpfs-mode=9: expected an octal mode such as 1777"),
        ("", "expected type=TYPE,source=SOURCE,target=PATH"),
        ('"dst=/d', "it is no line of CSV"),
    ],
)
def test_a_mount_that_is_not_valid_is_refused_with_what_would_be(text: str, told: str) -> None:
    with pytest.raises(InvalidArgument) as error:
        mount(text)
    assert str(error.value).startswith("--mount: value ")
    assert told in str(error.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/d", {"target": "/d"}),
        ("data:/d", {"source": "data", "target": "/d"}),
        ("data:/d:ro", {"source": "data", "target": "/d", "read_only": True}),
        ("data:/d:rw,z", {"source": "data", "target": "/d"}),
        ("/s:/d:ro,Z", {"type": BIND, "source": "/s", "target": "/d", "read_only": True}),
    ],
)
def test_every_short_form_is_read(text: str, expected: dict[str, Any]) -> None:
    assert volume_flag(text) == Mount(**expected)


def test_options_of_short_forms_are_read() -> None:
    assert volume_flag("data:/d:nocopy").volume_options == VolumeOptions(no_copy=True)
    assert volume_flag("/s:/d:rshared").bind_options == BindOptions(propagation="rshared")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a:/b:ro:x", "expected [SOURCE:]TARGET[:OPTIONS]"),
        ("data:", "expected [SOURCE:]TARGET[:OPTIONS]"),
        ("data:d", "invalid mount path: expected an absolute path"),
        ("./src:/d", "expected an absolute path of the host, or the name of a volume"),
        ("../x:/d", "expected an absolute path of the host"),
        ("a/b:/d", "it includes invalid characters for a local volume name"),
        ("a:/d", "it is too short: expected at least two characters"),
        ("-:/d", "it includes invalid characters for a local volume name"),
        ("data:/", "invalid specification: destination can't be '/'"),
        ("//", "invalid specification: destination can't be '/'"),
        ("data:/d:fast", "invalid mode: fast"),
        ("data:/d:shared", "invalid mode: shared"),
        ("/s:/d:nocopy", "invalid mode: nocopy"),
    ],
)
def test_a_short_form_that_is_not_valid_is_refused(text: str, told: str) -> None:
    with pytest.raises(InvalidArgument) as error:
        volume_flag(text)
    assert told in str(error.value)


def test_labels_of_selinux_are_accepted_with_a_notice() -> None:
    assert notices(["data:/d:ro", "data:/z", "data:/d:ro,Z"]) == [
        "--volume data:/d:ro,Z: hosts apply no SELinux labels, z and Z do nothing"
    ]
