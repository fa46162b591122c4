"""`--mount` and `-v`: Docker's keys and forms, and what is refused with which words."""

from typing import Any

import pytest

from pyswarm_core.docker.mounts import mount, notices, volume_flag
from pyswarm_core.errors import InvalidArgument
from pyswarm_core.volumes.mounts import (
    BindOptions,
    Driver,
    ImageOptions,
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
            "type=image,src=web:1,dst=/d,image-subpath=a/b",
            Mount(
                type=MountType.IMAGE,
                source="web:1",
                target="/d",
                image_options=ImageOptions(subpath="a/b"),
            ),
        ),
        (
            "src=data,dst=/d,volume-subpath=a/b",
            Mount(source="data", target="/d", volume_options=VolumeOptions(subpath="a/b")),
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
        ("type=nfs,target=/d", "type=nfs: expected one of bind, volume, tmpfs, image"),
        ("type=image,target=/d", "source is required"),
        ("src=/s,dst=/d,image-subpath=a", "cannot mix 'image-*' options with mount type 'volume'"),
        ("type=cluster,source=x,target=/d", "type=cluster is not supported: use type=volume"),
        ("type=bind,src=/s,dst=/d,volume-subpath=a", "cannot mix 'volume-*' options with mount"),
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
        ("./s:/d", {"type": BIND, "source": "./s", "target": "/d"}),
        ("../s:/d", {"type": BIND, "source": "../s", "target": "/d"}),
        (".:/d:z", {"type": BIND, "source": ".", "target": "/d"}),
        ("..:/d:cached", {"type": BIND, "source": "..", "target": "/d"}),
    ],
)
def test_every_short_form_is_read(text: str, expected: dict[str, Any]) -> None:
    assert volume_flag(text) == Mount(**expected)


@pytest.mark.parametrize("source", ["/s", "./s", ".."])
@pytest.mark.parametrize(
    ("option", "expected"),
    [
        ("", {}),
        (":ro", {"read_only": True}),
        *((f":{word}", {}) for word in ("rw", "z", "Z")),
        *((f":{word}", {}) for word in ("consistent", "cached", "delegated", "default")),
        *(
            (f":{word}", {"bind_options": BindOptions(propagation=word)})
            for word in ("rprivate", "private", "rshared", "shared", "rslave", "slave")
        ),
        (":Z,ro,cached,rslave", {
            "read_only": True, "bind_options": BindOptions(propagation="rslave"),
        }),
    ],
)  # fmt: skip
def test_every_option_of_a_bind_s_short_form_is_honoured_or_has_no_effect(
    source: str, option: str, expected: dict[str, Any]
) -> None:
    found = volume_flag(f"{source}:/d{option}")
    assert found == Mount(type=BIND, source=source, target="/d", **expected)


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        *((f"{key}=true", {"read_only": True}) for key in ("readonly", "ro")),
        *((key, {"read_only": True}) for key in ("readonly", "ro")),
        ("readonly=0", {}),
        *((f"consistency={word}", {}) for word in ("consistent", "cached", "delegated")),
        *(
            (f"bind-propagation={word}", {"bind_options": BindOptions(propagation=word)})
            for word in ("rprivate", "private", "rshared", "shared", "rslave", "slave")
        ),
        ("bind-nonrecursive", {"bind_options": BindOptions(non_recursive=True)}),
        ("bind-recursive=enabled", {}),
        ("bind-recursive=disabled", {"bind_options": BindOptions(non_recursive=True)}),
        ("bind-recursive=writable,ro", {
            "read_only": True, "bind_options": BindOptions(read_only_non_recursive=True),
        }),
        ("bind-recursive=readonly,ro,bind-propagation=rprivate", {
            "read_only": True,
            "bind_options": BindOptions(propagation="rprivate", read_only_force_recursive=True),
        }),
        ("bind-create-src", {"bind_options": BindOptions(create_mountpoint=True)}),
        ("bind-create-src=false", {"bind_options": BindOptions()}),
    ],
)  # fmt: skip
def test_every_key_of_a_bind_is_honoured(field: str, expected: dict[str, Any]) -> None:
    found = mount(f"type=bind,src=/s,dst=/d,{field}")
    assert found == Mount(type=BIND, source="/s", target="/d", **expected)


@pytest.mark.parametrize(
    "field",
    ["volume-nocopy", "volume-label=a=b", "volume-driver=local", "volume-opt=a=b", "tmpfs-size=1m",
     "tmpfs-mode=700", "volume-subpath=a", "image-subpath=a", "z", "selinux=z", "beneath=/"],
)  # fmt: skip
def test_every_other_key_is_refused_by_name(field: str) -> None:
    with pytest.raises(InvalidArgument, match=f"{field.split('=', 1)[0].split('-', 1)[0]}"):
        mount(f"type=bind,src=/s,dst=/d,{field}")


def test_options_of_short_forms_are_read() -> None:
    assert volume_flag("data:/d:nocopy").volume_options == VolumeOptions(no_copy=True)
    assert volume_flag("/s:/d:rshared").bind_options == BindOptions(propagation="rshared")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a:/b:ro:x", "expected [SOURCE:]TARGET[:OPTIONS]"),
        ("data:", "expected [SOURCE:]TARGET[:OPTIONS]"),
        ("data:d", "invalid mount path: expected an absolute path"),
        (".src:/d", "expected a path such as ./.src, or the name of a volume"),
        ("~/x:/d", "~ is expanded by shells only, at the beginning of a word: use $HOME"),
        ("a/b:/d", "it includes invalid characters for a local volume name"),
        ("a:/d", "it is too short: expected at least two characters"),
        ("-:/d", "it includes invalid characters for a local volume name"),
        ("data:/", "invalid specification: destination can't be '/'"),
        ("//", "invalid specification: destination can't be '/'"),
        ("data:/d:fast", "invalid mode: fast"),
        ("/s:/d:ro,rw", "invalid mode: ro,rw: expected one of ro, rw"),
        ("/s:/d:ro,ro", "invalid mode: ro,ro"),
        ("/s:/d:z,Z", "invalid mode: z,Z"),
        ("/s:/d:shared,slave", "invalid mode: shared,slave"),
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
