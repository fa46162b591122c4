"""`--mount`, `-v` and the options of `volume create`: Docker's syntax of mounts. PURE."""

import csv
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from msgspec.structs import replace

from pyswarm_core.docker.units import parse_size
from pyswarm_core.errors import InvalidArgument, invalid, quoted, unfit
from pyswarm_core.volumes.mounts import (
    BindOptions,
    Driver,
    ImageOptions,
    Mount,
    MountType,
    TmpfsOptions,
    VolumeOptions,
    is_relative,
)

PROPAGATIONS = ("rprivate", "private", "rshared", "shared", "rslave", "slave")
VOLUME_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+")
NAME_EXPECTED = (
    "it includes invalid characters for a local volume name, only [a-zA-Z0-9][a-zA-Z0-9_.-] are"
    " allowed; to pass a directory of the host, use an absolute path"
)

NAME_TOO_SHORT = "it is too short: expected at least two characters"

_CONSISTENCIES = ("consistent", "cached", "delegated", "default")
_LABELS = ("z", "Z")
_NOT_BUILT: Mapping[str, str] = {
    "cluster": "use type=volume: there are no CSI plugins",
    "npipe": "it is for Windows containers",
}
"""Types and keys of Docker that are refused, with what to use instead."""
_KEYS = (
    "type source src target destination dst readonly ro consistency bind-propagation"
    " bind-nonrecursive bind-recursive bind-create-src volume-nocopy volume-label volume-driver"
    " volume-opt volume-subpath image-subpath tmpfs-size"
    " tmpfs-mode"
).split()
_SWITCHES = ("readonly", "ro", "bind-nonrecursive", "bind-create-src", "volume-nocopy")
"""Keys that may have no value."""
_TEXTS = ("volume-driver", "volume-subpath", "image-subpath")
"""Keys whose values are checked with the spec."""
_BOOLS = {
    **dict.fromkeys(("1", "t", "T", "true", "TRUE", "True"), True),
    **dict.fromkeys(("0", "f", "F", "false", "FALSE", "False"), False),
}
"""As Go reads them."""
_MODE = re.compile(r"[0-7]{1,4}")


