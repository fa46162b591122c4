"""A request and the files as a model. PURE: `load` is what this package is for."""

from typing import Any

import msgspec

from compose.checks import Checks
from compose.finishing import (
    ALL_PROFILES,
    Environment,
    cleaned,
    completed,
    directory_name,
    enabled,
    networks_first,
    used,
    with_name,
    with_names,
)
from compose.loading import Loader, Scope, name_of, version_of
from compose.projects import Counted, Files, Project, Request, normalized, project
from compose.reading import WrittenPath
from compose.report import Remark, Report, refusal
from compose.tree import Node, Place, plain
from pyswarm_core.errors import invalid, similar


class Loaded(msgspec.Struct, frozen=True, kw_only=True):
    """A model, and what its author should know."""

    tree: Node
    """The model with the places of its values."""
    model: dict[str, Any]
    """The model as plain values."""
    directory: str
    variables: dict[str, str]
    profiles: tuple[str, ...]
    """All that services name, enabled or not."""
    warnings: tuple[Remark, ...]
    notices: tuple[Remark, ...]
    files: tuple[str, ...]
    """What was read, in order."""
    versions: tuple[str, ...]
    templates: tuple[str, ...] = ()
    """The values that have variables, if these stay."""


def load(request: Request, files: Files) -> Loaded:
    """The model of a project. Raises Refused with every fault of a file, or InvalidArgument for a
    flag.
    """
    report = Report()
    counted = Counted(files, request.directory)
    found = project(request, counted, report)
    shown_from = "" if request.resolves_paths else found.directory
    interpolates = request.interpolates
    loader = Loader(counted, report, request.home, interpolates=interpolates, shown_from=shown_from)
    documents = [document for path in found.files for document in loader.parsed(path)]
    if not documents:
        where = Place(counted.shown(found.files[0]))
        raise refusal(where, (), "the file is empty: expected the key services")
    _expect_maps(documents)
    versions = tuple(version_of(document) for document in documents)
    if request.is_stack and all(version.startswith("3") for version in versions):
        loader.as_docker()
    name = _name(found, documents, report)
    known = {**found.variables, "COMPOSE_PROJECT_NAME": name}
    merged = loader.project(found.files, Scope(found.directory, known))
    if all(key == "version" or child.value is None for key, child in merged.value.items()):
        raise refusal(documents[0], (), "the files define nothing: expected the key services")
    if request.is_stack:
        _tell_env_file(counted, report)
    else:
        _tell_version(documents, report)
    everything = completed(merged, found.directory)
    _expect_named(request, everything)
    tree = _selected(request, found.profiles, (merged, everything), report)
    environment = Environment(counted, known, report, is_stack=request.is_stack)
    tree = _finished(request, tree, name, environment)
    report.check()
    return Loaded(
        tree=tree,
        model=plain(tree) if request.resolves_paths else _as_written(plain(tree)),
        directory=found.directory,
        variables=known,
        profiles=_profiles(everything),
        warnings=tuple(report.warnings),
        notices=tuple(report.notices),
        files=tuple(counted.paths),
        versions=versions,
        templates=tuple(loader.templates),
    )


def _selected(
    request: Request, asked: tuple[str, ...], trees: tuple[Node, Node], report: Report
) -> Node:
    """The services that count, of the tree as it is merged or of the complete one."""
    merged, everything = trees
    profiles = asked if request.interpolates else (ALL_PROFILES,)
    tree = enabled(everything, profiles, request.services)
    if request.is_stack:
        tree = networks_first(tree, report)
    if request.is_checked and request.interpolates:
        _check(tree, everything, report)
    return tree if request.normalizes else enabled(merged, profiles, request.services)


def _finished(request: Request, tree: Node, name: str, environment: Environment) -> Node:
    """The tree as it is printed. Without variables' values nothing that depends on them is."""
    if request.interpolates:
        tree = environment.read(tree, with_files=request.resolves_env_files)
    named = with_names(tree, name) if request.normalizes else with_name(tree, name)
    return cleaned(used(named) if request.interpolates else named)


def _as_written(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _as_written(child) for key, child in value.items()}
    if isinstance(value, list):
        return [_as_written(child) for child in value]
    return value.shown if isinstance(value, WrittenPath) else value


def _expect_maps(documents: list[Node]) -> None:
    for document in documents:
        if not document.is_map:
            text = "expected a map with the key services, as in services: {web: {image: nginx}}"
            raise refusal(document, (), text)


def _name(found: Project, documents: list[Node], report: Report) -> str:
    written = name_of(documents, found.variables)
    if written is not None and found.name not in ("", written.value):
        told = f"the name {found.name} is given: {written.value} does not count"
        report.notice(written, ("name",), told)
    elif written is not None and not found.name:
        _tell_normalized(written, report)
    name = found.name or normalized(str(written.value if written is not None else ""))
    name = name or normalized(directory_name(found.directory))
    if not name:
        expected = "expected a name of letters and digits: give --project-name"
        raise invalid("project directory", found.directory, expected)
    return name


def _tell_normalized(written: Node, report: Report) -> None:
    name = normalized(written.value)
    if name != written.value:
        told = f"the project is named {name}: lower-case letters, digits, _ and - make a name"
        report.notice(written, ("name",), told)


def _tell_env_file(files: Counted, report: Report) -> None:
    for path in files.paths:
        if path.endswith("/.env"):
            told = "variables come from here; docker stack deploy reads no .env"
            report.warn(Place(files.shown(path)), (), f"{told}, --no-env-file leaves it out")


def _tell_version(documents: list[Node], report: Report) -> None:
    for document in documents:
        version = document.get("version")
        if version is not None:
            report.warn(version, ("version",), "the key is obsolete and has no meaning: remove it")


def _expect_named(request: Request, tree: Node) -> None:
    services = dict(tree.items("services"))
    for name in request.services:
        if name not in services:
            raise invalid("SERVICE", name, f"there is no such service{similar(name, services)}")


def _check(tree: Node, everything: Node, report: Report) -> None:
    Checks(tree, everything, report).check()
    report.check()


def _profiles(tree: Node) -> tuple[str, ...]:
    names: dict[str, None] = {}
    for _, service in tree.items("services"):
        names |= dict.fromkeys(one.value for one in service.list("profiles"))
    return tuple(sorted(names))
