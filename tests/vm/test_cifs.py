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
from pyswarm_core.docker.units import format_duration
from tests.integration.runtime.test_volume_drivers import Host, names
from tests.vm.samba import PASSWORD, USER, Server, serving
from tests.vm.slow import ANSWERS, HANGS

SHARE = "//127.0.0.1/share"
OWN = {"share": SHARE, "username": USER, "password": PASSWORD, "o": "vers=3.0"}
"""The options of the driver cifs."""
WORDS = f"username={USER},password={PASSWORD.replace(',', ',,')},vers=3.0"
LOCAL = {"type": "cifs", "device": SHARE, "o": WORDS}
"""Those of the local driver, as for Docker."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("smb")) as found:
        yield found


@pytest.fixture(autouse=True)
def _empty(server: Server) -> None:
    for entry in server.exported.iterdir():
        entry.unlink()


async def test_both_drivers_show_the_files_and_a_removal_deletes_none(
    server: Server, host: Host
) -> None:
    agent = host.agent(ANSWERS)
    data = await host.ready(agent, OWN, driver="cifs")
    assert names(data) == names(server.exported) == ["of-image"]
    local = await host.ready(agent, LOCAL, "local")
    (local / "written").write_text("over there")
    assert (data / "written").read_text() == "over there"
    mounts = Path("/proc/self/mountinfo").read_text() + Path("/proc/mounts").read_text()
    assert "cret-of-games" not in mounts
    await agent.release("iddata", lambda: ())
    assert mounts_below(str(host.path())) == []
    for name in ("idlocal", "iddata"):
        await agent.remove(name)
    assert mounts_below(str(host.state)) == []
    assert names(server.exported) == ["of-image", "written"]


async def test_owners_and_modes_are_those_of_the_options(server: Server, host: Host) -> None:
    modes = {"fileMode": "0640", "dirMode": "0750"}
    options = OWN | modes | {"o": "vers=3.0,uid=70,gid=71"}
    data = await host.ready(host.agent(ANSWERS), options, driver="cifs")
    os.chown(data / "of-image", 5, 5)
    for path, mode in ((data, 0o750), (data / "of-image", 0o640)):
        found = path.stat()
        assert (found.st_uid, found.st_gid, found.st_mode & 0o7777) == (70, 71, mode)
    assert (server.exported / "of-image").stat().st_uid == 0


async def test_an_image_s_link_needs_an_option(server: Server, host: Host) -> None:
    (host.image / "data" / "link").symlink_to("of-image")
    told = r"cannot be filled from the image: .* symbolic link .* not supported: .* mfsymlinks"
    with pytest.raises(RuntimeFailed, match=told):
        await host.ready(host.agent(ANSWERS), OWN, driver="cifs")
    for entry in server.exported.iterdir():  # a volume that has files is not filled
        entry.unlink()
    linked = OWN | {"cifsopts": "mfsymlinks"}
    data = await host.ready(host.agent(ANSWERS), linked, "linked", driver="cifs")
    assert (data / "link").readlink() == Path("of-image")


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
        ({"username": "", "o": "guest"}, "Permission denied: the server refuses the user or the"),
        ({"share": "//127.0.0.1/closed"}, "Permission denied: the server refuses the user or"),
        ({"share": "//127.0.0.1/none"}, "No such file or directory: the server has no such share"),
        ({"share": f"{SHARE}/none"}, "No such file or directory: the server has no such share"),
        ({"o": "vers=1.0"}, "Operation not supported: the server does not speak this version of"),
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


async def test_a_server_that_hangs_fails_its_task_and_no_other(server: Server, host: Host) -> None:
    agent, late = host.agent(ANSWERS), host.agent(HANGS)
    await host.ready(agent, OWN, driver="cifs")
    with server.hanging():
        told = f"has not answered for {format_duration(HANGS)}"
        mounted = asyncio.ensure_future(host.ready(late, OWN, driver="cifs"))
        fresh = asyncio.ensure_future(host.ready(late, OWN, "fresh", driver="cifs"))
        try:
            plain = await host.ready(agent, {"type": "tmpfs", "device": "x"}, "plain")
            assert names(plain) == ["of-image"]
        finally:
            failed = await asyncio.gather(mounted, fresh, return_exceptions=True)
        assert [told in str(error) for error in failed] == [True, True], failed
        for volume_id in ("iddata", "idfresh", "idplain"):
            await late.release(volume_id, lambda: ())
        assert mounts_below(str(host.state)) == []
    assert names(await back(host.agent(ANSWERS), host)) == ["of-image"]
