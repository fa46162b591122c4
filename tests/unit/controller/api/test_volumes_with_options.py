"""Which volumes with options are moved and restored: those with a file system of their own."""

import re

import pytest
from msgspec.structs import replace

from controller.api.changes.moving.moves import begin_moves
from controller.api.changes.moving.restoring import begin_restore
from controller.brain.evacuation import group_of
from pyswarm_core.decision import Writes
from pyswarm_core.errors import Conflict
from pyswarm_core.objects import Node
from pyswarm_core.state import State
from pyswarm_core.volumes.limits import COPIES_PROTOCOL
from pyswarm_core.volumes.volume import Volume, VolumePlacement, VolumeSpec
from tests.fixtures import build
from tests.fixtures.build import NOW, Numbered

NFS = {"share": "nas:/media"}
FOREIGN = (
    ("nfs", NFS, r"its files are on a server \(nfs\), and every node reaches it"),
    ("cifs", {"share": "//nas/media"}, r"on a server \(cifs\), and every node reaches it"),
    ("local", {"type": "nfs", "device": ":/x"}, r"on a server \(nfs\), and every node reaches it"),
    (
        "local",
        {"type": "none", "o": "bind", "device": "/srv"},
        r"what a node mounts for its options \(device=/srv, o=bind, type=none\), and stay there",
    ),
    ("local", {"type": "tmpfs", "device": "tmpfs"}, r"device=tmpfs, type=tmpfs\), and stay there"),
)


def ready(node: Node) -> Node:
    return replace(node, description=replace(node.description, protocol=COPIES_PROTOCOL))


def world(driver: str, options: dict[str, str]) -> State:
    placement = VolumePlacement.ANY if options == NFS else VolumePlacement.PINNED
    spec = VolumeSpec(name="data", driver=driver, driver_opts=options, placement=placement)
    state = build.state(nodes=[ready(one) for one in build.nodes(2)])
    state.apply(Writes(objects=(replace(build.volume("data", "n1"), spec=spec),)))
    return state


def data(state: State) -> Volume:
    return next(iter(state.copies.of_node(build.nodes(1)[0].id).values()))


@pytest.mark.parametrize("options", [{}, {"size": "1g"}], ids=["directory", "size"])
def test_a_volume_with_a_file_system_of_its_own_is_moved_and_restored(
    options: dict[str, str],
) -> None:
    state = world("local", options)
    assert group_of(state, data(state)).blocked == ""
    begun = begin_moves(state, ["data"], "n2", NOW)[1][0]
    assert begun.work is not None
    assert begun.work.to == "n2"
    held = begin_restore("data", "", hold=True)(state, NOW, Numbered())[1]
    assert held.work is not None


@pytest.mark.parametrize(("driver", "options", "why"), FOREIGN)
def test_what_is_mounted_from_elsewhere_stays_there(
    driver: str, options: dict[str, str], why: str
) -> None:
    state = world(driver, options)
    told = f'volume "data" is neither moved nor replaced as a whole: .*{why}'
    with pytest.raises(Conflict, match=told):
        begin_moves(state, ["data"], "n2", NOW)
    with pytest.raises(Conflict, match=told):
        begin_restore("data", "", hold=False)(state, NOW, Numbered())
    if data(state).home:  # a drain looks at no others
        assert re.search(f"volume data is not moved: .*{why}", group_of(state, data(state)).blocked)


@pytest.mark.parametrize(
    ("driver", "options", "size"),
    [("local", {"size": "200m"}, 200 << 20), ("local", {}, 0), ("nfs", NFS, 0)],
)
def test_the_size_of_a_volume_is_that_of_its_own_file_system(
    driver: str, options: dict[str, str], size: int
) -> None:
    assert VolumeSpec(name="data", driver=driver, driver_opts=options).size == size
