"""Bounds of archives, with their reasons: whoever sends one is not trusted. PURE."""

ARCHIVE_BYTES_MAX = 64 * 1024**3
"""Bytes of files in one archive: it must not fill a disk for hours. Holes do not count."""
ARCHIVE_FILE_MAX = 16 * 1024**4
"""The size of one file, holes included: ext4's."""
ARCHIVE_ENTRIES_MAX = 1_000_000
"""Files of one archive: a file system has a bounded number of inodes."""
ARCHIVE_DEPTH_MAX = 256
"""Directories of one path: each holds a descriptor open."""
ARCHIVE_HEADER_MAX = 1024 * 1024
"""Bytes of one entry's headers (names, attributes, the map of a sparse file), held in memory."""
ARCHIVE_GLOBAL_RECORDS_MAX = 64
ARCHIVE_GLOBAL_BYTES_MAX = 64 * 1024
"""Records and bytes of all global PAX headers of an archive: they apply to each entry after them.
git writes one record."""
ARCHIVE_LINKS_MAX = 100_000
"""Files with several names that one archive recognises; further ones become separate files."""
ARCHIVE_EXTENTS_MAX = 16_384
"""Extents of one sparse file that are kept apart; what follows them is copied with its holes."""
CHANGES_MAX = 100_000
"""Files of `diff`."""
SIZE_ENTRIES_MAX = 1_000_000
"""Files of one container whose size is measured: as many as an archive has."""
COPIES_AT_ONCE = 8
"""Copies into containers of one host: each holds a thread while it waits for its sender."""
COPY_IDLE_S = 300.0
"""Seconds without a byte after which a copy into a container ends, which holds a thread."""
