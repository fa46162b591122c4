"""The files of a project as one tree: interpolation, include, extends, merge. PURE.

Per file, in this order: parse; replace variables; read each value into its normal form; add what
it includes; resolve what its services extend; merge with the earlier files.
"""

import posixpath
from collections.abc import Iterator, Mapping

import msgspec

from compose.absent import expect_values
from compose.forms.base import Merge
from compose.interpolating import Interpolation, templates
from compose.keys.service import SERVICE
from compose.keys.toplevel import OBJECTS, TOP
from compose.limits import CHAIN_MAX, FILES_MAX
from compose.merging import Merging, without_marks
from compose.projects import Counted
from compose.reading import Reading
from compose.report import Report, near, refusal
from compose.text.documents import documents
from compose.text.dotenv import variables
from compose.tree import Node, Path, Place, plain

_SECTIONS = ("services", *OBJECTS, "models")
_NOWHERE = Place("")
_AS_TABLE = Merge(SERVICE.merge.rule)


class Scope(msgspec.Struct, frozen=True):
    """Where files are read: one of the project, or one of an include."""

    directory: str
    variables: Mapping[str, str]
    chain: tuple[str, ...] = ()
    """The files that include each other down to here."""


class _Source(msgspec.Struct, frozen=True):
    """The services of one file, which may extend each other."""

    path: str
    services: dict[str, Node]
    scope: Scope
    waiting: Mapping[str, list[Node]] = {}
    """Of another file, the documents that have a service: of it counts what is extended."""


