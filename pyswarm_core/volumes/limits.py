"""Limits of volumes and binds, each with its reason. PURE values."""

from pyswarm_core.clock import MINUTE, SECOND

BINDS_PROTOCOL = 9
"""Agents before this protocol neither keep binds beneath allowed paths nor report which sources of
binds they have.
"""
COPIES_PROTOCOL = 9
"""Agents before this protocol neither send nor receive copies of volumes."""
SLOTS_WITH_VOLUMES = 2_000
"""Missing replicas that one decision looks at if slots have volumes of their own: their names take
50 ms. If mounts have several templates, as many fewer. Where a slot may run says nothing of the
next one.
"""
VOLUMES_PER_MOVE = 32
"""Volumes that one request moves: they are stored in one transaction with its audit record."""
VOLUME_WORK_MAX = 256
"""Volumes that may have work (moves, holds) at a time: each decision looks at all of them."""
EVACUATION_MOVES = 8
"""Volumes that move at a time because their nodes are drained: tasks of others run meanwhile."""
EVACUATION_LOOKS = 16
"""Volumes of drained nodes that one decision looks at: for each of them, and the services that
mount it, all nodes are compared, which takes 0.2 to 2 ms with 10,000 nodes.
"""
EVACUATION_RETRY = 30 * SECOND
"""Volumes that cannot leave a drained node, or whose move failed, are looked at again after it."""
VOLUME_FAILURE_BYTES = 512
"""The reason of a failed move, as it is stored with the volume."""
VOLUME_HOLD = 30 * SECOND
"""A hold of a backup or restore ends after this long unless it is extended."""
BIND_SOURCES_MAX = 1024
"""Distinct sources of binds that agents look for; of more, it is unknown which nodes have them."""
BIND_SOURCES_BYTES = 256 * 1024
"""The length of all of them: one message names them."""
BIND_SOURCES_WAIT = 3 * SECOND
"""How long tasks wait for nodes to report whether they have a bind's source."""
ALLOWED_PATHS_MAX = 64
"""Paths that operators may bind."""
VOLUME_SIZE_MIN = 16 * 1024 * 1024
"""ext4 with a journal needs a part of it for itself."""
VOLUME_SIZE_MAX = 8 * 1024**4
"""8 TiB: half of the largest file of ext4, which holds the volume."""
VOLUME_OPTIONS_MAX = 3_800
"""Characters of the mount options of a volume: mount(2) takes a page of them."""
VOLUME_ANSWER = 20 * SECOND
"""A volume whose file system does not answer for this long is the error of the task."""
VOLUME_MOUNT_MAX = 60 * SECOND
"""Mounting, of a server that answers late."""
VOLUME_FILL_MAX = 30 * MINUTE
"""Filling a volume of a file system of its own, which may be that of a server."""
VOLUME_MEASURE_PERIOD = 5 * MINUTE
"""From one measurement of a volume to the next one. Each reads all names of the volume."""
VOLUME_MEASURE_MAX = 2 * MINUTE
"""One measurement; what has taken longer is not known."""
VOLUME_MEASURE_ENTRIES = 5_000_000
"""Files and directories of a volume that are counted."""
VOLUME_SERIES_MAX = 200
"""Volumes of a host with metrics of their own, the largest ones: names make time series."""
VOLUME_USAGE_PER_MESSAGE = 1_000
"""Measurements in one message of an agent."""

MOUNT_KINDS_PROTOCOL = 9
"""Agents before this protocol get no task that mounts a path of a volume, or an image."""
