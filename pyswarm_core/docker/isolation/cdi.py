"""Devices by names of the Container Device Interface: `vendor.com/class=device`. PURE.

https://github.com/cncf-tags/container-device-interface/blob/main/SPEC.md. A host's files say what
such a device is; only its agent reads them.
"""

import re

from pyswarm_core.errors import unfit

_QUALIFIED = re.compile(
    r"[A-Za-z][A-Za-z0-9_.-]{0,100}/[A-Za-z][A-Za-z0-9_-]{0,100}"
    r"=[A-Za-z0-9][A-Za-z0-9_.:-]{0,200}",
    re.ASCII,
)
_GPU = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,200}", re.ASCII)
GPUS = "nvidia.com/gpu"
GPUS_MAX = 64
_EXPECTED = "expected all, a number up to 64, or device=NAME[,NAME…]"


def is_qualified(text: str) -> bool:
    """Whether it is the name of a device by CDI, not a path."""
    return bool(_QUALIFIED.fullmatch(text))


def gpus(text: str) -> tuple[str, ...]:
    """The devices of `--gpus`: `all`, a number, `device=0,1` or `device=UUID`. Raises
    InvalidArgument.

    A host that CDI describes numbers its GPUs from 0; a number takes the first ones, as in Docker.
    """
    words = [word for word in text.replace('"', "").split(",") if word]
    names: list[str] = []
    for word in words:
        key, equals, value = word.partition("=")
        if key in ("capabilities", "driver") and equals:
            if value not in ("gpu", "utility", "compute", "nvidia"):
                raise unfit(f"{_EXPECTED}; {key} may be gpu, compute, utility or nvidia")
        elif key == "device" and equals:
            names.append(value)
        elif key == "count" and equals:
            names += _counted(value)
        elif not equals and names and word.isalnum():
            names.append(word)  # device=0,1
        elif not equals:
            names += _counted(word)
    if not names or not all(map(_GPU.fullmatch, names)):
        raise unfit(_EXPECTED)
    return tuple(f"{GPUS}={name}" for name in dict.fromkeys(names))


def _counted(text: str) -> list[str]:
    if text in ("all", "-1"):
        return ["all"]
    if not text.isascii() or not text.isdigit() or not 0 < int(text[:9]) <= GPUS_MAX:
        raise unfit(_EXPECTED)
    return [str(number) for number in range(int(text))]