class Loader:
    """Loads the files of one project."""

    def __init__(
        self,
        files: Counted,
        report: Report,
        home: str,
        *,
        interpolates: bool,
        shown_from: str = "",
    ) -> None:
        self._files, self._report, self._home = files, report, home
        self._interpolates, self._shown_from = interpolates, shown_from
        self.templates: list[str] = []
        """Values whose variables stay, of all files."""
        self._merging = Merging()
        self._parsed: dict[str, list[Node]] = {}
        self._others: dict[str, _Source] = {}
        self._count = 0

    def parsed(self, path: str, where: Node | None = None, at: Path = ()) -> list[Node]:
        """The documents of a file, which is read once. `where` is the value that names it."""
        if path not in self._parsed:
            shown = self._files.shown(path)
            data = self._files.read(path, where, at)
            self._parsed[path] = documents(data, shown, self._report.notice)
        return self._parsed[path]

    def as_docker(self) -> None:
        """Merge as `docker stack deploy` does."""
        self._merging = Merging(docker=True)

    def project(self, paths: tuple[str, ...], scope: Scope) -> Node:
        """All files merged, without marks."""
        tree: Node | None = None
        self._count += len(paths)
        if self._count > FILES_MAX:
            where = Place(self._files.shown(paths[0]))
            raise refusal(where, (), f"a project reads at most {FILES_MAX} files")
        inner = Scope(scope.directory, scope.variables, (*scope.chain, *paths))
        for path in paths:
            for document in self.parsed(path):
                tree = self._document(tree, document, path, inner)
        self._report.check()
        whole = without_marks(tree or Node({}, _NOWHERE))
        expect_values(whole, TOP, (), self._report)
        self._report.check()
        return whole

    def _document(self, tree: Node | None, document: Node, path: str, scope: Scope) -> Node:
        reading = self._reading(scope)
        found = TOP.read(self._interpolated(document, scope), (), reading)
        if found is None or found.value is None:
            self._report.check()
            return tree or Node({}, _NOWHERE)
        self._report.check()
        every = list(self._includes(found, scope))
        includes: Node | None = None
        for included in every:
            # Of what two includes define, the first wins.
            includes = self._merged(included, includes) if includes else included
        beside = dict(includes.items("services")) if includes is not None else {}
        for included in every:
            self._notice_conflicts(included, found)
        own = self._without_extends(found, _Source(path, beside, scope))
        if includes is not None:
            tree = self._merged(tree, _without_services(includes, found))
        return self._merged(tree, own)

    def _merged(self, tree: Node | None, later: Node) -> Node:
        return self._merging.merged(tree, later, TOP, TOP.merge)

    def _reading(self, scope: Scope) -> Reading:
        return Reading(
            self._report,
            scope.directory,
            self._home,
            keeps_variables=not self._interpolates,
            shown_from=self._shown_from,
        )

    def _interpolated(self, node: Node, scope: Scope) -> Node:
        if not self._interpolates:
            self.templates += templates(node)
            return node
        found = Interpolation(scope.variables, self._report).of(node, ())
        self._report.check()
        return found

    # ---- include ----

    def _includes(self, found: Node, scope: Scope) -> Iterator[Node]:
        for number, entry in enumerate(found.list("include")):
            if len(scope.chain) > CHAIN_MAX:
                raise refusal(entry, ("include", number), f"more than {CHAIN_MAX} files in a chain")
            paths = tuple(node.value for node in entry.list("path"))
            if not paths:
                continue
            for node in entry.list("path"):
                self._expect_no_cycle(node, ("include", number), scope.chain)
                self.parsed(node.value, node, ("include", number))
            directory = entry.text("project_directory") or posixpath.dirname(paths[0])
            known = {**self._defaults(entry, directory, scope), **scope.variables}
            inner = Scope(directory, known, scope.chain)
            tree = resolved_environment(self.project(paths, inner), known)
            tree = with_contexts(tree, directory)
            kept = {key: tree.value[key] for key in _SECTIONS if key in tree.value}
            yield tree.at(kept)

    def _expect_no_cycle(self, node: Node, at: Path, chain: tuple[str, ...]) -> None:
        if node.value in chain:
            start = chain.index(node.value)
            told = " → ".join(self._files.shown(one) for one in (*chain[start:], node.value))
            raise refusal(node, at, f"files include each other: {told}")

    def _defaults(self, entry: Node, directory: str, scope: Scope) -> dict[str, str]:
        found: dict[str, str] = {}
        given = [(node.value, node) for node in entry.list("env_file")]
        default = posixpath.join(directory, ".env")
        for path, node in given or ([(default, entry)] if self._files.has(default) else []):
            known = {**found, **scope.variables}
            data = self._files.read(path, node, ("include", "env_file"))
            found.update(variables(data, self._files.shown(path), known.get))
        return found

    def _notice_conflicts(self, included: Node, own: Node) -> None:
        for section in _SECTIONS:
            theirs = dict(included.items(section))
            for name, mine in own.items(section):
                other = theirs.get(name)
                if other is not None and plain(other) not in (plain(mine), None, {}):
                    told = f"also defined in {other.place}, which is included: both are merged"
                    self._report.notice(mine, (section, name), told)

    # ---- extends ----

    def _without_extends(self, found: Node, beside: _Source) -> Node:
        services = dict(found.items("services"))
        for name, service in services.items():
            # What is included counts before what is extended.
            if (other := beside.services.get(name)) is not None:
                services[name] = self._merging.merged(other, service, SERVICE, _AS_TABLE)
        source = _Source(beside.path, {**beside.services, **services}, beside.scope)
        made = {name: self._resolved(name, source, {}) for name in services}
        self._report.check()
        kept = {key: value for key, value in found.value.items() if key != "include"}
        if made:
            kept["services"] = found.value["services"].at(made)
        return found.at(kept)

    def _resolved(self, name: str, source: _Source, chain: dict[tuple[str, str], None]) -> Node:
        """A service with what it extends."""
        service = source.services[name]
        extends = service.get("extends") if service.is_map else None
        if extends is None:
            return service
        place = (source.path, name)
        path: Path = ("services", name, "extends")
        if place in chain:
            told = " → ".join(one for _, one in [*chain, place])
            raise refusal(extends, path, f"services extend each other: {told}")
        if len(chain) >= CHAIN_MAX:
            raise refusal(extends, path, f"more than {CHAIN_MAX} services in a chain")
        base_source = self._source(extends, source, path)
        base_name = extends.text("service")
        if not self._has(base_name, base_source):
            hint = near(base_name, [*base_source.services, *base_source.waiting])
            where = self._files.shown(base_source.path)
            text = f"there is no service {base_name} in {where}{hint}"
            self._report.fault(extends, path, text)
            return service
        base = self._resolved(base_name, base_source, {**chain, place: None})
        own = service.at({k: v for k, v in service.value.items() if k != "extends"})
        return self._merging.merged(without_marks(base), own, SERVICE, _AS_TABLE)

    def _source(self, extends: Node, source: _Source, at: Path) -> _Source:
        path = extends.text("file")
        if not path or path == source.path:
            return source
        if path not in self._others:
            scope = Scope(posixpath.dirname(path), source.scope.variables)
            waiting: dict[str, list[Node]] = {}
            for document in self.parsed(path, extends.get("file"), (*at, "file")):
                if (services := document.get("services")) is not None and not services.is_map:
                    self._services(document, services, scope)
                for name, _ in document.items("services"):
                    waiting.setdefault(name, []).append(document)
            self._report.check()
            self._others[path] = _Source(path, {}, scope, waiting)
        return self._others[path]

    def _has(self, name: str, source: _Source) -> bool:
        """Whether a source has a service, which is read now."""
        if name not in source.services and name in source.waiting:
            tree: Node | None = None
            for document in source.waiting[name]:
                section = document.value["services"]
                alone = Node({name: section.value[name]}, section.place, keys=section.keys)
                found = self._services(document, alone, source.scope)
                tree = found if tree is None else self._merged(tree, found)
            self._report.check()
            source.services.update(tree.items("services") if tree is not None else ())
        return name in source.services

    def _services(self, document: Node, services: Node, scope: Scope) -> Node:
        alone = Node({"services": services}, document.place, keys=document.keys)
        reading = self._reading(scope)
        return TOP.read(self._interpolated(alone, scope), (), reading) or Node({}, _NOWHERE)


