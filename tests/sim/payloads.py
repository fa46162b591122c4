"""Secrets and configs: what their users do, what hosts hold of them, and the rules about both."""

import asyncio
from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from msgspec.structs import replace

from agent.secrets.plan import (
    SHARED,
    STAGED,
    Content,
    TaskFile,
    Write,
    files_of,
    swap_steps,
    versions_of,
)
from agent.secrets.secrets import Report, Secrets
from agent.tasks.record import Record
from controller.api.payloads.changes import (
    New,
    Update,
    create_payload,
    remove_payload,
    update_payload,
)
from pyswarm_core.ids import TaskId
from pyswarm_core.kinds import CONFIG, SECRET, Kind
from pyswarm_core.objects import Service
from pyswarm_core.payloads.payload import PayloadSpec
from pyswarm_core.payloads.references import (
    NO_SIGNAL,
    ConfigReference,
    FileTarget,
    Reference,
    SecretReference,
)
from pyswarm_core.specs import ServiceSpec, TaskSpec
from pyswarm_core.states import is_terminal
from pyswarm_core.templates.context import Context
from tests.sim.marks import Marks
from tests.sim.membership import stack_of
from tests.sim.rand import Chance
from tests.sim.rules import Rule
from tests.sim.runtime import Swap
from tests.sim.view import Change, View

if TYPE_CHECKING:
    from tests.sim.hosts import Host
    from tests.sim.workload import Users

NAMES = ("p1", "p2", "p3")


class Source(NamedTuple):
    """A secret or config that users name, and the version that they pin; 0: none."""

    kind: Kind[Any, Any]
    name: str
    number: int = 0

    @property
    def reference(self) -> Reference:
        """The reference, without an id."""
        name = f"/run/secrets/{self.kind.name}-{self.name}"
        file, pinned = FileTarget(name=name), bool(self.number)
        if self.kind is SECRET:
            return SecretReference(
                secret_name=self.name, file=file, number=self.number, pinned=pinned
            )
        return ConfigReference(config_name=self.name, file=file, number=self.number, pinned=pinned)


def using(spec: ServiceSpec, references: Sequence[Reference]) -> ServiceSpec:
    """The spec with these references alone."""
    container = replace(
        spec.task_template.container_spec,
        secrets=tuple(one for one in references if isinstance(one, SecretReference)),
        configs=tuple(one for one in references if isinstance(one, ConfigReference)),
    )
    return replace(spec, task_template=replace(spec.task_template, container_spec=container))


def as_named(spec: ServiceSpec) -> ServiceSpec:
    """The spec as its user names secrets and configs: with the versions that are pinned alone, but
    for a container, all of whose versions are pinned.
    """

    def named(one: Reference) -> Reference:
        if spec.mode.is_container:
            return replace(one.replaced_by("", 0), pinned=False)
        return one.replaced_by("", one.number if one.pinned else 0)

    return using(spec, list(map(named, spec.task_template.container_spec.references)))


class PayloadUsers:
    """Those who create, update and remove secrets and configs, and services that use them."""

    def __init__(self, users: "Users", chance: Chance, view: View) -> None:
        self._users = users
        self._chance = chance
        self._view = view
        self._made = 0

    def act(self) -> None:
        """Somebody does something, so that there are versions, and services that use them."""
        services = self._view.services.values()
        kinds: tuple[Kind[Any, Any], ...] = (SECRET, CONFIG)
        if not any(map(self._view.of, kinds)):
            self.create()
        elif not any(one.spec.task_template.container_spec.references for one in services):
            self._chance.choice((self.create_service, self.add))()
        else:
            likely = [self.create, *[self.create_service] * 2, *[self.update] * 6, self.add]
            self._chance.choice([*likely, self.drop, self.remove])()

    def create(self) -> None:
        """A secret or config that may exist already."""
        kind, name = self._chance.choice((SECRET, CONFIG)), self._chance.choice(NAMES)
        new = New(PayloadSpec(name=name, keep_versions=self._chance.choice((0, 1, 3))), b"first")
        self._users.send(
            f"{kind.name} create {name}",
            lambda state, now, ids: create_payload(state, kind, new, now, ids),
        )

    def create_service(self) -> None:
        """A service that uses one or two of those that exist."""
        spec = self._users.drawn_spec()
        found = [self._some() for _ in range(self._chance.choice((1, 1, 2)))]
        if spec is not None and (sources := dict.fromkeys(one for one in found if one)):
            by_file = {one.reference.path: one.reference for one in sources}
            self._users.create_as(using(spec, list(by_file.values())))

    def add(self) -> None:
        """A secret or config for a service that runs."""
        if (service := self._users.some_service()) and (source := self._some()):
            added = source.reference
            old = service.spec.task_template.container_spec.references
            others = [one for one in old if one.path != added.path]
            self._users.update(service, using(service.spec, [*others, added]), source.name)

    def drop(self) -> None:
        """A service uses none any more: a rollback may find that they are gone."""
        service = self._users.some_service()
        if service is not None and service.spec.task_template.container_spec.references:
            self._users.update(service, using(service.spec, ()), "without secrets")

    def update(self) -> None:
        """The next version."""
        if (source := self._some()) is not None:
            self._made += 1
            keep = self._chance.choice((None, 0, 2))
            reload = self._chance.choice(("", NO_SIGNAL, "HUP"))
            update = Update(source.name, f"data {self._made}".encode(), keep, reload)
            self._users.send(
                f"{source.kind.name} update {source.name}",
                lambda state, now, ids: update_payload(state, source.kind, update, now, ids),
            )

    def remove(self) -> None:
        """It is refused while something uses it."""
        if (source := self._some()) is not None:
            ref = f"{source.name}@{source.number}" if source.number else source.name
            self._users.send(
                f"{source.kind.name} rm {ref}",
                lambda state, now, ids: remove_payload(state, source.kind, ref, now),
            )

    def _some(self) -> Source | None:
        """One that exists; one in four is a version."""
        kind: Kind[Any, Any] = self._chance.choice((SECRET, CONFIG))
        stored = [one for one in self._view.of(kind).values() if not stack_of(kind, one)]
        if not stored:
            return None
        one = self._chance.choice(stored)
        return Source(kind, one.spec.name, one.number if self._chance.hits(0.25) else 0)


