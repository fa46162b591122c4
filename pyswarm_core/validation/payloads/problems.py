"""Validation of secrets, configs, and references to them. PURE."""

import re
from collections import Counter
from collections.abc import Iterable

from pyswarm_core.payloads.limits import (
    CONFIG_BYTES_MAX,
    PAYLOAD_NAME_MAX,
    REFERENCES_MAX,
    SECRET_BYTES_MAX,
    VERSIONS_KEPT_MAX,
)
from pyswarm_core.payloads.payload import GOLANG, PayloadSpec
from pyswarm_core.payloads.references import SECRETS_DIRECTORY, ConfigReference, Reference
from pyswarm_core.specs import ContainerSpec
from pyswarm_core.validation import text
from pyswarm_core.validation.isolation import is_mount_path
from pyswarm_core.validation.problem import Problem, at_most, within

_NAME = re.compile(r"[a-zA-Z0-9]+(?:[a-zA-Z0-9._-]*[a-zA-Z0-9])?")
_ID = re.compile(r"[0-9]{1,10}")
_ID_MAX = 2**32 - 2
_KERNEL = ("/proc", "/sys", "/dev")

DATA_BYTES = {"secret": SECRET_BYTES_MAX, "config": CONFIG_BYTES_MAX}


def payload_problems(kind: str, spec: PayloadSpec, size: int) -> list[Problem]:
    """The problems of a secret or config with so many bytes of data."""
    return [
        *_name_problems(f"{kind} name", spec.name),
        *text.label_problems("--label", spec.labels),
        *_driver_problems(spec),
        *within("--keep-versions", spec.keep_versions, 0, VERSIONS_KEPT_MAX),
        *data_problems(kind, size),
    ]


def data_problems(kind: str, size: int) -> Iterable[Problem]:
    """The data has at least one byte, and fewer than Docker's limit."""
    most = DATA_BYTES[kind]
    if not 0 < size < most:
        expected = f"{kind} data must be larger than 0 and less than {most} bytes"
        yield Problem(f"{kind} data", size, expected, "size")


def _name_problems(field: str, name: str) -> Iterable[Problem]:
    if len(name) > PAYLOAD_NAME_MAX or not _NAME.fullmatch(name):
        expected = (
            f"expected 1 to {PAYLOAD_NAME_MAX} of a-z A-Z 0-9 - _ ., a letter or digit at both ends"
        )
        yield Problem(field, name, expected)


def _driver_problems(spec: PayloadSpec) -> Iterable[Problem]:
    driver = spec.templating
    if driver is None:
        return
    if driver.name != GOLANG:
        yield Problem("--template-driver", driver.name, f"expected {GOLANG}, the only driver")
    if driver.options:
        option = next(iter(driver.options))
        yield Problem("--template-driver", option, "expected no options", "option")


def reference_problems(spec: ContainerSpec) -> Iterable[Problem]:
    """The problems of a container's secrets and configs."""
    yield from at_most("--secret", spec.references, REFERENCES_MAX)
    for reference in spec.references[:REFERENCES_MAX]:
        yield from _of_variable(reference) if reference.variable else _of_reference(reference)
    yield from _collisions(spec)
    yield from _repeated_variables(spec)


def _flag(reference: Reference) -> str:
    return "--config" if isinstance(reference, ConfigReference) else "--secret"


def _of_reference(reference: Reference) -> Iterable[Problem]:
    flag, file = _flag(reference), reference.file
    yield from _name_problems(flag, reference.source)
    relative = not file.name.startswith("/")
    if not file.name or not is_mount_path(reference.path) or file.name.endswith("/"):
        where = SECRETS_DIRECTORY if flag == "--secret" else "/"
        expected = (
            f"expected the path of a file, absolute or below {where}, without . and .., of at most"
            " 4096 characters"
        )
        yield Problem(flag, file.name, expected, "target")
    elif not relative and _is_in(reference.path, _KERNEL):
        expected = f"expected a path outside of {', '.join(_KERNEL)}"
        yield Problem(flag, file.name, expected, "target")
    for what, number in (("uid", file.uid), ("gid", file.gid)):
        if not _ID.fullmatch(number) or int(number) > _ID_MAX:
            expected = f"expected a number of 0 to {_ID_MAX}: names are not looked up"
            yield Problem(flag, number, expected, what)
    if not 0 <= file.mode <= 0o7777:
        yield Problem(flag, f"{file.mode:o}", "expected an octal mode of 0 to 7777", "mode")


def _of_variable(reference: Reference) -> Iterable[Problem]:
    yield from _name_problems("--secret-env", reference.source)
    name = reference.variable
    if not text.is_word(name) or "=" in name:
        yield Problem("--secret-env", name, "expected VARIABLE=NAME, the variable without spaces")
    if reference.file.name:
        expected = "expected no target: a secret is a variable or a file"
        yield Problem("--secret-env", reference.file.name, expected, "target")


def _repeated_variables(spec: ContainerSpec) -> Iterable[Problem]:
    """One variable has one value: that of one secret, or of `--env`."""
    seen = {entry.partition("=")[0] for entry in spec.env}
    for reference in spec.references[:REFERENCES_MAX]:
        name = reference.variable
        if name and name in seen:
            yield Problem("--secret-env", name, "expected no other --secret-env or --env of it")
        seen.add(name)


def _is_in(path: str, directories: Iterable[str]) -> bool:
    return any(path == one or path.startswith(f"{one}/") for one in directories)


def _collisions(spec: ContainerSpec) -> Iterable[Problem]:
    """Files that have the same path, or the path of a directory that another file is in."""
    mounts = {mount.target.rstrip("/") or "/" for mount in spec.mounts}
    mounts |= {path.rstrip("/") or "/" for path in spec.tmpfs}
    files = [reference for reference in spec.references[:REFERENCES_MAX] if not reference.variable]
    count = Counter(reference.path for reference in files)
    parents = {parent for path in count for parent in _parents(path)}
    told: set[str] = set()
    for reference in files:
        path, flag = reference.path, _flag(reference)
        if path in told:
            continue
        told.add(path)
        if count[path] > 1:
            names = sorted({one.source for one in files if one.path == path})
            kinds = sorted({_flag(one)[2:] for one in files if one.path == path}, reverse=True)
            what = f"{' and '.join(kinds)} references {', '.join(names)} have a conflicting target"
            yield Problem(flag, path, f"{what}: expected one file at each path", "target")
        elif path in parents or path == SECRETS_DIRECTORY:
            yield Problem(flag, path, "expected no file where others need a directory", "target")
        elif path in mounts:
            yield Problem(flag, path, "expected no mount at the same path", "target")
        elif SECRETS_DIRECTORY in mounts and path.startswith(f"{SECRETS_DIRECTORY}/"):
            expected = f"expected no mount at {SECRETS_DIRECTORY}, where secrets are"
            yield Problem(flag, path, expected, "target")


def _parents(path: str) -> Iterable[str]:
    at = path.rfind("/")
    while at > 0:
        path = path[:at]
        yield path
        at = path.rfind("/")
