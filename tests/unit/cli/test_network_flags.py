"""Every flag that Docker's commands about networks have: honoured, or refused by name."""

import json

import pytest

from cli.lazy import REFUSED, UNSUPPORTED
from tests.fixtures.source import ROOT
from tests.unit.cli.conftest import Pyswarm
from tests.unit.cli.scripted import Script
from tests.unit.cli.test_container_flags import ONE_BY_ONE, options_of

DOCKER = json.loads((ROOT / "tests/fixtures/docker_network_flags.json").read_text())["commands"]
ROWS = [(command, row) for command in DOCKER for row in DOCKER[command]]
LISTS = ("list", "map", "strings", "filter")
DEFAULTS = {"--driver": "overlay", "--ipam-driver": "default", "--scope": "swarm"}
"""Docker's driver is bridge, which means overlay here; its scope is that of the driver."""


@pytest.mark.parametrize(
    ("command", "row"), ROWS, ids=[f"{command} {row['flag']}" for command, row in ROWS]
)
def test_a_flag_of_docker_has_its_form_or_is_refused_with_the_alternative(
    command: str, row: dict[str, str]
) -> None:
    flag = row["flag"]
    option = options_of(command).get(flag)
    if option is None:
        assert REFUSED[flag], "say what to use instead"
        return
    assert flag not in {**REFUSED, **UNSUPPORTED}
    assert (row.get("short") or "") in ("", *option.opts)
    assert option.is_flag == ("type" not in row)
    assert option.multiple == (row.get("type") in LISTS or flag in ONE_BY_ONE)
    if not (option.is_flag or option.multiple):
        assert option.default == DEFAULTS.get(flag, "")


CREATED_WITH = {
    "--aux-address a=10.1.0.9": "--aux-address is not supported: addresses of --subnet outside",
    "--ipam-opt a=b": "--ipam-opt is not supported: agents assign the addresses",
    "--config-only": "--config-only is not supported: a network has one configuration",
    "--config-from a": "--config-from is not supported: a network has one configuration",
    "--ipam-driver dhcp": '--ipam-driver: value "dhcp" is not valid: expected default',
    "--ipv4=false": '--ipv4: value "false" is not valid: expected true: IPv6 addresses follow',
    "--scope local": '--scope: value "local" is not valid: expected swarm',
    "-d macvlan": '--driver: value "macvlan" is not valid: tasks have no addresses of the hosts\'',
    "-d ipvlan": '--driver: value "ipvlan" is not valid: tasks have no addresses of the hosts\'',
    "-d host": 'is not valid: only one instance of "host" network is allowed',
    "-d null": 'is not valid: only one instance of "null" network is allowed',
    "-d none": "services and containers join --network none",
    "-d weave": '--driver: value "weave" is not valid: expected overlay, or bridge, which means',
    "-d ''": "--driver: value \"''\" is not valid: expected overlay, or bridge",
    "-o com.docker.network.bridge.name=br0": "each agent names its devices",
    "-o com.docker.network.bridge.enable_icc=false": "expected true; tasks of one network reach",
    "-o com.docker.network.bridge.enable_ip_masquerade=false": "expected true; tasks reach the",
    "-o com.docker.network.bridge.host_binding_ipv4=10.0.0.1": "expected 0.0.0.0; use `--publish",
    "-o com.docker.network.driver.overlay.vxlanid_list=9": "the controller assigns each network",
    "-o parent=eth0": "expected encrypted, mtu=BYTES or com.pyswarm.block-metadata=true",
    "--subnet 10.1.0.0": '--subnet: value "10.1.0.0" is not valid: expected a prefix length',
    "--subnet 10.1.0.1/16": '--subnet: value "10.1.0.1/16" is not valid: expected an IPv4 subnet',
    "--subnet 127.0.0.0/8": '--subnet: value "127.0.0.0/8" is not valid: expected unicast',
    "--subnet x": '--subnet: value "x" is not valid: expected an IPv4 subnet such as',
    "--subnet 10.1.0.0/16 --subnet 10.2.0.0/16": "expected at most one of each",
    "--subnet 10.1.0.0/16 --gateway 10.2.0.1": '--gateway: value "10.2.0.1" is not valid',
    "--subnet 10.1.0.0/16 --gateway 10.1.0.1 --gateway 10.1.0.2": "has a gateway already",
    "--subnet 10.1.0.0/16 --ip-range 10.2.0.0/24": "expected a part of 10.1.0.0/16",
}


@pytest.mark.parametrize("flags", CREATED_WITH)
def test_what_networks_do_not_have_is_refused_before_anything_is_created(
    flags: str, script: Script, pyswarm: Pyswarm
) -> None:
    ran = pyswarm("network", "create", *flags.split(), "app")
    assert (ran.code, ran.out) == (2, "")
    assert CREATED_WITH[flags] in ran.err
    assert script.asked == []


@pytest.mark.parametrize("name", ["bridge", "host", "none", "default"])
def test_a_predefined_name_is_refused_in_dockers_words(
    name: str, script: Script, pyswarm: Pyswarm
) -> None:
    ran = pyswarm("network", "create", name)
    assert ran.code == 2
    assert f"operation is not permitted on predefined {name} network" in ran.err
    assert script.asked == []
