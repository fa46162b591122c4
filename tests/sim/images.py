"""The images of a simulated host, and its disk."""

from pyswarm_core.images.disk import ImageDisk, image_disk


class HostImages(dict[str, None]):
    """The references that the host has."""

    is_full = False
    """No further image fits on the disk."""

    def disk(self) -> ImageDisk:
        """What the agent reports of the disk."""
        return image_disk("full", [("", tuple(self))]) if self.is_full else ImageDisk()
