"""The audit log for users: records that pass a request's filters. SHELL."""

import asyncio
from collections.abc import Sequence

import msgspec

from controller.api.streams import Send, while_leading
from controller.leader.leadership import Leader, Leadership
from pyswarm_core.clock import Clock, Instant, seconds
from pyswarm_core.errors import invalid
from pyswarm_core.identity.audit import AuditRecord
from pyswarm_core.kinds import CLUSTER, KINDS
from pyswarm_core.limits import REFS_MAX

ID_PREFIX_MIN = 4
"""Characters of an id's beginning that name an object; fewer only match names and whole ids."""

OBJECT_KINDS = (*KINDS, "task", "image", CLUSTER.name)
"""The kinds of objects in records."""


class AuditQuery(msgspec.Struct, frozen=True):
    """Which records are requested. Has the fields of ListAuditRequest."""

    since: Instant = Instant(0)
    until: Instant = Instant(0)
    """0: no end."""
    users: tuple[str, ...] = ()
    objects: tuple[str, ...] = ()
    follow: bool = False

    def passes(self, record: AuditRecord) -> bool:
        """Whether the record is one of those requested."""
        in_time = record.at >= self.since and (not self.until or record.at <= self.until)
        by_user = not self.users or record.caller in self.users or record.caller_id in self.users
        return in_time and by_user and self._about(record)

    def _about(self, record: AuditRecord) -> bool:
        if not self.objects:
            return True
        found = (record.object_name, record.object_id, record.object)
        named = {*found, f"{record.object_kind}/{record.object_id}"}
        return any(
            ref in named or (len(ref) >= ID_PREFIX_MIN and record.object_id.startswith(ref))
            for ref in self.objects
        )


async def list_audit(
    leadership: Leadership, query: AuditQuery, clock: Clock, send: Send[Sequence[AuditRecord]]
) -> None:
    """Send the records from `since` to `until`, oldest first; with `follow` also those to come. An
    end in the past ends a stream that follows, too.

    Raises InvalidArgument for too many filters or an unknown kind, Unavailable when leadership is
    lost.
    """
    for field, refs in (("--user", query.users), ("--object", query.objects)):
        if len(refs) > REFS_MAX:
            raise invalid(field, len(refs), f"expected at most {REFS_MAX}", "count")
    for ref in query.objects:
        kind, slash, name = ref.partition("/")
        if slash and not (kind in OBJECT_KINDS and name):
            expected = f"KIND/NAME with a kind of {', '.join(OBJECT_KINDS)}, a name or an id"
            raise invalid("--object", ref, f"expected {expected}")
    leader = leadership.current()
    last = await _send_kept(leader, query, send)
    left_s = seconds(query.until - clock.now()) if query.until else None
    if not query.follow or (left_s is not None and left_s <= 0):
        return
    try:
        async with asyncio.timeout(left_s), asyncio.TaskGroup() as group:
            group.create_task(while_leading(leadership, leader))
            async for records in leader.audit.log.follow(last):
                async with leader.watches.telling:  # few in one pass of the event loop
                    found = [record for record in records if query.passes(record)]
                if found:
                    await send(found)
    except TimeoutError:
        return


async def _send_kept(leader: Leader, query: AuditQuery, send: Send[Sequence[AuditRecord]]) -> int:
    """Send what is stored; return the sequence up to which that was."""
    log = leader.audit.log
    last = log.published
    async for records in leader.watches.runner.each(log.kept()):
        found = [one for one in records if one.sequence <= last and query.passes(one)]
        if found:
            await send(found)
    return last
