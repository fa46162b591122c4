"""Volume drivers and their options: what a node makes of them. PURE.

local                         a directory of the node
local  size=200m              a file of that size with ext4, mounted
local  type=, device=, o=     what mount(2) mounts, as Docker's local driver
nfs    share=HOST:/path       short for type=nfs4
cifs   share=//HOST/share     short for type=cifs
"""

import re
from collections.abc import Mapping
from typing import NamedTuple

from pyswarm_core.docker.units import parse_size
from pyswarm_core.errors import InvalidArgument, quoted, similar
from pyswarm_core.identity.audit import MASK, SECRET_NAMES
from pyswarm_core.volumes.limits import VOLUME_OPTIONS_MAX, VOLUME_SIZE_MAX, VOLUME_SIZE_MIN

LOCAL, NFS, CIFS = "local", "nfs", "cifs"
DRIVERS: Mapping[str, tuple[str, ...]] = {
    LOCAL: ("type", "device", "o", "size"),
    NFS: ("share", "o", "nfsopts"),
    CIFS: (
        "share",
        "username",
        "password",
        "domain",
        "security",
        "fileMode",
        "dirMode",
        "o",
        "cifsopts",
    ),
}
"""The options of each driver."""
_SHARES = {NFS: "share=HOST:/path", CIFS: "share=//HOST/share"}
"""What is mounted, by driver: `device` of the local one."""
SHARED = ("nfs", "nfs4", "cifs", "smb3", "ceph", "glusterfs", "lustre")
"""Types of file systems that every node reaches."""
HARMLESS = ("nfs", "nfs4", "cifs", "smb3", "tmpfs")
"""Types that show nothing of the host: others need the role admin."""
BIND, RECURSIVE, READ_ONLY = 4096, 16384, 1
_SERVED = ("nfs", "nfs4", "cifs", "smb3")
_WORDS = ("o", "nfsopts", "cifsopts")
"""The options that are words of mount(8)."""

_SET: Mapping[str, int] = {
    "ro": READ_ONLY,
    "nosuid": 2,
    "nodev": 4,
    "noexec": 8,
    "sync": 16,
    "mand": 64,
    "dirsync": 128,
    "noatime": 1024,
    "nodiratime": 2048,
    "bind": BIND,
    "rbind": BIND | RECURSIVE,
    "relatime": 1 << 21,
    "strictatime": 1 << 24,
    "lazytime": 1 << 25,
}
"""The words of mount(8) that are flags of mount(2)."""
_CLEARED: Mapping[str, int] = {
    "defaults": 0,
    "rw": 1,
    "suid": 2,
    "dev": 4,
    "exec": 8,
    "async": 16,
    "nomand": 64,
    "atime": 1024,
    "diratime": 2048,
    "norelatime": 1 << 21,
    "nostrictatime": 1 << 24,
    "nolazytime": 1 << 25,
}
_REFUSED: Mapping[str, str] = {
    "loop": "expected a block device; -o size=SIZE makes a file with a file system",
    "remount": "expected the options of a first mount",
    "move": "expected the options of a first mount",
    **dict.fromkeys(
        ("private", "rprivate", "shared", "rshared", "slave", "rslave", "unbindable"),
        "expected no propagation: mounts of volumes are private",
    ),
    **dict.fromkeys(
        ("_netdev", "auto", "noauto", "nofail", "user", "users", "owner", "group"),
        "it is for /etc/fstab, and mount(2) does not take it: leave it out",
    ),
    "credentials": "mount(2) reads no files: expected username= and password=",
    "fd": "expected no descriptor: file systems of FUSE are mounted by their own programs",
}
"""Words of `o=` that mean something else than users expect."""
_COMMA = re.compile(r"(?<!,),(?!,)")
"""Between two options; `,,` is a comma in the value of one, as for cifs."""
_SECRET = re.compile(SECRET_NAMES, re.IGNORECASE)
_SHARE = re.compile(r"(?P<host>\[[0-9a-fA-F:.]+\]|[A-Za-z0-9_.-]+):(?P<path>/[^\0\n]*)")
_UNC = re.compile(r"(?://|\\\\)(?P<host>[A-Za-z0-9_.:-]+)[/\\][^\0\n]+")
_DEVICE_MAX = 4096


class OptionRefused(InvalidArgument):
    """One option is wrong, or missing. `option` is what was given of it, without passwords; `what`
    it is: an option, or a word of one; `reason` says what would be valid.
    """

    def __init__(self, option: str, reason: str, what: str = "option") -> None:
        super().__init__(f"{what} {quoted(option)}: {reason}")
        self.option = option
        self.reason = reason
        self.what = what


class OptionMissing(OptionRefused):
    """A required option was not given."""

    def __init__(self, option: str, reason: str) -> None:
        super().__init__(option, reason, "missing required option")


class FileSystem(NamedTuple):
    """What mount(2) mounts. `data`: options that are no flags; `host`: of which the address is to
    be added, empty: none.
    """

    type: str
    device: str
    flags: int = 0
    data: str = ""
    host: str = ""


