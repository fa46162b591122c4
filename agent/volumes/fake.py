"""What mounts show, without files: for tests."""

from collections.abc import Sequence

from agent.tasks.record import Record
from agent.volumes.volumes import Report, Sources


class FakeVolumes:
    """Every source exists."""

    async def ready(self, record: Record, layers: Sequence[str], report: Report) -> Sources:
        """See `Mounting`."""
        mounts = record.spec.container_spec.mounts
        return {mount.target: mount.source or f"/volumes{mount.target}" for mount in mounts}
