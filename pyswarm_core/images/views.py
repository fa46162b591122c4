"""Images as the API shows them: pulls, lists, contents and removals. PURE values."""

import msgspec


class LayerProgress(msgspec.Struct, frozen=True):
    """A layer of a pull: the first digits of its digest; pending, exists, downloading or done."""

    id: str
    state: str = ""
    done_bytes: int = 0
    total_bytes: int = 0


class ImageProgress(msgspec.Struct, frozen=True):
    """The progress of a pull; a total of 0 is unknown. The digest is that of a complete one."""

    status: str = ""
    done_bytes: int = 0
    total_bytes: int = 0
    layers: tuple[LayerProgress, ...] = ()
    reference: str = ""
    digest: str = ""
    up_to_date: bool = False


class NodeImageProgress(msgspec.Struct, frozen=True):
    """The progress of one node's pull."""

    node_name: str
    progress: ImageProgress = ImageProgress()
    """The last one received, if it is done."""
    error: str = ""
    done: bool = False


class Image(msgspec.Struct, frozen=True):
    """An image in a node's storage."""

    id: str
    digest: str
    names: tuple[str, ...]
    size_bytes: int
    created: str
    labels: dict[str, str] = {}
    platform: str = ""
    services: tuple[str, ...] = ()
    """Those that need it."""
    unique_bytes: int = 0
    """Of layers that no other image of the node has."""
    used_by: tuple[str, ...] = ()
    """The services and containers whose tasks on the node need it, also to roll back."""
    step: bool = False
    """The result of a build's step, which lists leave out."""


class ImageUse(msgspec.Struct, frozen=True):
    """What the images of a node use of its disk, in bytes; each layer counts once."""

    bytes: int = 0
    loose_bytes: int = 0
    """Of layers that no image has."""
    disk_bytes: int = 0
    disk_free: int = 0
    loose: int = 0
    """The number of layers that no image has."""
    reclaimable: int = 0
    """Of layers that only unneeded images have."""


class ImageReport(msgspec.Struct, frozen=True):
    """What an agent reports of its images."""

    images: tuple[Image, ...] = ()
    use: ImageUse = ImageUse()


class NodeImages(msgspec.Struct, frozen=True):
    """The images of one node, or the error."""

    node_name: str
    images: tuple[Image, ...]
    error: str
    use: ImageUse = ImageUse()


class ImageDetails(msgspec.Struct, frozen=True):
    """An image's configuration, JSON as its registry has it, and the unpacked bytes of its layers,
    the lowest first.
    """

    config: bytes = b""
    layer_sizes: tuple[int, ...] = ()


class InspectedImage(msgspec.Struct, frozen=True):
    """An image of the fleet: its names on any node, the nodes that have it, the services that need
    it.
    """

    id: str
    digest: str = ""
    names: tuple[str, ...] = ()
    size_bytes: int = 0
    details: ImageDetails = ImageDetails()
    nodes: tuple[str, ...] = ()
    services: tuple[str, ...] = ()


class ImageDeletion(msgspec.Struct, frozen=True):
    """Remove these names of an image, and the image with its last one; none: all of them."""

    id: str
    names: tuple[str, ...] = ()


class ImageDeleted(msgspec.Struct, frozen=True):
    """What was done of a deletion. An image in use stays, with an error. Without an id: of layers
    that no image had.
    """

    id: str
    untagged: tuple[str, ...] = ()
    deleted: bool = False
    reclaimed_bytes: int = 0
    error: str = ""
    parents: tuple[str, ...] = ()
    """Ids of images of its steps that are gone as well."""


class NodeImagesRemoved(msgspec.Struct, frozen=True):
    """What one node removed, or its error."""

    node_name: str
    images: tuple[ImageDeleted, ...] = ()
    error: str = ""


class RemoveImage(msgspec.Struct, frozen=True):
    """Remove an image by name, digest or id; `digest` is one that the caller knows for the name.
    The images of its steps go with it, unless `no_prune`.
    """

    ref: str
    force: bool = False
    digest: str = ""
    no_prune: bool = False


class PullImage(msgspec.Struct, frozen=True):
    """Pull an image, or every tag of its repository, on these nodes, by default on all."""

    reference: str
    username: str = ""
    password: str = ""
    nodes: tuple[str, ...] = ()
    platform: str = ""
    all_tags: bool = False

    def __repr__(self) -> str:
        return f"PullImage(reference={self.reference!r})"


class NodeImageIds(msgspec.Struct, frozen=True):
    """Images of a node, by their ids; with `loose` also layers that no image has."""

    node: str
    ids: tuple[str, ...] = ()
    loose: bool = False


class PruneImages(msgspec.Struct, frozen=True):
    """Remove these images of nodes, except what a task there needs."""

    nodes: tuple[NodeImageIds, ...] = ()