class _Fields:
    """The fields of one `--mount`."""

    def __init__(self, flag: str, text: str) -> None:
        self._flag = flag
        self._text = text
        self.found: dict[str, Any] = {"type": MountType.VOLUME}
        self.bind: dict[str, Any] = {}
        self.volume: dict[str, Any] = {}
        self.tmpfs: dict[str, Any] = {}
        self.image: dict[str, Any] = {}
        self.recursive = ""

    def refused(self, reason: str) -> InvalidArgument:
        return invalid(self._flag, self._text, reason)

    def read(self, field: str) -> None:
        """Read one KEY=VALUE. Raises InvalidArgument."""
        key, equals, value = field.partition("=")
        key = key.strip().lower()
        if key in _NOT_BUILT:
            raise self.refused(f"{key} is not supported: {_NOT_BUILT[key]}")
        if key not in _KEYS:
            raise self.refused(f"unexpected key {quoted(key)}: expected one of {', '.join(_KEYS)}")
        if key in _SWITCHES:
            self._switch(key, self._bool(key, value) if equals else True)
        elif not equals:
            raise self.refused(f"invalid field {quoted(field)}: expected a key=value pair")
        elif key in _TEXTS:
            kind, _, name = key.partition("-")
            getattr(self, kind)[name] = value
        else:
            self._value(key, value)

    def _bool(self, key: str, value: str) -> bool:
        if value not in _BOOLS:
            raise self.refused(f"{key}={value}: expected true or false")
        return _BOOLS[value]

    def _switch(self, key: str, on: bool) -> None:
        if key in ("readonly", "ro"):
            self.found["read_only"] = on
        elif key == "bind-nonrecursive":
            self.bind["non_recursive"] = on
        elif key == "bind-create-src":
            self.bind["create_mountpoint"] = on
        else:
            self.volume["no_copy"] = on

    def _value(self, key: str, value: str) -> None:
        match key:
            case "type":
                self.found["type"] = self._type(value.lower())
            case "source" | "src":
                self.found["source"] = value
            case "target" | "destination" | "dst":
                self.found["target"] = value
            case "consistency":
                self._one_of(key, value, _CONSISTENCIES)
            case "bind-propagation":
                self.bind["propagation"] = self._one_of(key, value, PROPAGATIONS)
            case "bind-recursive":
                words = ("enabled", "disabled", "writable", "readonly")
                self.recursive = self._one_of(key, value, words)
            case "volume-label" | "volume-opt":
                name, _, text = value.partition("=")
                self.volume.setdefault(key, {})[name] = text
            case "tmpfs-size":
                self.tmpfs["size_bytes"] = self._size(value)
            case _:
                self.tmpfs["mode"] = self._mode(value)

    def _type(self, word: str) -> MountType:
        if word in _NOT_BUILT:
            raise self.refused(f"type={word} is not supported: {_NOT_BUILT[word]}")
        return MountType(self._one_of("type", word, tuple(MountType)))

    def _one_of(self, key: str, value: str, words: Iterable[str]) -> str:
        if value not in words:
            raise self.refused(f"{key}={value}: expected one of {', '.join(words)}")
        return value

    def _size(self, value: str) -> int:
        try:
            return parse_size(value)
        except InvalidArgument:
            raise self.refused(f"tmpfs-size={value}: expected a size such as 64m") from None

    def _mode(self, value: str) -> int:
        if not _MODE.fullmatch(value):
            raise self.refused(f"tmpfs-mode={value}: expected an octal mode such as 1777")
        return int(value, 8)

    def mount(self) -> Mount:
        """The mount. Raises InvalidArgument if fields are missing or do not belong together."""
        kind = self.found["type"]
        if not self.found.get("target"):
            raise self.refused("target is required")
        if self.recursive:
            self.bind |= self._recursion()
        given = {
            "bind": self.bind, "volume": self.volume, "tmpfs": self.tmpfs, "image": self.image
        }  # fmt: skip
        for name, options in given.items():
            if options and kind != name:
                raise self.refused(f"cannot mix '{name}-*' options with mount type '{kind}'")
        if kind is MountType.TMPFS and self.found.get("source"):
            raise self.refused("a mount of type tmpfs has no source")
        if kind in (MountType.BIND, MountType.IMAGE) and not self.found.get("source"):
            raise self.refused("source is required")
        return Mount(
            **self.found,
            bind_options=BindOptions(**self.bind) if self.bind else None,
            volume_options=self._volume_options(),
            tmpfs_options=TmpfsOptions(**self.tmpfs) if self.tmpfs else None,
            image_options=ImageOptions(**self.image) if self.image else None,
        )

    def _volume_options(self) -> VolumeOptions | None:
        if not self.volume:
            return None
        driver = Driver(
            name=self.volume.get("driver", ""), options=self.volume.get("volume-opt", {})
        )
        return VolumeOptions(
            no_copy=self.volume.get("no_copy", False),
            labels=self.volume.get("volume-label", {}),
            driver_config=driver,
            subpath=self.volume.get("subpath", ""),
        )

    def _recursion(self) -> dict[str, bool]:
        try:
            return recursion(
                self.recursive,
                read_only=bool(self.found.get("read_only")),
                propagation=self.bind.get("propagation", ""),
            )
        except InvalidArgument as error:
            raise self.refused(f"bind-recursive={self.recursive}: {error.reason}") from None


def recursion(word: str, *, read_only: bool, propagation: str) -> dict[str, bool]:
    """The fields of BindOptions of `bind-recursive=WORD`. Raises InvalidArgument."""
    if word in ("writable", "readonly") and not read_only:
        raise unfit("expected readonly as well")
    if word == "readonly":
        if propagation not in ("", "rprivate"):
            raise unfit("expected bind-propagation=rprivate as well")
        return {"read_only_force_recursive": True}
    if word == "writable":
        return {"read_only_non_recursive": True}
    return {"non_recursive": True} if word == "disabled" else {}


