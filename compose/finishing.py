"""The merged tree as the model: profiles, env files, defaults, names, what is used. PURE."""

import posixpath
from collections.abc import Iterable, Iterator, Mapping

from compose.keys.toplevel import OBJECTS, TOP
from compose.loading import resolved_environment
from compose.merging import finished
from compose.projects import Counted
from compose.report import Report
from compose.text.dotenv import quoted_names, variables
from compose.tree import Node, Place, planted

_SHARED = ("network_mode", "ipc", "pid", "uts", "cgroup")
ALL_PROFILES = "*"


def enabled(tree: Node, profiles: Iterable[str], named: Iterable[str]) -> Node:
    """Without the services whose profiles nobody asked for; one that is named enables its own."""
    services = dict(tree.items("services"))
    asked = set(profiles)
    for name in named:
        asked |= (
            {one.value for one in services[name].list("profiles")} if name in services else set()
        )
    kept = {
        name: service
        for name, service in services.items()
        if not service.list("profiles")
        or ALL_PROFILES in asked
        or any(one.value in asked for one in service.list("profiles"))
    }
    return _with(tree, kept)


def completed(tree: Node, directory: str) -> Node:
    """With what follows from what is written: dependencies, the default network, what a build is
    made of.
    """
    services = {}
    for name, service in tree.items("services"):
        value = dict(service.value or {})
        if (needs := _dependencies(service)) is not None:
            value["depends_on"] = needs
        stands_alone = service.text("network_mode") or service.get("provider")
        if not _has(service, "networks") and not stands_alone:
            default = Node({"default": Node(None, service.place)}, service.place)
            value["networks"] = default
        if (build := service.get("build")) is not None and build.is_map:
            value["build"] = _built(build, directory)
        deploy, scale = service.get("deploy"), service.get("scale")
        if deploy is not None and scale is not None and deploy.get("replicas") is None:
            value["deploy"] = deploy.at({**deploy.value, "replicas": scale})
        if hooks := service.list("pre_start"):
            value["pre_start"] = service.value["pre_start"].at(_hooks(service, value, hooks))
        services[name] = service.at(value)
    return _with(tree, services)


def _has(service: Node, key: str) -> bool:
    found = service.get(key)
    return found is not None and bool(found.value)


def _built(build: Node, directory: str) -> Node:
    value = dict(build.value)
    if not build.text("context"):
        value["context"] = Node(directory, build.place)
    if not build.text("dockerfile") and not build.text("dockerfile_inline"):
        value["dockerfile"] = Node("Dockerfile", build.place)
    return build.at(value)


def _hooks(service: Node, value: dict[str, Node], hooks: list[Node]) -> list[Node]:
    """Containers before the service's own: they have its image and networks."""
    inherited = ("networks", "network_mode")
    shared: dict[str, Node] = {key: value[key] for key in inherited if key in value}
    if (image := service.get("image")) is not None:
        shared["image"] = image
    return [hook.at({**shared, **hook.value}) if hook.is_map else hook for hook in hooks]


def _dependencies(service: Node) -> Node | None:
    written = {name: _required(need) for name, need in service.items("depends_on")}
    added: dict[str, Node] = {}
    for name, restarts in implied_names(service):
        if name not in written and name not in added:
            need = {"condition": "service_started", "required": True, "restart": restarts}
            added[name] = planted(need, service.place)
    if not written and not added:
        return service.get("depends_on")
    return Node({**written, **added}, service.place)


def _required(need: Node) -> Node:
    if not need.is_map or need.get("required") is not None:
        return need
    return need.at({**need.value, "required": Node(True, need.place)})


def implied_names(service: Node) -> Iterator[tuple[str, bool]]:
    """Services that must run for what a service shares with them, and whether it restarts with
    them.
    """
    for link in service.list("links"):
        yield link.value.partition(":")[0], True
    for key in _SHARED:
        kind, _, name = service.text(key).partition(":")
        if kind == "service" and name:
            yield name, True
    for source in service.list("volumes_from"):
        if not source.value.startswith("container:"):
            yield source.value.partition(":")[0], False


def networks_first(tree: Node, report: Report) -> Node:
    """Of a service with networks and network_mode only the networks, as Docker's stacks have it."""
    services = {}
    for name, service in tree.items("services"):
        mode = service.get("network_mode")
        if mode is not None and _has(service, "networks"):
            told = "the service has networks, and only they count"
            report.notice(mode, ("services", name, "network_mode"), told)
            service = service.at({k: v for k, v in service.value.items() if k != "network_mode"})
        services[name] = service
    return _with(tree, services)


