"""Time limits of agents on a machine that is emulated, where a start of Python takes seconds."""

import os

from pyswarm_core.clock import SECOND

_FACTOR = float(os.environ.get("PYSWARM_TIMEOUT_FACTOR", "1"))
ANSWERS = round(30 * _FACTOR) * SECOND
"""For what answers."""
HANGS = round(3 * _FACTOR) * SECOND
"""For what hangs: more than a process takes to start."""
