"""Docker's flag syntax as a CLI, a Compose loader or an API needs it: texts in, values out."""

from collections.abc import Callable

import pytest

from pyswarm_core.docker import entries, networking, units
from pyswarm_core.docker.networking import Options
from pyswarm_core.errors import InvalidArgument, NotFound
from pyswarm_core.objects import Network
from pyswarm_core.specs import IpamConfig
from tests.fixtures.build import network


def find(ref: str) -> Network:
    if ref != "app":
        raise NotFound(f"no such network: {ref!r}")
    return network("id-of-app")


def test_a_network_is_named_by_its_id_unless_every_host_has_it() -> None:
    assert networking.target("app", find) == "id-of-app"
    assert [networking.target(ref, find) for ref in ("host", "none", "bridge")] == [
        *("host", "none", "bridge")
    ]
    with pytest.raises(NotFound):
        networking.target("gone", find)


@pytest.mark.parametrize(
    ("texts", "found"),
    [
        ((), Options()),
        (("encrypted",), Options(encrypted=True)),
        (("encrypted=true", "encrypted=false"), Options()),
        (("mtu=1400", "encrypted"), Options(1400, encrypted=True)),
        (("com.docker.network.driver.mtu=9000",), Options(9000)),
        (("com.pyswarm.block-metadata=true",), Options(block_metadata=True)),
        (("com.pyswarm.block-metadata",), Options(block_metadata=True)),
        (("com.pyswarm.block-metadata", "com.pyswarm.block-metadata=false"), Options()),
    ],
)
def test_driver_options(texts: tuple[str, ...], found: Options) -> None:
    assert networking.options(texts) == found


def test_a_gateway_and_a_range_go_to_the_pool_of_their_ip_version() -> None:
    subnets = ("10.1.0.0/16", "fd00::/64")
    assert networking.pools(subnets, ["10.1.0.1"], ["fd00::/80"]) == (
        IpamConfig(subnet="10.1.0.0/16", gateway="10.1.0.1"),
        IpamConfig(subnet="fd00::/64", ip_range="fd00::/80"),
    )
    assert networking.pools((), (), ["10.1.4.0/24"]) == (IpamConfig(ip_range="10.1.4.0/24"),)


def test_a_command_is_split_as_a_shell_would_and_swap_may_be_unlimited() -> None:
    assert entries.command("sh -c 'echo a  b'") == ("sh", "-c", "echo a  b")
    assert (units.parse_swap("-1"), units.parse_swap("1g")) == (-1, 1 << 30)


REFUSED: list[Callable[[], object]] = [
    lambda: networking.options(["mtu=big"]),
    lambda: networking.options(["mtu=1234567890"]),
    lambda: networking.options(["encrypted=maybe"]),
    lambda: networking.options(["color=red"]),
    lambda: networking.pools(["10.1.0.0/16"], ["10.1.0.1", "10.1.0.2"], ()),
    lambda: entries.command("'open"),
    lambda: units.parse_swap("-2"),
]


@pytest.mark.parametrize("attempt", REFUSED)
def test_what_is_not_valid_is_refused(attempt: Callable[[], object]) -> None:
    with pytest.raises(InvalidArgument):
        attempt()
