"""`swarm update`, `unlock-key`, `unlock`, `scrape-token` and `ca`: requests and Docker's texts."""

import io
from pathlib import Path

import pytest
from msgspec.structs import replace

from cli.render import terminal
from cli.swarm import unlock
from cli.swarm.host import Host
from cli.swarm.init import settled
from cli.swarm.update import unlocking
from pyswarm_core.api.v1 import control_pb2 as pb
from pyswarm_core.clock import HOUR, SECOND
from pyswarm_core.codec import from_proto, to_proto
from pyswarm_core.errors import Conflict, InvalidArgument, PermissionDenied, Unavailable
from pyswarm_core.objects import Cluster, Version
from pyswarm_core.specs import ClusterSpec
from tests.unit.cli.conftest import Pyswarm
from tests.unit.cli.scripted import Script, serve

KEY = "SWMKEY-1-" + "A" * 43
TEXT = f"""\
To unlock a swarm manager after it restarts, run the `pyswarm swarm unlock`
command and provide the following key:

    {KEY}

Please remember to store this key in a password manager, since without it you
will not be able to restart the manager.
"""
SPEC = ClusterSpec(name="prod", task_history_limit=3)


@pytest.fixture
def fleet(script: Script) -> Script:
    info = pb.GetInfoReply()
    to_proto(Cluster(id="c", spec=SPEC, version=Version(index=4)), info.cluster)
    return script.on("GetInfo", info).on("UpdateCluster", pb.UpdateClusterReply())


def sent(script: Script) -> tuple[int, ClusterSpec]:
    request = script.requests("UpdateCluster")[-1]
    return request.version.index, from_proto(ClusterSpec, request.spec)


def test_flags_change_the_settings_and_no_others(fleet: Script, pyswarm: Pyswarm) -> None:
    ran = pyswarm(
        *("swarm", "update", "--cert-expiry", "48h", "--dispatcher-heartbeat", "2s"),
        *("--agent-grace", "1m", "--task-history-limit", "0"),
    )
    assert (ran.code, ran.out, ran.err) == (0, "Swarm updated.\n", "")
    changed = ClusterSpec(
        name="prod",
        cert_expiry=48 * HOUR,
        heartbeat_period=2 * SECOND,
        agent_grace=60 * SECOND,
        task_history_limit=0,
    )
    assert sent(fleet) == (4, changed)


def test_certificates_may_be_valid_for_days(fleet: Script, pyswarm: Pyswarm) -> None:
    assert pyswarm("swarm", "update", "--cert-expiry", "30d").code == 0
    assert sent(fleet)[1].cert_expiry == 720 * HOUR


@pytest.mark.parametrize(
    ("text", "paths"),
    [("/srv", ("/srv",)), ("/srv/,/data/a", ("/srv", "/data/a")), ("", ())],
)
def test_paths_that_operators_may_bind(
    fleet: Script, pyswarm: Pyswarm, text: str, paths: tuple[str, ...]
) -> None:
    assert pyswarm("swarm", "update", "--allowed-bind-paths", text).code == 0
    assert sent(fleet) == (4, replace(SPEC, allowed_bind_paths=paths))


@pytest.mark.parametrize("text", ["/", "srv", "/srv,", "/srv/../etc", "/srv,/srv"])
def test_a_path_that_cannot_be_allowed_is_refused_at_once(
    fleet: Script, pyswarm: Pyswarm, text: str
) -> None:
    ran = pyswarm("swarm", "update", "--allowed-bind-paths", text)
    assert ran.code == 2
    assert "--allowed-bind-paths: value" in ran.err
    assert fleet.requests("UpdateCluster") == []


@pytest.mark.parametrize("flag", ["--autolock", "--autolock=true"])
def test_autolock_prints_the_key_once(fleet: Script, pyswarm: Pyswarm, flag: str) -> None:
    fleet.on("UpdateCluster", pb.UpdateClusterReply(unlock_key=KEY))
    ran = pyswarm("swarm", "update", flag)
    assert (ran.code, ran.out) == (0, f"Swarm updated.\n{TEXT}")
    assert sent(fleet)[1].autolock
    assert unlocking(KEY) + "\n" == TEXT


def test_autolock_ends(fleet: Script, pyswarm: Pyswarm) -> None:
    ran = pyswarm("swarm", "update", "--autolock=false")
    assert (ran.code, ran.out) == (0, "Swarm updated.\n")
    assert not sent(fleet)[1].autolock


def test_an_update_that_came_second_is_made_again(fleet: Script, pyswarm: Pyswarm) -> None:
    fleet.on("UpdateCluster", Conflict("update out of sequence"), pb.UpdateClusterReply())
    assert pyswarm("swarm", "update", "--task-history-limit", "2").code == 0
    assert len(fleet.requests("GetInfo")) == 2


def test_a_warning_goes_to_standard_error(fleet: Script, pyswarm: Pyswarm) -> None:
    fleet.on("UpdateCluster", pb.UpdateClusterReply(warnings=["short"]))
    ran = pyswarm("swarm", "update", "--cert-expiry", "30s")
    assert (ran.code, ran.out, ran.err) == (0, "Swarm updated.\n", "warning: short\n")


