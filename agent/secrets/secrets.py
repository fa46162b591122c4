"""The secrets and configs of the tasks of one host. SHELL.

A version is fetched once, for the first task that uses it, and kept until the last one is clean.
What is kept follows from the records of tasks: nothing is counted.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Protocol
from weakref import WeakValueDictionary

from agent.runtime.base import RuntimeFailed
from agent.secrets.plan import Content, Exposed, TaskFile, files_of, kind_of, mounts_of, versions_of
from agent.secrets.store import SecretStore, reason_beneath
from agent.secrets.templates import expanded
from agent.tasks.record import Record
from pyswarm_core.aio.daemon import to_its_end
from pyswarm_core.clock import Backoff
from pyswarm_core.errors import Exhausted, PyswarmError, Unavailable
from pyswarm_core.ids import TaskId
from pyswarm_core.payloads.references import Reference
from pyswarm_core.payloads.variables import variable
from pyswarm_core.specs import ContainerSpec, TaskSpec
from pyswarm_core.templates.context import Context
from pyswarm_core.validation.isolation import has_user_namespace

FETCHED_AT_ONCE = 8
"""Versions for one task: they may have 1 MB each."""
FETCH_RETRY_S = (0.1, 0.2, 0.5, 1.0, 2.0)

Fetch = Callable[[str, str, str], Awaitable[Content]]
"""Fetches a version of a kind, by its id, for a task. Raises PyswarmError."""
Report = Callable[[str], None]


class Exposing(Protocol):
    """Makes the files of secrets and configs of tasks."""

    async def ready(self, record: Record, context: Context, report: Report) -> Exposed:
        """Make the task's files; returns the mounts that show them, and its variables. Raises
        RuntimeFailed, and InvalidArgument for a template or a variable.
        """
        ...

    async def swap(self, record: Record, context: Context, report: Report) -> bool:
        """Replace the files of a running task that differ, each at once as a whole: the record has
        the references that it gets. Their versions are kept until `trim` or `released`. Returns
        whether any file did. Raises as `ready`; then no version is kept for it.
        """
        ...

    def released(self, task_id: TaskId) -> None:
        """The container of the task is gone. Raises OSError."""
        ...

    def trim(self, task_id: TaskId) -> None:
        """The record of the task has what its container was given by `swap`. Remove versions that
        no task uses any more.
        """
        ...


class Secrets:
    """Secrets and configs of one host. `records` are those of the worker."""

    def __init__(
        self,
        store: SecretStore,
        fetch: Fetch,
        records: Callable[[], Mapping[TaskId, Record]],
        in_thread: Callable[..., Awaitable[Any]] = to_its_end,
    ) -> None:
        self._store = store
        self._fetch = fetch
        self._records = records
        self._in_thread = in_thread
        self._locks = WeakValueDictionary[str, asyncio.Lock]()
        self._swapping: dict[TaskId, frozenset[str]] = {}
        """The versions that running tasks get, until their records have them: these may have a
        later change already.
        """

    async def ready(self, record: Record, context: Context, report: Report) -> Exposed:
        """See `Exposing`. Waits for a controller as long as the task is to run."""
        spec = record.spec.container_spec
        if not spec.references:
            return Exposed()
        await self._get_all(record, report)
        try:
            exposed: Exposed = await self._in_thread(self._make, record.task_id, spec, context)
        except OSError as error:
            raise RuntimeFailed(
                f"cannot make its secrets and configs: {reason_beneath(error, self._store.root)}"
            ) from None
        return exposed

    def _make(self, task_id: TaskId, spec: ContainerSpec, context: Context) -> Exposed:
        env, files = self._variables(spec, context), files_of(spec)
        if not files:
            return Exposed(env=env)
        directory = self._store.make(task_id, files, partial(self._content, spec, context))
        mounts = mounts_of(files, str(directory), is_mapped=has_user_namespace(spec))
        return Exposed(mounts, env)

    async def swap(self, record: Record, context: Context, report: Report) -> bool:
        """See `Exposing`. Waits for a controller as long as the task runs."""
        self._swapping[record.task_id] = frozenset(versions_of(record.spec.container_spec))
        try:
            return await self._swap(record, context, report)
        except BaseException:
            del self._swapping[record.task_id]
            raise

    async def _swap(self, record: Record, context: Context, report: Report) -> bool:
        spec = record.spec.container_spec
        await self._get_all(record, report)
        content = partial(self._content, spec, context)
        try:
            swapped: bool = await self._in_thread(
                self._store.swap, record.task_id, files_of(spec), content
            )
        except OSError as error:
            raise RuntimeFailed(
                f"cannot replace its secrets and configs: {reason_beneath(error, self._store.root)}"
            ) from None
        return swapped

    def trim(self, task_id: TaskId) -> None:
        """See `Exposing`."""
        self._swapping.pop(task_id, None)
        self._keep_used()

    def _variables(self, spec: ContainerSpec, context: Context) -> tuple[str, ...]:
        return tuple(
            variable(one.variable, one.source, self._expanded(spec, context, one))
            for one in spec.references
            if one.variable
        )

    def _content(self, spec: ContainerSpec, context: Context, file: TaskFile) -> bytes:
        return self._expanded(spec, context, file.reference)

    def _expanded(self, spec: ContainerSpec, context: Context, reference: Reference) -> bytes:
        content = self._store.read(reference.id)
        if not content.is_template:
            return content.data
        return expanded(reference, content.data, spec, context, self._data)

    def _data(self, reference: Reference) -> bytes:
        return self._store.read(reference.id).data

    async def _get_all(self, record: Record, report: Report) -> None:
        """Fetch what the host lacks, several at once. The first that waits reports."""
        versions = versions_of(record.spec.container_spec)
        missing = {key: one for key, one in versions.items() if not self._store.has(key)}
        places = asyncio.Semaphore(FETCHED_AT_ONCE)

        async def get(reference: Reference) -> None:
            def waits(message: str) -> None:
                if next(iter(missing)) == reference.id:
                    report(message)

            async with places:
                await self._get(reference, record.task_id, waits)
            del missing[reference.id]

        try:
            async with asyncio.TaskGroup() as group:
                for reference in tuple(missing.values()):
                    group.create_task(get(reference))
        except ExceptionGroup as raised:
            raise raised.exceptions[0] from None

    async def _get(self, reference: Reference, task_id: TaskId, report: Report) -> None:
        async with self._locks.setdefault(reference.id, asyncio.Lock()):
            if self._store.has(reference.id):
                return
            data = await self._fetched(reference, task_id, report)
            name = f"{kind_of(reference)} {reference.source}"
            try:
                await self._in_thread(self._store.put, reference.id, data)
            except OSError as error:
                raise RuntimeFailed(f"{name}: {reason_beneath(error, self._store.root)}") from None

    async def _fetched(self, reference: Reference, task_id: TaskId, report: Report) -> Content:
        kind = kind_of(reference)
        backoff = Backoff(*FETCH_RETRY_S)
        while True:
            try:
                return await self._fetch(kind, reference.id, task_id)
            except (Unavailable, Exhausted) as error:
                report(f"waiting for {kind} {reference.source} from a controller: {error}")
            except PyswarmError as error:
                raise RuntimeFailed(f"{kind} {reference.source}: {error}") from None
            await asyncio.sleep(backoff.next_s())

    def released(self, task_id: TaskId) -> None:
        """See `Exposing`. Versions that no task uses any more go with it."""
        self._swapping.pop(task_id, None)
        self._store.remove(task_id)
        self._keep_used(task_id)

    def _keep_used(self, released: TaskId | None = None) -> None:
        if not self._store.is_empty:
            used = _used(self._records(), released)
            self._store.keep(used.union(*self._swapping.values()))


def _used(records: Mapping[TaskId, Record], released: TaskId | None = None) -> frozenset[str]:
    """The versions of tasks that are not clean, and not released for good, and those that running
    ones are to get.
    """
    return frozenset(
        reference.id
        for record in records.values()
        if not record.clean and not (record.task_id == released and record.ended)
        for spec in _specs(record)
        for reference in spec.container_spec.references
    )


def _specs(record: Record) -> Iterable[TaskSpec]:
    change = record.in_place_change
    return (record.spec, change.with_references(record.spec)) if change else (record.spec,)


def open_secrets(
    run: Path, fetch: Fetch, records: Callable[[], Mapping[TaskId, Record]]
) -> Secrets:
    """The secrets and configs of the agent with this run directory. Raises OSError."""
    (store := SecretStore(run)).prepare()
    return Secrets(store, fetch, records)
