"""A host whose disk is full says so, others take its work, and with space it works again."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.e2e.acceptance.fleet import Fleet

HOST = "host3"
FAT = "fat:1"
FAT_BYTES = 8 * 2**20
SMALL = "6m"
LARGE = "64m"
QUICK = ("--restart-delay", "100ms")


@pytest.fixture(scope="module")
def fleet(own_fleet: Fleet) -> Fleet:
    """One of its hosts is switched off and on."""
    return own_fleet


@contextmanager
def small_disk(fleet: Fleet, folder: str) -> Iterator[Path]:
    """A small file system under a folder of the host's state, from one boot to the next."""
    path = fleet.state_dir / HOST / folder
    shut_down(fleet)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SMALL}", "small", path], check=True)
    boot(fleet)
    try:
        yield path
    finally:
        shut_down(fleet)
        subprocess.run(["umount", "--lazy", path], check=False, capture_output=True)
        boot(fleet)


def shut_down(fleet: Fleet) -> None:
    """Power off; the fleet has noticed."""
    fleet("playground", "kill", HOST)
    fleet.until(
        lambda: "Down" in {row["Status"] for row in fleet.rows("node", "ls")}, "its loss is seen"
    )


def boot(fleet: Fleet) -> None:
    """Power on; the node is ready."""
    fleet("playground", "heal", HOST)
    fleet.until(
        lambda: {row["Status"] for row in fleet.rows("node", "ls")} == {"Ready"}, "all are ready"
    )


def resize(path: Path, size: str) -> None:
    """Give the small disk another size."""
    subprocess.run(["mount", "-o", f"remount,size={size}", path], check=True)


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
    with small_disk(fleet, "storage") as disk:
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
        assert all(f" of 6.29MB free in {disk}" in error for error in whole)
        nothing_half_made(fleet, fat)
        resize(disk, LARGE)
        fleet("service", "create", "--name", f"{service}f", *on_host(), fat)
        assert [task["Node"] for task in fleet.running(f"{service}f")] == [HOST]
        fleet("service", "rm", f"{service}f")


def on_host() -> tuple[str, ...]:
    """Flags that leave no other choice."""
    return ("--constraint", f"node.hostname=={HOST}", *QUICK)


def nothing_half_made(fleet: Fleet, image: str) -> None:
    """On the full host are no image, no layer, no download and no container of it."""
    name = image.partition(":")[0]
    listed = [(row["Node"], row["Repository"]) for row in fleet.rows("image", "ls")]
    assert HOST not in {node for node, repository in listed if repository.endswith(name)}
    state = fleet.state_dir / HOST
    assert list((state / "pulls").iterdir()) == []
    assert list((state / "writable").iterdir()) == []
    assert list((fleet.run_dir / HOST / "bundles").iterdir()) == []
    layers = [path for path in (state / "storage/overlay").iterdir() if (path / "diff").is_dir()]
    assert not any((path / "diff/ballast").exists() for path in layers)