class Environment:
    """Env files and label files, read into what they stand for."""

    def __init__(
        self, files: Counted, known: Mapping[str, str], report: Report, *, is_stack: bool
    ) -> None:
        self._files, self._known, self._report = files, known, report
        self._is_stack = is_stack

    def read(self, tree: Node, *, with_files: bool = True) -> Node:
        """The tree with `environment` and `labels` complete, or without what their files have."""
        tree = resolved_environment(tree, self._known)
        if self._is_stack:
            self._tell_empty(tree)
        made = {}
        for name, service in tree.items("services"):
            value = dict(service.value)
            files = service.list("env_file") if with_files else []
            if files:
                value["environment"] = self._environment(name, service, files)
            if with_files:
                value.pop("env_file", None)
            if with_files and service.list("label_file"):
                value["labels"] = self._labels(name, service)
            if (build := service.get("build")) is not None and build.get("args") is not None:
                value["build"] = build.at({**build.value, "args": self._arguments(build)})
            made[name] = service.at(value)
        return _with(tree, made)

    def _environment(self, name: str, service: Node, files: list[Node]) -> Node:
        own = dict(service.items("environment"))
        written = {key: node.value for key, node in own.items() if node.value is not None}
        found: dict[str, str] = {}
        places: dict[str, Place] = {}

        def known(variable: str) -> str | None:
            return self._known.get(variable, written.get(variable))

        for number, entry in enumerate(files):
            path, required = entry.text("path"), entry.get("required")
            at = ("services", name, "env_file", number)
            if not self._files.has(path):
                if required is None or required.value:
                    text = f"there is no file {self._files.shown(path)}"
                    self._report.fault(entry, at, f"{text}; required: false tolerates that")
                continue
            data, shown = self._files.read(path, entry, at), self._files.shown(path)
            is_raw = entry.text("format") == "raw"
            read = variables(data, shown, known, below=dict(found), raw=is_raw)
            self._tell_quotes(data, shown)
            found.update(read)
            places.update(dict.fromkeys(read, Place(shown)))
        base = {key: Node(value, places[key]) for key, value in found.items()}
        return Node({**base, **own}, service.place)

    def _tell_quotes(self, data: bytes, shown: str) -> None:
        if self._is_stack and (names := quoted_names(data, shown)):
            told = f"quotes around the value of {', '.join(names)} are taken off"
            self._report.notice(Place(shown), (), f"{told}; docker stack deploy keeps them")

    def _tell_empty(self, tree: Node) -> None:
        for service, body in tree.items("services"):
            for name, node in body.items("environment"):
                if node.value == "" and self._known.get(name):
                    told = "the variable is empty; docker stack deploy takes the shell's value"
                    self._report.notice(node, ("services", service, "environment", name), told)

    def _labels(self, name: str, service: Node) -> Node:
        found: dict[str, Node] = {}
        for number, entry in enumerate(service.list("label_file")):
            shown = self._files.shown(entry.value)
            at = ("services", name, "label_file", number)
            read = variables(self._files.read(entry.value, entry, at), shown, self._known.get)
            found |= {key: Node(value, Place(shown)) for key, value in read.items()}
        return Node({**found, **dict(service.items("labels"))}, service.place)

    def _arguments(self, build: Node) -> Node:
        found = {}
        for key, node in build.items("args"):
            value = self._known.get(key) if node.value is None else node.value
            if value is not None:
                found[key] = node.at(value)
        return build.at(found)


def with_name(tree: Node, name: str) -> Node:
    """With the project's name."""
    value = {key: child for key, child in tree.value.items() if key not in ("version", "name")}
    value["name"] = Node(name, tree.place)
    value.setdefault("services", Node({}, tree.place))
    return tree.at(value)


def with_names(tree: Node, name: str) -> Node:
    """With the project's name, and the real name of each object."""
    value = dict(with_name(tree, name).value)
    networks = dict(tree.items("networks"))
    if _uses_default(tree):
        networks.setdefault("default", Node({}, tree.place))
        value["networks"] = Node(networks, tree.place)
    made = tree.at(value)
    for section in OBJECTS:
        entries = {key: _named(key, entry, name) for key, entry in made.items(section)}
        if entries:
            value[section] = made.value[section].at(entries)
    return tree.at(value)


def _uses_default(tree: Node) -> bool:
    return any(
        "default" in dict(service.items("networks")) for _, service in tree.items("services")
    )


def _named(key: str, entry: Node, project: str) -> Node:
    value = dict(entry.value) if entry.is_map else {}
    external = entry.get("external")
    if not entry.text("name"):
        is_external = external is not None and external.value
        value["name"] = Node(key if is_external else f"{project}_{key}", entry.place)
    return entry.at(value)


def used(tree: Node) -> Node:
    """Without objects that no service uses."""
    wanted: dict[str, dict[str, None]] = {section: {} for section in (*OBJECTS, "models")}
    for _, service in tree.items("services"):
        wanted["networks"] |= dict.fromkeys(key for key, _ in service.items("networks"))
        mounts = [m for m in service.list("volumes") if m.text("type") == "volume"]
        wanted["volumes"] |= dict.fromkeys(m.text("source") for m in mounts)
        secrets = [*service.list("secrets"), *service.list("build", "secrets")]
        wanted["secrets"] |= dict.fromkeys(entry.text("source") for entry in secrets)
        configs = service.list("configs")
        wanted["configs"] |= dict.fromkeys(entry.text("source") for entry in configs)
        wanted["models"] |= dict.fromkeys(key for key, _ in service.items("models"))
    value = dict(tree.value)
    for section in wanted:
        kept = {key: entry for key, entry in tree.items(section) if key in wanted[section]}
        value.pop(section, None)
        if kept:
            value[section] = tree.value[section].at(kept)
    return tree.at(value)


def cleaned(tree: Node) -> Node:
    """Without what says nothing."""
    return finished(tree, TOP)


def _with(tree: Node, services: dict[str, Node]) -> Node:
    section = tree.get("services") or tree
    return tree.at({**tree.value, "services": section.at(services)})


def directory_name(directory: str) -> str:
    """The last part of a path, of which a project without a name takes its own."""
    return posixpath.basename(directory)