Shown = dict[str, dict[str, bytes]]
"""The files of secrets and configs of each task, by their places, as the host has them."""


class MemoryStore:
    """`SecretStore` on what a host keeps until it loses power. A swap takes steps, after each of
    which its agent may be killed.
    """

    root = Path("/tmpfs")

    def __init__(self, payloads: dict[str, Content], files: Shown) -> None:
        self._payloads = payloads
        self._files = files

    def has(self, payload_id: str) -> bool:
        return payload_id in self._payloads

    def put(self, payload_id: str, content: Content) -> None:
        self._payloads[payload_id] = content

    def read(self, payload_id: str) -> Content:
        return self._payloads[payload_id]

    def make(
        self, task_id: str, files: Sequence[TaskFile], content: Callable[[TaskFile], bytes]
    ) -> Path:
        self._files[task_id] = {one.place: content(one) for one in files}
        return self.root / task_id

    def swap(
        self, task_id: str, files: Sequence[TaskFile], content: Callable[[TaskFile], bytes]
    ) -> Generator[None, None, bool]:
        has = self._files[task_id]
        for place in [one for one in has if one.startswith(STAGED)]:
            del has[place]
        new = [(one, content(one)) for one in files]
        different = [(one, data) for one, data in new if has[one.place] != data]
        for step in swap_steps(different):
            if isinstance(step, Write):
                has[step.place] = step.data[: len(step.data) // 2]
                yield
                has[step.place] = step.data
            else:
                has[step.to] = has.pop(step.place)
            yield
        return bool(different)

    def remove(self, task_id: str) -> None:
        self._files.pop(task_id, None)

    def keep(self, used: Collection[str]) -> None:
        for payload_id in [one for one in self._payloads if one not in used]:
            del self._payloads[payload_id]

    @property
    def is_empty(self) -> bool:
        return not self._payloads


STEP_S = 0.1
"""How long a step of a swap takes: others act meanwhile."""


async def in_steps(work: Callable[..., Any], *args: Any) -> Any:
    """In place of a thread."""
    result = work(*args)
    if not isinstance(result, Generator):
        return result
    while True:
        try:
            next(result)
        except StopIteration as done:
            return done.value
        await asyncio.sleep(STEP_S)


class NotedSecrets(Secrets):
    """The product's; `swaps` has those that are carried out, or are not recorded yet."""

    def __init__(self, swaps: dict[str, Swap], store: Any, fetch: Any, of: Any) -> None:
        super().__init__(store, fetch, of, in_steps)
        self._swaps = swaps
        swaps.clear()  # those of an agent that was killed

    async def swap(self, record: Record, context: Context, report: Report) -> bool:
        versions = frozenset(versions_of(record.spec.container_spec))
        self._swaps[record.task_id] = Swap(versions)
        try:
            swapped = await super().swap(record, context, report)
        except BaseException:
            self._swaps.pop(record.task_id, None)
            raise
        self._swaps[record.task_id] = Swap(versions, is_done=True)
        return swapped

    def trim(self, task_id: TaskId) -> None:
        self._swaps.pop(task_id, None)
        super().trim(task_id)

    def released(self, task_id: TaskId) -> None:
        self._swaps.pop(task_id, None)
        super().released(task_id)


class VersionsAreKept:
    """No version that is in use is removed; an agent holds what its tasks use and nothing else."""

    rule = Rule.VERSIONS

    def __init__(self, hosts: Mapping[str, "Host"], marks: Marks) -> None:
        self._hosts = hosts
        self._marks = marks

    def broken_by(self, change: Change, view: View) -> Iterator[str]:
        kinds: tuple[Kind[Any, Any], ...] = (SECRET, CONFIG)
        for kind in kinds:
            for old, new in change.of(kind):
                if old is not None and new is None:
                    self._marks.hit("version removed")
                    yield from self._used(old.id, view)
                if old is None and new is not None and new.number > 1:
                    self._marks.hit("version created")
                if old is not None and new is not None and old.data != new.data:
                    yield f"{new.title} changed its data"
        for host in self._hosts.values():
            if host.up and host.adopted is not None and host.adopted is host.worker:
                yield from self._held(host)

    def _used(self, payload_id: str, view: View) -> Iterator[str]:
        for service in view.services.values():
            if any(payload_id in _ids(spec) for spec in _specs_in_use(service, view)):
                yield f"version {payload_id} was removed, and service {service.spec.name} uses it"

    def _held(self, host: "Host") -> Iterator[str]:
        assert host.worker is not None
        records = host.worker.records.values()
        used = {
            one.id
            for record in records
            if not record.clean
            for spec in _specs_of(record)
            for one in spec.container_spec.references
        }
        used.update(*(swap.versions for swap in host.engine.secret_swaps.values()))
        for payload_id in host.engine.payloads.keys() - used:
            yield f"{host.name} holds version {payload_id}, which none of its tasks uses"
        for task_id in host.running():
            if not host.engine.secret_files.get(task_id):
                continue
            self._marks.hit("task ran with a secret or config")
            record = host.worker.records.get(task_id)
            needed = set(versions_of(record.spec.container_spec)) if record is not None else set()
            if (swap := host.engine.secret_swaps.get(task_id)) is not None and swap.is_done:
                needed |= swap.versions
            if not needed <= host.engine.payloads.keys():
                yield f"{host.name} dropped a version of task {task_id}, which runs"


class FilesAreWhole:
    """A container's file is one version of its secret or config as a whole, at any time; and the
    one that its agent has recorded, unless that replaces it just now.
    """

    rule = Rule.SWAPS

    def __init__(self, hosts: Mapping[str, "Host"], marks: Marks) -> None:
        self._hosts = hosts
        self._marks = marks
        self._data: dict[str, set[bytes]] = {}
        """What the versions of a name have had, by the place of their files."""
        self._of_id: dict[str, bytes] = {}

    def broken_by(self, change: Change, view: View) -> Iterator[str]:
        kinds: tuple[Kind[Any, Any], ...] = (SECRET, CONFIG)
        for kind in kinds:
            for _, new in change.of(kind):
                if new is not None:
                    place = f"{SHARED}/{kind.name}-{new.spec.name}"
                    self._data.setdefault(place, set()).add(new.data)
                    self._of_id[new.id] = new.data
        for host in self._hosts.values():
            for task_id in host.running():
                yield from self._wrong(host, task_id)

    def _wrong(self, host: "Host", task_id: TaskId) -> Iterator[str]:
        has = host.engine.secret_files.get(task_id, {})
        for place, data in has.items():
            if not place.startswith(STAGED) and data not in self._data.get(place, ()):
                yield f"{host.name} shows task {task_id} {data!r} at {place}"
        if not host.up or host.adopted is None or host.adopted is not host.worker:
            return
        record = host.adopted.records.get(task_id)
        if record is None or record.in_place_change is not None or not has:
            return
        for one in files_of(record.spec.container_spec):
            if one.reference.made_with:
                self._marks.hit("file replaced in a running container")
            if has.get(one.place) != self._of_id.get(one.reference.id):
                yield f"{host.name} has recorded {one.reference} of task {task_id}, which has {has}"


def _specs_of(record: Record) -> Iterator[TaskSpec]:
    """What the task has, and is to get while it runs."""
    yield record.spec
    if record.in_place_change is not None:
        yield record.in_place_change.with_references(record.spec)


def _ids(spec: ServiceSpec) -> set[str]:
    return {one.id for one in spec.task_template.container_spec.references}


def _specs_in_use(service: Service, view: View) -> Iterator[ServiceSpec]:
    if not service.removing:
        yield service.spec
    for tasks in view.slots_of(service.id).values():
        for task in tasks:
            if not is_terminal(task.state) and (spec := service.made_from(task.spec_version)):
                yield spec
