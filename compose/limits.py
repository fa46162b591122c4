"""Limits of what Compose files may hold, so that no file costs more than seconds and megabytes.
PURE.
"""

FILE_BYTES_MAX = 4 << 20
"""Of one file: a Compose file, an env file."""
FILES_MAX = 500
"""Files that one project reads, with includes, extends and env files; each time counts."""
VALUES_MAX = 100_000
"""Keys and values of one file, with what its aliases repeat. Docker Compose has the same limit."""
DEPTH_MAX = 64
"""Maps and lists within each other."""
TEMPLATE_DEPTH_MAX = 32
"""Defaults within defaults of one variable."""
VALUE_LENGTH_MAX = 1 << 20
"""Characters of one value after its variables were replaced."""
CHAIN_MAX = 100
"""Services that extend each other, or files that include each other, in one chain."""
PORTS_MAX = 65_535
"""Ports of one project, ranges counted one by one."""
FAULTS_SHOWN = 50
"""Faults that are reported at once."""
