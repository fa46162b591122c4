"""A host whose disk is full says so, others take its work, and with space it works again."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.e2e.acceptance.fleet import Fleet, playground

pytestmark = pytest.mark.slow

HOST = "host3"
DISK = "256m"
FAT = "fat:1"
FAT_BYTES = 8 * 2**20
FREE_BYTES = 6 * 2**20
BALLAST = "/var/lib/ballast"
QUICK = ("--restart-delay", "100ms")


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Its hosts have small disks."""
    with playground(tmp_path_factory.mktemp("home"), 3, "--disk", DISK) as found:
        yield found


@contextmanager
def little_space(fleet: Fleet) -> Iterator[None]:
    """The host's disk is full but for FREE_BYTES."""
    left = os.statvfs(fleet.state_dir / HOST)
    ballast = left.f_bavail * left.f_frsize - FREE_BYTES
    assert fleet.on(HOST, "fallocate", "--length", str(ballast), BALLAST).code == 0
    try:
        yield
    finally:
        assert fleet.on(HOST, "rm", BALLAST).code == 0


@pytest.fixture(scope="module")
def fat(fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> str:
    """An image that the small disk cannot hold."""
    context = tmp_path_factory.mktemp("fat")
    (context / "ballast").write_bytes(os.urandom(FAT_BYTES))
    subprocess.run(["cp", "-a", fleet.home / "image" / "rootfs", context], check=True)
    (context / "Containerfile").write_text(
        "FROM scratch\nCOPY rootfs/ /\nCOPY ballast /ballast\nENV PATH=/bin PORT=80\n"
        'ENTRYPOINT ["/bin/sh", "/server"]\n'
    )
    fleet("image", "build", "-t", FAT, str(context))
    return FAT


def test_an_image_that_does_not_fit_is_said_so_and_runs_elsewhere(
    fleet: Fleet, service: str, fat: str
) -> None:
    with little_space(fleet):
        fleet("service", "create", "-d", "--name", service, "--replicas", "3", *QUICK, fat)
        fleet.until(
            lambda: (
                len(fleet.running(service)) == 3
                and HOST not in {task["Node"] for task in fleet.running(service)}
            ),
            "the other hosts take its work",
        )
        errors = {task["Error"] for task in fleet.tasks(service) if task["Node"] == HOST}
        assert errors
        for error in errors:
            assert f"no space left on this host for {fat}" in error
        # The texts of a slot's older tasks are shortened.
        whole = [error for error in errors if f"{HOST} has " in error]
        assert whole
        assert all(f" of 268MB free in {fleet.state_dir / HOST}/" in error for error in whole)
        nothing_half_made(fleet, fat)
    fleet("service", "create", "--name", f"{service}f", *on_host(), fat)
    assert [task["Node"] for task in fleet.running(f"{service}f")] == [HOST]
    fleet("service", "rm", f"{service}f")


def on_host() -> tuple[str, ...]:
    """Flags that leave no other choice."""
    return ("--constraint", f"node.hostname=={HOST}", *QUICK)


def nothing_half_made(fleet: Fleet, image: str) -> None:
    """On the full host are no image, no layer, no download and no container of it."""
    name = image.partition(":")[0]
    listed = fleet.rows("image", "ls", "--filter", f"node={HOST}")
    assert not [row for row in listed if row["Repository"].endswith(name)]
    state = fleet.state_dir / HOST
    # `fleet` has the certificates of the fleet's registries.
    assert [path.name for path in (state / "pulls").iterdir()] == ["fleet"]
    assert list((state / "writable").iterdir()) == []
    assert list((fleet.run_dir / HOST / "bundles").iterdir()) == []
    layers = [path for path in (state / "storage/overlay").iterdir() if (path / "diff").is_dir()]
    assert not any((path / "diff/ballast").exists() for path in layers)