def resolved_environment(tree: Node, known: Mapping[str, str]) -> Node:
    """With the values of variables that `environment` names without one."""
    services = {}
    for name, service in tree.items("services"):
        entries = dict(service.items("environment"))
        for key, node in entries.items():
            if node.value is None and key in known:
                entries[key] = node.at(known[key])
        if entries:
            service = service.at({**service.value, "environment": service.at(entries)})
        services[name] = service
    if not services:
        return tree
    return tree.at({**tree.value, "services": tree.value["services"].at(services)})


def _without_services(includes: Node, found: Node) -> Node:
    """Without the services that the including file has too: they are merged already."""
    own = dict(found.items("services"))
    kept = {name: service for name, service in includes.items("services") if name not in own}
    if "services" not in includes.value:
        return includes
    return includes.at({**includes.value, "services": includes.value["services"].at(kept)})


def with_contexts(tree: Node, directory: str) -> Node:
    """With the context of each build that has none: the directory of its project."""
    services = {}
    for name, service in tree.items("services"):
        build = service.get("build")
        if build is not None and build.is_map and not build.text("context"):
            context = {"context": Node(directory, build.place)}
            service = service.at({**service.value, "build": build.at({**build.value, **context})})
        services[name] = service
    if not services:
        return tree
    return tree.at({**tree.value, "services": tree.value["services"].at(services)})


def version_of(document: Node) -> str:
    """What a document says of its version; empty if nothing."""
    found = document.get("version")
    return str(found.value) if found is not None else ""


def name_of(found: list[Node], known: Mapping[str, str]) -> Node | None:
    """The name that the last of some documents gives."""
    for document in reversed(found):
        name = document.get("name")
        if name is not None and isinstance(name.value, str):
            return Interpolation(known, Report()).of(name, ("name",))
    return None
