"""Volumes on a real SMB server, in a machine whose kernel has CIFS. tests/vm/run."""

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.runtime.base import RuntimeFailed
from agent.runtime.isolation import idmaps
from agent.volumes.child import mounts_below
from agent.volumes.volumes import Volumes
from pyswarm_core.clock import SECOND
from tests.integration.runtime.test_volume_drivers import Host, names
from tests.vm.samba import PASSWORD, USER, Server, serving
from tests.vm.slow import ANSWERS

SHARE = "//127.0.0.1/share"
OWN = {"share": SHARE, "username": USER, "password": PASSWORD, "o": "vers=3.0"}
"""The options of the driver cifs."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("smb")) as found:
        yield found


@pytest.fixture(autouse=True)
def _empty(server: Server) -> None:
    for entry in server.exported.iterdir():
        entry.unlink()


async def test_owners_and_modes_are_those_of_the_options(server: Server, host: Host) -> None:
    modes = {"fileMode": "0640", "dirMode": "0750"}
    options = OWN | modes | {"o": "vers=3.0,uid=70,gid=71"}
    data = await host.ready(host.agent(ANSWERS), options, driver="cifs")
    os.chown(data / "of-image", 5, 5)
    for path, mode in ((data, 0o750), (data / "of-image", 0o640)):
        found = path.stat()
        assert (found.st_uid, found.st_gid, found.st_mode & 0o7777) == (70, 71, mode)
    assert (server.exported / "of-image").stat().st_uid == 0


async def test_a_guest_needs_a_name_too(server: Server, host: Host) -> None:
    (server.exported / "of-server").write_text("open to all")
    options = {"share": "//127.0.0.1/public", "username": "guest", "password": ""}
    data = await host.ready(host.agent(ANSWERS), options, nocopy=True, driver="cifs")
    assert (data / "of-server").read_text() == "open to all"


async def test_the_kernel_maps_no_owners(server: Server, host: Host) -> None:
    """Else `Backing.maps_ids` could say so."""
    data = await host.ready(host.agent(ANSWERS), OWN, driver="cifs")
    assert "Invalid argument" in idmaps.problem(data)


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"password": "wrong"}, "Permission denied: the server refuses the user or the password"),
        ({"username": "none"}, "Permission denied: the server refuses the user or the password"),
        ({"share": "//127.0.0.1/closed"}, "Permission denied: the server refuses the user or"),
        ({"o": "vers=7"}, "Invalid argument: the file system cifs does not take these options"),
        ({"security": "krb5"}, "No such file or directory: sec=krb5 needs cifs.upcall"),
        ({"o": "port=446"}, "Connection refused: no server listens there"),
    ],
)
async def test_an_error_says_what_the_server_refuses(
    server: Server, host: Host, changed: dict[str, str], told: str
) -> None:
    options = OWN | changed
    with pytest.raises(RuntimeFailed) as failed:
        await host.ready(host.agent(ANSWERS), options, driver="cifs")
    assert str(failed.value).startswith(f"volume data: cannot mount {options['share']}: {told}")
    assert options["password"] not in str(failed.value)
    assert mounts_below(str(host.state)) == []


async def back(agent: Volumes, host: Host) -> Path:
    """The volume of a server that is back: a few mounts fail while the kernel reconnects."""
    async with asyncio.timeout(ANSWERS / SECOND):
        while True:
            try:
                return await host.ready(agent, OWN, driver="cifs")
            except RuntimeFailed as error:
                if "Host is down: this host does not reach the server" not in str(error):
                    raise


async def test_a_server_that_is_down_fails_the_task_until_it_is_back(
    server: Server, host: Host
) -> None:
    agent = host.agent(ANSWERS)
    server.stop()
    try:
        with pytest.raises(RuntimeFailed, match="no server listens there"):
            await host.ready(agent, OWN, driver="cifs")
    finally:
        server.start()
    assert names(await back(agent, host)) == ["of-image"]
