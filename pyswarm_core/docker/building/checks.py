"""What buildah cannot build, before it runs. PURE."""

import re

from pyswarm_core.docker.building.dockerfile import Dockerfile
from pyswarm_core.errors import InvalidArgument

LAYERS_MAX = 127
"""Of one image; the kernel's overlay and Docker take no more."""
HEREDOCS_SINCE = (1, 33)

Version = tuple[int, ...]


def require_layers(file: Dockerfile, target: str) -> None:
    """Raise InvalidArgument for an image of too many layers."""
    if (layers := file.layers(target)) > LAYERS_MAX:
        raise InvalidArgument(
            f"{file.name}: RUN, COPY and ADD make {layers} layers, and an image has at"
            f" most {LAYERS_MAX}: join instructions, as in RUN a && b"
        )


def require_heredocs(file: Dockerfile, version: Version) -> None:
    """Raise InvalidArgument for heredocs if the buildah of that version has none. To ask for the
    version is a process: a file without heredocs needs no answer.
    """
    if file.heredocs and version < HEREDOCS_SINCE:
        first = file.heredocs[0]
        raise InvalidArgument(
            f"{file.name}:{first.line}: heredocs need buildah {_shown(HEREDOCS_SINCE)}, and this"
            f" host has {_shown(version)}: write the lines with && and \\, or COPY a script"
        )


def version_in(text: str) -> Version:
    """buildah's version, as in (1, 28), in what `buildah --version` prints."""
    found = re.search(r"(\d+)\.(\d+)", text)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def _shown(version: Version) -> str:
    return ".".join(map(str, version))
