"""Limits of images, each with its reason. PURE values."""

DISK_IMAGES_MAX = 1_000
"""Images that a node with a full disk reports: 8 bytes each, in every heartbeat."""
DISK_REASON_MAX = 256
"""The reason why a disk is full, as it is stored with its node."""
LAYERS_MAX = 127
"""Layers of an image: overlayfs mounts 128 at most by short names, with the writable one."""
