"""Output as it was once read and found right; PYSWARM_GOLDEN=write takes what is shown now."""

import os
from pathlib import Path

FOLDER = Path(__file__).parents[2] / "fixtures" / "golden" / "cli"


def assert_golden(name: str, shown: str) -> None:
    """Fail unless `shown` is what the file `name` holds."""
    path = FOLDER / f"{name}.txt"
    if os.environ.get("PYSWARM_GOLDEN") == "write":
        path.write_text(shown)
    assert shown == path.read_text()
