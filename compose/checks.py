"""What must agree in a merged tree: references, keys that exclude each other, cycles. PURE.

Every fault is reported, so that an author sees all of them at once.
"""

from collections.abc import Callable, Mapping

from compose.forms.mounts import clean
from compose.keys.toplevel import OBJECTS
from compose.report import Report, near
from compose.tree import Node, Path, plain


class Checks:
    """The checks of one tree. `everything` has the services of disabled profiles as well."""

    def __init__(self, tree: Node, everything: Node, report: Report) -> None:
        self._report = report
        self._services = dict(tree.items("services"))
        self._everything = dict(everything.items("services"))
        sections = (*OBJECTS, "models")
        self._objects = {section: dict(tree.items(section)) for section in sections}

    def check(self) -> None:
        """Report every fault."""
        for name, service in self._everything.items():
            self._complete(name, service)
        for name, service in self._services.items():
            for one in (*_ALONE, Checks._references, Checks._dependencies):
                one(self, name, service)
        for section in OBJECTS:
            for key, entry in self._objects[section].items():
                self._object(section, key, entry)
        self._container_names()
        self._cycles()

    def _fault(self, where: Node, path: Path, text: str) -> None:
        self._report.fault(where, ("services", *path), text)

    # ---- one service ----

    def _complete(self, name: str, service: Node) -> None:
        """What several files may say together."""
        for other, need in service.items("depends_on"):
            self._has_keys(need, (name, "depends_on", other), "condition")
        for parent in (("ulimits",), ("build", "ulimits")):
            for key, limit in service.items(*parent):
                if limit.is_map:
                    self._has_keys(limit, (name, *parent, key), "soft", "hard")
        provider = service.get("provider")
        if provider is not None:
            self._has_keys(provider, (name, "provider"), "type")

    def _has_keys(self, node: Node, path: Path, *keys: str) -> None:
        for key in keys:
            if node.get(key) is None:
                self._fault(node, path, f"the key {key} is missing")

    def _has_image(self, name: str, service: Node) -> None:
        if not service.text("image") and not service.get("build") and not service.get("provider"):
            self._fault(service, (name,), "the service has neither image nor build")

    def _excluded(self, name: str, service: Node) -> None:
        build = service.get("build")
        if build is not None and build.text("dockerfile") and build.text("dockerfile_inline"):
            text = "dockerfile and dockerfile_inline exclude each other"
            self._fault(build, (name, "build"), text)
        mode, networks = service.get("network_mode"), service.get("networks")
        if mode is not None and mode.value and networks is not None and networks.value:
            text = "network_mode and networks exclude each other"
            self._fault(mode, (name, "network_mode"), text)

    def _agrees(self, name: str, service: Node) -> None:
        for key, path in _TWICE.items():
            one, other = service.get(key), service.get(*path)
            if one is None or other is None or not one.value or not other.value:
                continue
            if one.value != other.value:
                longer = ".".join(path)
                text = f"{plain(one)} here, but {longer} at {other.place} says {plain(other)}"
                self._fault(one, (name, key), text)

    def _scaled(self, name: str, service: Node) -> None:
        replicas = service.get("deploy", "replicas") or service.get("scale")
        called, mode = service.get("container_name"), service.get("deploy", "mode")
        if replicas is None or not isinstance(replicas.value, int):
            return
        if called is not None and replicas.value > 1:
            text = f"{called.value} is the name of one container, but there are {replicas.value}"
            self._fault(called, (name, "container_name"), text)
        if mode is not None and mode.value.startswith("global"):
            text = f"a service of mode {mode.value} has no number of replicas"
            self._fault(replicas, (name, "deploy", "replicas"), text)

    def _mounted_once(self, name: str, service: Node) -> None:
        kept = {clean(one.value.partition(":")[0]): one for one in service.list("tmpfs")}
        for number, mount in enumerate(service.list("volumes")):
            other = kept.get(mount.text("target"))
            if other is not None:
                text = f"a tmpfs is mounted at {mount.text('target')} already, at {other.place}"
                self._fault(mount, (name, "volumes", number), text)

    def _watches(self, name: str, service: Node) -> None:
        for number, watch in enumerate(service.list("develop", "watch")):
            action = watch.text("action")
            if action.startswith("sync") and not watch.text("target"):
                path: Path = (name, "develop", "watch", number)
                self._fault(watch, path, f"the key target is missing: {action} copies to it")

    def _platforms(self, name: str, service: Node) -> None:
        platform, platforms = service.text("platform"), service.list("build", "platforms")
        if platform and platforms and platform not in [one.value for one in platforms]:
            text = f"build.platforms lacks {platform}, the platform of the service"
            self._fault(platforms[0], (name, "build", "platforms"), text)

    # ---- references ----

    def _references(self, name: str, service: Node) -> None:
        for key, node in service.items("networks"):
            if key != "default":
                self._defined("networks", key, node, (name, "networks", key))
        for number, mount in enumerate(service.list("volumes")):
            source = mount.text("source")
            if source and mount.text("type") == "volume":
                self._defined("volumes", source, mount, (name, "volumes", number))
        for section in ("secrets", "configs"):
            for number, entry in enumerate(service.list(section)):
                path: Path = (name, section, number)
                self._defined(section, entry.text("source"), entry, path)
        for number, entry in enumerate(service.list("build", "secrets")):
            inner = (name, "build", "secrets", number)
            self._defined("secrets", entry.text("source"), entry, inner)
        for key, node in service.items("models"):
            self._defined("models", key, node, (name, "models", key))
        self._contexts(name, service)

    def _contexts(self, name: str, service: Node) -> None:
        for key, node in service.items("build", "additional_contexts"):
            kind, _, other = str(node.value).partition(":")
            if kind != "service":
                continue
            path = (name, "build", "additional_contexts", key)
            if other not in self._everything:
                text = f"there is no service {other}{near(other, self._everything)}"
                self._fault(node, path, text)
            elif self._everything[other].get("build") is None:
                self._fault(node, path, f"the service {other} has no build")

    def _defined(self, section: str, key: str, where: Node, path: Path) -> None:
        known = self._objects[section]
        if key not in known:
            hint = near(key, known)
            text = f"{key} is not defined in the top-level {section}{hint}"
            self._fault(where, path, text)

    def _dependencies(self, name: str, service: Node) -> None:
        for other, need in service.items("depends_on"):
            required = need.get("required")
            path = (name, "depends_on", other)
            if other in self._services:
                continue
            if required is not None and not required.value:
                text = f"there is no service {other} here: it is not waited for"
                self._report.notice(need, ("services", *path), text)
            elif other in self._everything:
                profiles = [one.value for one in self._everything[other].list("profiles")]
                flag = " or ".join(f"--profile {one}" for one in profiles)
                text = f"{other} is disabled: {flag} enables it, required: false does without it"
                self._fault(need, path, text)
            else:
                hint = near(other, self._everything)
                self._fault(need, path, f"there is no service {other}{hint}")

    # ---- objects ----

    def _object(self, section: str, key: str, entry: Node) -> None:
        path = (section, key)
        external = entry.get("external")
        if external is not None and external.value:
            self._external(entry, path)
        elif section in ("secrets", "configs"):
            kinds = ("file", "environment", "content", "driver")
            given = [kind for kind in kinds if entry.get(kind) is not None]
            allowed = "file, environment, content" if section == "configs" else "file, environment"
            if not given:
                text = f"nothing says where the data are: expected one of {allowed}, external"
                self._report.fault(entry, path, text)
            elif len(given) > 1:
                text = f"{' and '.join(given)} exclude each other: expected one of {allowed}"
                self._report.fault(entry, path, text)

    def _external(self, entry: Node, path: Path) -> None:
        extra = [
            key
            for key, node in entry.items()
            if key not in ("external", "name") and not key.startswith("x-") and node.value
        ]
        if extra:
            text = f"{', '.join(extra)}: an external object takes only name"
            remark = self._report.fault if path[0] == "volumes" else self._report.notice
            remark(entry, path, text)

    def _container_names(self) -> None:
        owners: dict[str, str] = {}
        for name, service in self._services.items():
            called = service.get("container_name")
            if called is None:
                continue
            if called.value in owners:
                text = f"service {owners[called.value]} already has the name {called.value}"
                self._fault(called, (name, "container_name"), text)
            owners[called.value] = name

    # ---- order ----

    def _cycles(self) -> None:
        done: dict[str, None] = {}
        for name in self._services:
            trail: list[tuple[str, list[str]]] = [(name, self._needs(name))]
            on_trail = {name: None}
            while trail and name not in done:
                at, waiting = trail[-1]
                if not waiting:
                    trail.pop()
                    on_trail.pop(at, None)
                    done[at] = None
                    continue
                follows = waiting.pop(0)
                if follows in on_trail:
                    cycle = [one for one, _ in trail]
                    told = " → ".join([*cycle[cycle.index(follows) :], follows])
                    text = f"services depend on each other: {told}"
                    self._fault(self._services[follows], (follows, "depends_on"), text)
                    return
                if follows not in done:
                    trail.append((follows, self._needs(follows)))
                    on_trail[follows] = None

    def _needs(self, name: str) -> list[str]:
        return [o for o, _ in self._services[name].items("depends_on") if o in self._services]


_TWICE: Mapping[str, tuple[str, ...]] = {
    "scale": ("deploy", "replicas"),
    "cpus": ("deploy", "resources", "limits", "cpus"),
    "mem_limit": ("deploy", "resources", "limits", "memory"),
    "mem_reservation": ("deploy", "resources", "reservations", "memory"),
    "pids_limit": ("deploy", "resources", "limits", "pids"),
}
"""What two keys may say, if they say the same."""

_ALONE: tuple[Callable[[Checks, str, Node], None], ...] = (
    Checks._has_image,
    Checks._excluded,
    Checks._agrees,
    Checks._scaled,
    Checks._platforms,
    Checks._mounted_once,
    Checks._watches,
)