class Backing(NamedTuple):
    """What holds the files of a volume on a node: a file system, a file of `size` bytes with one,
    or with neither a directory.
    """

    mounted: FileSystem | None = None
    size: int = 0

    @property
    def is_directory(self) -> bool:
        """Whether nothing is mounted."""
        return self.mounted is None and not self.size

    @property
    def maps_ids(self) -> bool:
        """Whether the kernel can map the owners of its files for a user namespace."""
        system = self.mounted
        return system is None or system.type not in _SERVED or bool(system.flags & BIND)


DIRECTORY = Backing()


def backing(driver: str, options: Mapping[str, str]) -> Backing:
    """What a driver with these options is. Raises InvalidArgument naming the option, and what would
    be valid.
    """
    known = DRIVERS.get(driver)
    if known is None:
        raise InvalidArgument(f"driver {quoted(driver)}: expected one of {', '.join(DRIVERS)}")
    for key, value in options.items():
        if key not in known:
            expected = f"the options of driver {driver} are {', '.join(known)}"
            own = _SHARES.get(driver, "") if key == "device" else ""
            raise OptionRefused(
                key, f"{expected}; expected {own}" if own else f"{expected}{similar(key, known)}"
            )
        if not value.isprintable() or len(value) > _DEVICE_MAX:
            expected = f"expected at most {_DEVICE_MAX} printable characters"
            raise OptionRefused(key, expected)
    if driver == NFS:
        return Backing(_nfs(options))
    if driver == CIFS:
        return Backing(_cifs(options))
    return _local(options)


def is_shared(driver: str, options: Mapping[str, str]) -> bool:
    """Whether the files are not on the node: every node reaches the same ones."""
    return _type(driver, options) in SHARED and not _is_bind(options)


def size_of(driver: str, options: Mapping[str, str]) -> int:
    """The bytes of a file with a file system, which a node makes; 0: it makes none."""
    return parse_bytes(options["size"]) if driver == LOCAL and "size" in options else 0


def reaches_host(driver: str, options: Mapping[str, str]) -> str:
    """The option that shows what is on the node itself: a directory, a device; empty: none does.
    A template among the words of mount(8) may be `bind` once it is expanded.
    """
    for key in _WORDS:
        if (words := options.get(key, "")) and (flags_of(words) & BIND or "{{" in words):
            return f"{key}={_masked(key, words)}"
    kind = _type(driver, options)
    return f"type={kind}" if kind and kind not in HARMLESS else ""


def masked(options: Mapping[str, str]) -> dict[str, str]:
    """The options, with passwords replaced by MASK."""
    return {key: _masked(key, value) for key, value in options.items()}


def secrets(options: Mapping[str, str]) -> dict[str, str]:
    """The options that have a password: what `masked` changes."""
    return {key: value for key, value in options.items() if _masked(key, value) != value}


def parse_bytes(text: str) -> int:
    """The size of a volume. Raises InvalidArgument."""
    expected = "expected 16m to 8t, such as 200m"
    try:
        size = parse_size(text)
    except InvalidArgument:
        size = 0
    if not VOLUME_SIZE_MIN <= size <= VOLUME_SIZE_MAX:
        raise OptionRefused(f"size={text}", expected)
    return size


def _type(driver: str, options: Mapping[str, str]) -> str:
    return options.get("type", "") if driver == LOCAL else driver


def _is_bind(options: Mapping[str, str]) -> bool:
    return bool(flags_of(options.get("o", "")) & BIND)


def _local(options: Mapping[str, str]) -> Backing:
    given = [key for key in ("type", "device", "o") if key in options]
    if "size" in options:
        if given:
            raise OptionRefused(
                "size", f"expected no {given[0]} beside it; the size of a tmpfs is o=size=SIZE"
            )
        return Backing(size=parse_bytes(options["size"]))
    if not given:
        return DIRECTORY
    for key, example in (("type", "type=nfs"), ("device", "device=HOST:/path")):
        if not options.get(key):
            beside = "".join(f" beside {one}" for one in given[:1] if one != key)
            raise OptionMissing(key, f"expected one{beside}, such as {example}")
    kind, device, words = options["type"], options["device"], options.get("o", "")
    if not re.fullmatch(r"[a-z0-9_.-]{1,64}", kind):
        raise OptionRefused(f"type={kind}", "expected a file system such as nfs or tmpfs")
    if kind.startswith("fuse"):
        raise OptionRefused(
            f"type={kind}",
            "FUSE is mounted by a program of its own: mount it on the node, and use type=none,"
            " o=bind, device=PATH",
        )
    flags, data = _parsed("o", words)
    if flags & BIND and (not device.startswith("/") or ".." in device.split("/")):
        raise OptionRefused(f"device={device}", "expected an absolute path without ..")
    host = "" if flags & BIND else _host(kind, device, words)
    return Backing(FileSystem(kind, device, flags, _without(data, "addr", host), host))


