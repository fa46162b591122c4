"""`pyswarm user` against a controller: from the command to a call with the token."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import grpc
import pytest

from cli.main import run
from pyswarm_core.api.v1 import control_pb2 as pb
from pyswarm_core.api.v1 import control_pb2_grpc
from tests.integration.controller.fleet import WAIT_S
from tests.integration.controller.identified import Identified, identified

Pyswarm = Callable[[str], Awaitable[tuple[int, str, str]]]


@pytest.fixture
async def fleet(tmp_path: Path) -> AsyncIterator[Identified]:
    async with identified(tmp_path) as found:
        yield found


@pytest.fixture
def pyswarm(
    fleet: Identified,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Pyswarm:
    """As root on the controller's host."""
    monkeypatch.setenv("PYSWARM_HOST", f"unix://{tmp_path}/api.sock")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))

    async def ran(line: str) -> tuple[int, str, str]:
        code = await asyncio.to_thread(run, line.split())
        shown = capsys.readouterr()
        return code, shown.out, shown.err

    return ran


async def _lists(fleet: Identified, token: str) -> grpc.StatusCode:
    async with fleet.dial(fleet.guest) as channel:
        stub = control_pb2_grpc.ControlStub(channel)
        metadata = (("authorization", f"Bearer {token}"),)
        call = stub.GetInfo(pb.GetInfoRequest(), metadata=metadata, timeout=WAIT_S)
        code: grpc.StatusCode = await call.code()
        return code


async def test_a_user_from_its_creation_to_its_removal(fleet: Identified, pyswarm: Pyswarm) -> None:
    code, user_id, _ = await pyswarm("user create ci --role operator --stack web")
    assert code == 0
    _, listed, _ = await pyswarm("user ls --no-trunc")
    assert listed.splitlines()[1].split() == [user_id.strip(), "ci", "operator", "web"]
    _, token, _ = await pyswarm("user token ci --expires 90d -q")
    assert await _lists(fleet, token.strip()) is grpc.StatusCode.OK
    _, tokens, _ = await pyswarm("user token ls -q ci")
    assert tokens.strip() == token.split("-")[3][:12]
    assert (await pyswarm("user update ci --role viewer --stack-add db"))[0] == 0
    (shown,) = json.loads((await pyswarm("user inspect ci"))[1])
    assert (shown["Spec"]["Role"], shown["Spec"]["Stacks"]) == ("viewer", ["web", "db"])
    assert "Tokens" not in shown
    assert (await pyswarm(f"user token rm ci {tokens.strip()}"))[0] == 0
    assert await _lists(fleet, token.strip()) is grpc.StatusCode.PERMISSION_DENIED
    assert (await pyswarm("user rm ci"))[1] == "ci\n"
    assert (await pyswarm("user token ci"))[::2] == (1, 'Error: no such user: "ci"\n')


async def test_errors_of_the_controller_are_one_line(fleet: Identified, pyswarm: Pyswarm) -> None:
    assert (await pyswarm("user create ci --role viewer"))[0] == 0
    code, _, told = await pyswarm("user create ci --role viewer")
    assert code == 1
    assert told.startswith('Error: user "ci" exists already, with the id ')
    assert (await pyswarm("user token rm ci 0123"))[2].startswith('Error: no such token "0123"')


async def test_the_command_line_with_a_user_s_token_and_certificate(
    fleet: Identified, pyswarm: Pyswarm
) -> None:
    await pyswarm("user create ci --role operator --stack web")
    await pyswarm("user create ann --role viewer")
    _, token, _ = await pyswarm("user token ci --expires 1h -q")
    host = f"host=127.0.0.1:{fleet.port}"
    assert (await pyswarm(f"context create by-token --pyswarm {host},token={token}"))[0] == 0
    code, _, told = await pyswarm(f"context create by-certificate --pyswarm {host} --user ann")
    assert code == 0, told
    create = "service create -d --no-resolve-image --name {} {} busybox"
    label = "--label com.docker.stack.namespace=web"
    line = "--context by-token " + create.format("web_front", label)
    assert (await pyswarm(line))[0] == 0
    assert (await pyswarm(create.format("plain", "")))[0] == 0  # as root
    code, names, _ = await pyswarm("--context by-token service ls --format {{.Name}}")
    assert (code, names) == (0, "web_front\n")
    code, names, _ = await pyswarm("--context by-certificate service ls --format {{.Name}}")
    assert (code, names) == (0, "plain\nweb_front\n")
    for context, line, told in (
        (
            "by-certificate",
            "service rm -d plain",
            'user "ann" (viewer) may not remove services: that needs the role operator',
        ),
        (
            "by-token",
            "service rm -d plain",
            'user "ci" (operator, limited to stack web) may not remove services outside stack web:'
            ' service "plain" does not belong to it',
        ),
        (
            "by-token",
            create.format("web_power", f"{label} --network host"),
            'user "ci" (operator, limited to stack web) may not create services with --network'
            " host: that gives a container power over its host and needs the role admin",
        ),
    ):
        code, _, shown = await pyswarm(f"--context {context} {line}")
        assert (code, shown.strip()) == (1, f"Error: {told}")
    await pyswarm("user rm ann ci")
    for context in ("by-token", "by-certificate"):
        code, _, shown = await pyswarm(f"--context {context} service ls")
        assert (code, "was removed" in shown) == (1, True)