def mount(text: str, flag: str = "--mount") -> Mount:
    """`type=volume,source=data,target=/data,readonly`, as CSV. Raises InvalidArgument."""
    fields = _Fields(flag, text)
    try:
        rows = list(csv.reader([text], strict=True))
    except csv.Error as error:
        raise fields.refused(f"it is no line of CSV: {error}") from None
    if len(rows) != 1 or not rows[0]:
        raise fields.refused("expected type=TYPE,source=SOURCE,target=PATH")
    for field in rows[0]:
        fields.read(field)
    return fields.mount()


def volume_flag(text: str) -> Mount:
    """`-v`: `/path`, `NAME:/path[:OPTIONS]` or `/host:/path[:OPTIONS]`. Raises InvalidArgument."""
    parts = text.split(":")
    if len(parts) > 3 or not all(parts):
        raise invalid("--volume", text, "expected [SOURCE:]TARGET[:OPTIONS]")
    options = parts.pop().split(",") if len(parts) == 3 else []
    source, target = ("", parts[0]) if len(parts) == 1 else parts
    if source.startswith("/") or is_relative(source):
        found = Mount(type=MountType.BIND, source=source, target=target)
    elif source.startswith("~"):
        expected = "~ is expanded by shells only, at the beginning of a word: use $HOME"
        raise invalid("--volume", text, expected)
    elif source.startswith("."):
        expected = f"expected a path such as ./{source}, or the name of a volume"
        raise invalid("--volume", text, expected)
    elif source and not VOLUME_NAME.fullmatch(source):
        raise invalid("--volume", text, name_fault(source))
    else:
        found = Mount(source=source, target=target)
    if not target.startswith("/"):
        raise invalid("--volume", text, "invalid mount path: expected an absolute path")
    if not target.strip("/"):
        raise invalid("--volume", text, "invalid specification: destination can't be '/'")
    return _with_options(found, options, text)


def name_fault(name: str) -> str:
    """What is wrong with the name of a volume, after Docker's messages; empty: nothing."""
    if VOLUME_NAME.fullmatch(name):
        return ""
    return NAME_TOO_SHORT if len(name) == 1 and name.isascii() and name.isalnum() else NAME_EXPECTED


def _with_options(found: Mount, options: Sequence[str], text: str) -> Mount:
    """The mount with these options, of each kind one."""
    for words in (("ro", "rw"), _LABELS, _CONSISTENCIES, PROPAGATIONS, ("nocopy",)):
        if len(given := [word for word in options if word in words]) > 1:
            told = f"invalid mode: {','.join(given)}: expected one of {', '.join(words)}"
            raise invalid("--volume", text, told)
    for word in options:
        found = _with_option(found, word, text)
    return found


def _with_option(found: Mount, word: str, text: str) -> Mount:
    if word in ("ro", "rw"):
        return replace(found, read_only=word == "ro")
    if word in _LABELS or word in _CONSISTENCIES:
        return found
    if word in PROPAGATIONS and found.type is MountType.BIND:
        return replace(found, bind_options=BindOptions(propagation=word))
    if word == "nocopy" and found.type is MountType.VOLUME:
        options = found.volume_options or VolumeOptions()
        return replace(found, volume_options=replace(options, no_copy=True))
    reason = f"invalid mode: {word}: expected ro, rw, nocopy of a volume, or a propagation of a"
    raise invalid("--volume", text, f"{reason} directory of the host")


def notices(texts: Iterable[str]) -> list[str]:
    """What users are told of the values of `-v`: options without an effect."""
    labelled = [text for text in texts if set(_LABELS) & set(text.rpartition(":")[2].split(","))]
    told = "hosts apply no SELinux labels, z and Z do nothing"
    return [f"--volume {text}: {told}" for text in labelled]


def mounts(mount_texts: Iterable[str], volume_texts: Iterable[str]) -> tuple[Mount, ...]:
    """The mounts of all `-v`, then of all `--mount`. Raises InvalidArgument."""
    return (*map(volume_flag, volume_texts), *map(mount, mount_texts))


def text_of(found: Mount) -> str:
    """The mount as `--mount` gives it, in short, for errors."""
    source = f",source={found.source}" if found.source else ""
    return f"type={found.type}{source},target={found.target}"