def _host(kind: str, device: str, words: str) -> str:
    """The server whose address mount(2) needs: that of `addr=`, or of the device."""
    if kind not in _SERVED:
        return ""
    if given := _value(words, "addr"):
        return given
    if kind in ("nfs", "nfs4"):
        found = _SHARE.fullmatch(device)
        if found is None and "{{" not in device + words:
            raise OptionRefused(
                f"device={device}", "expected HOST:/path, or :/path with o=addr=HOST"
            )
        return found["host"].strip("[]") if found else ""
    return "" if _value(words, "ip") else _unc_host(device, "device")


def _nfs(options: Mapping[str, str]) -> FileSystem:
    if not (share := options.get("share", "")):
        raise OptionMissing("share", f"expected {_SHARES[NFS]}")
    found = _SHARE.fullmatch(share)
    if found is None:
        raise OptionRefused(f"share={share}", "expected HOST:/path")
    flags, data = _served(options, "nfsopts")
    if not (_value(data, "vers") or _value(data, "nfsvers")):
        data = ",".join(filter(None, ("vers=4.2", data)))
    host = _value(data, "addr") or found["host"].strip("[]")
    return FileSystem("nfs", share, flags, _without(data, "addr", host), host)


def _cifs(options: Mapping[str, str]) -> FileSystem:
    if not (share := options.get("share", "")):
        raise OptionMissing("share", f"expected {_SHARES[CIFS]}")
    own = _unc_host(share, "share")
    flags, data = _served(options, "cifsopts")
    words = [data] if data else []
    for key, name in (
        ("username", "username"),
        ("password", "password"),
        ("domain", "domain"),
        ("security", "sec"),
        ("fileMode", "file_mode"),
        ("dirMode", "dir_mode"),
    ):
        if key in options:
            words.append(f"{name}={options[key].replace(',', ',,')}")
    host = _value(data, "addr") or own
    data = _without(",".join(words), "addr", host)
    return FileSystem("cifs", share.replace("\\", "/"), flags, _bounded("password", data), host)


def _unc_host(share: str, key: str) -> str:
    found = _UNC.fullmatch(share)
    if found is None:
        raise OptionRefused(f"{key}={share}", "expected //HOST/share")
    return found["host"]


def _served(options: Mapping[str, str], more: str) -> tuple[int, str]:
    """The words of a driver whose files a server has: with `bind`, mount(2) would ignore the type
    and show the node's own directory of the share's name.
    """
    flags, data = _joined(options, more)
    if flags & BIND:
        key = next(key for key in ("o", more) if flags_of(options.get(key, "")) & BIND)
        raise OptionRefused(
            f"{key}={_masked(key, options[key])}",
            "expected no bind; driver local takes type=none, o=bind, device=PATH",
        )
    return flags, data


def _joined(options: Mapping[str, str], more: str) -> tuple[int, str]:
    parts = [options[key] for key in ("o", more) if options.get(key)]
    return _parsed("o" if options.get("o") else more, ",".join(parts))


def _words(text: str) -> list[str]:
    return _COMMA.split(text) if text else []


def flags_of(text: str) -> int:
    """The flags of mount(2) in comma-separated options."""
    flags = 0
    for word in _words(text):
        flags = (flags | _SET.get(word, 0)) & ~_CLEARED.get(word, 0)
    return flags


def _parsed(key: str, text: str) -> tuple[int, str]:
    """The flags of mount(2), and the options that are for the file system."""
    kept = []
    for word in _words(text):
        name = word.partition("=")[0]
        if not name:
            raise OptionRefused(key, "expected options with a comma between two")
        if name in _REFUSED or name.startswith("x-"):
            reason = _REFUSED.get(name, _REFUSED["auto"])
            raise OptionRefused(name, reason, f"in option {key},")
        if word not in _SET and word not in _CLEARED:
            kept.append(word)
    return flags_of(text), _bounded(key, ",".join(kept))


def _bounded(key: str, data: str) -> str:
    if len(data.encode()) > VOLUME_OPTIONS_MAX:
        raise OptionRefused(key, f"expected at most {VOLUME_OPTIONS_MAX} characters")
    return data


def _value(text: str, name: str) -> str:
    """The value of an option; empty if it is not given."""
    found = [word.partition("=")[2] for word in _words(text) if word.startswith(f"{name}=")]
    return found[-1] if found else ""


def _without(text: str, name: str, host: str) -> str:
    """The options without one, which the node adds with the address of the host."""
    return ",".join(word for word in _words(text) if not (host and word.startswith(f"{name}=")))


def _masked(key: str, value: str) -> str:
    if _SECRET.search(key):
        return MASK
    if key not in _WORDS:
        return value
    return ",".join(map(_masked_word, _words(value)))


def _masked_word(word: str) -> str:
    name, equals, value = word.partition("=")
    return f"{name}={MASK}" if equals and value and _SECRET.search(name) else word
