"""What mounts show, without files: for tests."""

from collections.abc import Sequence
from contextlib import ExitStack

from agent.tasks.record import Record
from agent.volumes.volumes import _NO_IMAGES, Images, Report, Sources


class FakeVolumes:
    """Every source exists."""

    async def declared(self, record: Record, paths: Sequence[str]) -> Sequence[str]:
        """See `Mounting`."""
        return paths

    async def ready(
        self,
        record: Record,
        layers: Sequence[str],
        report: Report,
        opened: ExitStack | None = None,
        images: Images = _NO_IMAGES,
    ) -> Sources:
        """See `Mounting`."""
        mounts = record.spec.container_spec.mounts
        paths = {mount.target: mount.source or f"/volumes{mount.target}" for mount in mounts}
        return Sources(paths)
