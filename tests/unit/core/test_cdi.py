"""Names of devices by CDI, and Docker's --gpus."""

import pytest

from pyswarm_core.docker.isolation.cdi import gpus, is_qualified
from pyswarm_core.errors import InvalidArgument

GPU = "nvidia.com/gpu="


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("all", ["all"]),
        ("-1", ["all"]),
        ("2", ["0", "1"]),
        ("device=1", ["1"]),
        ('"device=0,2"', ["0", "2"]),
        ("device=GPU-3a2b", ["GPU-3a2b"]),
        ("count=1,capabilities=utility", ["0"]),
        ("all,capabilities=gpu", ["all"]),
    ],
)
def test_gpus_are_devices(text: str, names: list[str]) -> None:
    assert gpus(text) == tuple(GPU + name for name in names)


@pytest.mark.parametrize("text", ["", "0", "65", "x", "device=", "all,capabilities=video", "a=b"])
def test_other_requests_are_refused(text: str) -> None:
    with pytest.raises(InvalidArgument, match="expected all, a number up to 64, or device=NAME"):
        gpus(text)


def test_paths_are_no_names() -> None:
    assert is_qualified("vendor.com/class-1=dev:0")
    for text in (
        "/dev/fuse",
        "fuse",
        "vendor.com/class",
        "=x",
        "/v.com/c=0",
        "v.com/c=a b",
        "v/c=\n",
    ):
        assert not is_qualified(text)
