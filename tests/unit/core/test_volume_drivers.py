"""What a node makes of a volume's driver and options."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyswarm_core.errors import InvalidArgument
from pyswarm_core.volumes.drivers import (
    BIND,
    DIRECTORY,
    READ_ONLY,
    Backing,
    FileSystem,
    backing,
    is_shared,
    masked,
    reaches_host,
    secrets,
)
from pyswarm_core.volumes.volume import default_placement

NFS = {"type": "nfs", "device": ":/export", "o": "addr=nas.example,ro,nfsvers=4"}
BOUND = {"type": "none", "o": "bind", "device": "/srv/data"}


def test_without_options_it_is_a_directory() -> None:
    assert backing("local", {}) == DIRECTORY
    assert DIRECTORY.is_directory


@pytest.mark.parametrize(
    ("text", "size"), [("16m", 1 << 24), ("200m", 200 << 20), ("8t", 8 << 40), ("1.5g", 3 << 29)]
)
def test_a_size(text: str, size: int) -> None:
    assert backing("local", {"size": text}) == Backing(size=size)


@pytest.mark.parametrize("text", ["", "15m", "16777215", "9t", "-1", "big", "1e3", "x" * 99])
def test_other_sizes_are_refused_with_what_is_valid(text: str) -> None:
    with pytest.raises(InvalidArgument, match="expected 16m to 8t, such as 200m"):
        backing("local", {"size": text})


@pytest.mark.parametrize(
    ("options", "found"),
    [
        (NFS, FileSystem("nfs", ":/export", READ_ONLY, "nfsvers=4", "nas.example")),
        (
            {"type": "nfs4", "device": "nas:/x"},
            FileSystem("nfs4", "nas:/x", 0, "", "nas"),
        ),
        (
            {"type": "cifs", "device": "//nas/x", "o": "username=u,password=p,,q"},
            FileSystem("cifs", "//nas/x", 0, "username=u,password=p,,q", "nas"),
        ),
        (
            {"type": "tmpfs", "device": "tmpfs", "o": "size=100m,uid=1000,nosuid"},
            FileSystem("tmpfs", "tmpfs", 2, "size=100m,uid=1000"),
        ),
        (BOUND, FileSystem("none", "/srv/data", BIND)),
        ({"type": "btrfs", "device": "/dev/sda2"}, FileSystem("btrfs", "/dev/sda2")),
    ],
)
def test_what_the_local_driver_mounts(options: dict[str, str], found: FileSystem) -> None:
    assert backing("local", options) == Backing(found)


@pytest.mark.parametrize(
    ("driver", "options", "found"),
    [
        (
            "nfs",
            {"share": "nas:/export"},
            FileSystem("nfs", "nas:/export", 0, "vers=4.2", "nas"),
        ),
        (
            "nfs",
            {"share": "[fd00::1]:/x", "o": "ro,vers=3", "nfsopts": "nolock"},
            FileSystem("nfs", "[fd00::1]:/x", READ_ONLY, "vers=3,nolock", "fd00::1"),
        ),
        (
            "cifs",
            {"share": "//nas/media", "username": "u", "password": "a,b", "fileMode": "0644"},
            FileSystem("cifs", "//nas/media", 0, "username=u,password=a,,b,file_mode=0644", "nas"),
        ),
    ],
)
def test_the_short_forms(driver: str, options: dict[str, str], found: FileSystem) -> None:
    assert backing(driver, options) == Backing(found)


@pytest.mark.parametrize(
    ("driver", "options", "told"),
    [
        ("rexray", {}, 'driver "rexray": expected one of local, nfs, cifs'),
        ("local", {"typ": "nfs"}, 'option "typ": the options of driver local are type, device, o'),
        (
            "nfs",
            {"device": "x"},
            'option "device": the options of driver nfs are share, o, nfsopts; expected share=HOST',
        ),
        ("cifs", {"device": "//nas/x"}, "dirMode, o, cifsopts; expected share=//HOST/share"),
        ("local", {"type": "nfs"}, 'missing required option "device": expected one beside type'),
        ("local", {"type": ""}, 'missing required option "type": expected one, such as type=nfs'),
        ("local", {"type": "nfs", "device": ":/x"}, "expected HOST:/path, or :/path with o=addr="),
        ("local", {"type": "nfs4", "device": "nas", "o": "ro"}, 'option "device=nas": expected'),
        ("local", {"device": "x"}, 'missing required option "type"'),
        ("local", {"o": "ro"}, 'missing required option "type"'),
        ("local", {"size": "1g", "type": "tmpfs"}, 'option "size": expected no type beside it'),
        ("local", {"type": "none", "device": "data", "o": "bind"}, "expected an absolute path"),
        ("local", {"type": "none", "device": "/a/../b", "o": "rbind"}, "expected an absolute path"),
        ("local", {"type": "fuse.sshfs", "device": "x"}, "FUSE is mounted by a program of its own"),
        ("local", {"type": "Nfs 4", "device": "x"}, "expected a file system such as nfs or tmpfs"),
        ("local", NFS | {"o": "addr=a,_netdev"}, 'in option o, "_netdev": it is for /etc/fstab'),
        ("local", NFS | {"o": "addr=a,,ro,"}, "expected options with a comma between two"),
        ("local", NFS | {"o": "x" * 3_801}, "expected at most 3800 characters"),
        ("local", NFS | {"o": "addr=a\nro"}, "expected at most 4096 printable characters"),
        ("local", {"type": "ext4", "device": "/x", "o": "loop"}, "-o size=SIZE makes a file"),
        ("local", {"type": "cifs", "device": "nas", "o": "ro"}, "expected //HOST/share"),
        ("nfs", {}, 'missing required option "share": expected share=HOST:/path'),
        ("nfs", {"share": ""}, 'missing required option "share": expected share=HOST:/path'),
        ("cifs", {"username": "u"}, 'required option "share": expected share=//HOST/share'),
        ("nfs", {"share": "nas"}, 'option "share=nas": expected HOST:/path'),
        ("cifs", {"share": "nas/media"}, 'option "share=nas/media": expected //HOST/share'),
        ("cifs", {"share": "//h/s", "o": "credentials=/etc/x"}, "mount.2. reads no files"),
    ],
)
def test_what_is_refused(driver: str, options: dict[str, str], told: str) -> None:
    with pytest.raises(InvalidArgument, match=told):
        backing(driver, options)


def test_passwords_are_masked_wherever_they_may_be() -> None:
    options = {"o": "addr=1.2.3.4,username=u,password=a,,b,vers=3", "password": "p", "share": "x"}
    assert masked(options) == {
        "o": "addr=1.2.3.4,username=u,password=***,vers=3",
        "password": "***",
        "share": "x",
    }
    assert secrets(options) == {"o": options["o"], "password": "p"}
    assert masked(masked(options)) == masked(options)


@given(st.text(alphabet="ab,=p", max_size=12))
def test_no_part_of_a_password_is_shown(password: str) -> None:
    escaped = password.replace(",", ",,") + "Z1"
    assert "Z1" not in masked({"o": f"ro,password={escaped}"})["o"]


@pytest.mark.parametrize(
    ("driver", "options", "is_any", "reached"),
    [
        ("local", {}, False, ""),
        ("local", {"size": "1g"}, False, ""),
        ("local", NFS, True, ""),
        ("nfs", {"share": "a:/b"}, True, ""),
        ("cifs", {"share": "//a/b"}, True, ""),
        ("local", {"type": "tmpfs", "device": "tmpfs"}, False, ""),
        ("local", BOUND, False, "o=bind"),
        ("local", {"type": "nfs", "device": "/etc", "o": "rw,rbind"}, False, "o=rw,rbind"),
        ("local", {"type": "ext4", "device": "/dev/sda"}, False, "type=ext4"),
        ("local", {"type": "overlay", "device": "x", "o": "lowerdir=/etc"}, False, "type=overlay"),
        ("local", {"type": "ceph", "device": "x"}, True, "type=ceph"),
        (
            "cifs",
            {"share": "//etc/x", "cifsopts": "bind,addr=1.2.3.4"},
            True,
            "cifsopts=bind,addr=1.2.3.4",
        ),
        ("nfs", {"share": "a:/b", "nfsopts": "rbind"}, True, "nfsopts=rbind"),
        (
            "local",
            {"type": "tmpfs", "device": "/etc", "o": '{{"bi"}}nd'},
            False,
            'o={{"bi"}}nd',
        ),
        ("nfs", {"share": "a:/{{.Task.Slot}}"}, True, ""),
    ],
)
def test_what_is_shared_and_what_reaches_the_host(
    driver: str, options: dict[str, str], is_any: bool, reached: str
) -> None:
    assert is_shared(driver, options) is is_any
    assert (default_placement(driver, options) == "any") is is_any
    assert reaches_host(driver, options) == reached


@pytest.mark.parametrize(
    ("driver", "options"),
    [
        ("cifs", {"share": "//etc/ssh", "cifsopts": "bind,addr=1.2.3.4"}),
        ("cifs", {"share": "//etc/ssh", "o": "rbind,addr=1.2.3.4"}),
        ("nfs", {"share": "nas:/x", "nfsopts": "ro,bind"}),
    ],
)
def test_no_share_of_a_server_is_a_directory_of_the_node(
    driver: str, options: dict[str, str]
) -> None:
    with pytest.raises(InvalidArgument, match="expected no bind; driver local takes type=none"):
        backing(driver, options)


def test_no_refusal_of_a_bind_shows_a_password() -> None:
    options = {"share": "//etc/ssh", "cifsopts": "bind,password=Z1,addr=1.2.3.4"}
    with pytest.raises(InvalidArgument) as error:
        backing("cifs", options)
    assert "Z1" not in f"{error.value} {reaches_host('cifs', options)}"
    local = {"type": "none", "device": "/x", "o": "bind,passwd=Z1"}
    assert reaches_host("local", local) == "o=bind,passwd=***"