@pytest.mark.parametrize(
    ("line", "asks", "shown"),
    [
        ("swarm unlock-key", False, TEXT),
        ("swarm unlock-key -q", False, f"{KEY}\n"),
        ("swarm unlock-key --rotate", True, f"Successfully rotated manager unlock key.\n\n{TEXT}"),
        ("swarm unlock-key --rotate -q", True, f"{KEY}\n"),
    ],
)
def test_the_unlock_key_is_shown(
    script: Script, pyswarm: Pyswarm, line: str, asks: bool, shown: str
) -> None:
    script.on("GetUnlockKey", pb.UnlockKeyReply(unlock_key=KEY))
    ran = pyswarm(*line.split())
    assert (ran.code, ran.out, ran.err) == (0, shown, "")
    assert [request.rotate for request in script.requests("GetUnlockKey")] == [asks]


def test_init_makes_the_settings_that_are_no_flags_of_the_controller(tmp_path: Path) -> None:
    host = Host(tmp_path / "state", run_dir=tmp_path)
    info = pb.GetInfoReply()
    to_proto(Cluster(id="c", spec=SPEC, version=Version(index=4)), info.cluster)
    reply = pb.UpdateClusterReply(unlock_key=KEY)
    with serve(Script(), f"unix://{host.socket}") as fleet:
        assert settled(host, {"autolock": None, "cert_expiry": None}) == ""
        fleet.on("GetInfo", info).on("UpdateCluster", reply)
        assert settled(host, {"autolock": True, "cert_expiry": "1h"}) == KEY
    assert sent(fleet) == (4, replace(SPEC, autolock=True, cert_expiry=HOUR))


def test_the_key_is_read_from_standard_input(
    script: Script, pyswarm: Pyswarm, monkeypatch: pytest.MonkeyPatch
) -> None:
    script.on("Unlock", pb.UnlockReply(), InvalidArgument("invalid key: it does not unlock"))
    script.on("GetInfo", pb.GetInfoReply())
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{KEY}\nmore"))
    assert pyswarm("swarm", "unlock").code == 0
    assert script.requests("Unlock")[0].unlock_key == KEY
    monkeypatch.setattr("sys.stdin", io.StringIO("wrong\n"))
    ran = pyswarm("swarm", "unlock")
    assert (ran.code, ran.err) == (2, "Error: invalid key: it does not unlock\n")


@pytest.mark.parametrize("last", [pb.GetInfoReply(), PermissionDenied("no")])
def test_unlock_ends_when_the_controller_serves(
    script: Script, pyswarm: Pyswarm, monkeypatch: pytest.MonkeyPatch, last: object
) -> None:
    script.on("Unlock", pb.UnlockReply())
    script.on("GetInfo", Unavailable("it is locked"), Unavailable("it starts"), last)
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{KEY}\n"))
    monkeypatch.setattr(terminal, "ANNOUNCE_AFTER_S", 60.0)
    ran = pyswarm("swarm", "unlock")
    assert (ran.code, ran.out, ran.err) == (0, "", "")
    assert len(script.requests("GetInfo")) == 3


def test_a_controller_that_never_serves_ends_unlock_with_the_reason(
    script: Script, pyswarm: Pyswarm, monkeypatch: pytest.MonkeyPatch
) -> None:
    script.on("Unlock", pb.UnlockReply()).on("GetInfo", Unavailable("its etcd is away"))
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{KEY}\n"))
    monkeypatch.setattr(unlock, "SERVING_TIMEOUT_S", -1.0)
    monkeypatch.setattr(terminal, "ANNOUNCE_AFTER_S", 60.0)
    ran = pyswarm("swarm", "unlock")
    assert ran.code == 3
    assert "the controller is unlocked but does not serve yet: its etcd is away" in ran.err


@pytest.mark.parametrize(("flags", "asks"), [((), False), (("--rotate",), True), (("-q",), False)])
def test_the_scrape_token_is_shown(
    script: Script, pyswarm: Pyswarm, flags: tuple[str, ...], asks: bool
) -> None:
    script.on("GetScrapeToken", pb.ScrapeTokenReply(token="PYSWS-1-secret"))
    ran = pyswarm("swarm", "scrape-token", *flags)
    assert (ran.code, ran.out, ran.err) == (0, "PYSWS-1-secret\n", "")
    assert [request.rotate for request in script.requests("GetScrapeToken")] == [asks]


def test_a_fleet_without_a_scrape_token_is_told_how_to_make_one(
    script: Script, pyswarm: Pyswarm
) -> None:
    script.on("GetScrapeToken", pb.ScrapeTokenReply())
    ran = pyswarm("swarm", "scrape-token")
    assert (ran.code, ran.out) == (1, "")
    assert "add --rotate to make one" in ran.err


@pytest.mark.parametrize(
    ("is_finished", "was_rotated", "state"),
    [(True, False, "none"), (True, True, "complete"), (False, True, "in progress")],
)
def test_the_state_of_a_rotation(
    script: Script, pyswarm: Pyswarm, is_finished: bool, was_rotated: bool, state: str
) -> None:
    reply = pb.CaReply(digest="d", is_finished=is_finished, was_rotated=was_rotated, nodes=2)
    script.on("GetCa", reply)
    ran = pyswarm("swarm", "ca", "--status")
    assert ran.code == 0
    assert ran.out == f"Root: d\nRotation: {state}\nRenewed: 2 of 2 nodes\n"
    assert not script.requests("RotateCa")


def test_the_help_of_ca_speaks_of_rotations(pyswarm: Pyswarm) -> None:
    told = pyswarm("swarm", "ca", "--help").out
    assert "for the rotation to complete" in " ".join(told.split())
    assert "service" not in told


def test_the_role_that_join_token_offers_is_worker(pyswarm: Pyswarm) -> None:
    ran = pyswarm("swarm", "join-token")
    assert ran.code == 2
    assert "worker" in ran.err
    assert "manager" not in ran.err + pyswarm("swarm", "join-token", "--help").out
