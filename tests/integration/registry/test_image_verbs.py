"""The verbs that copy images, as a user types them, with the fleet's registry and another one."""

import asyncio
import io
import json
import os
import tarfile
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import NamedTuple

import pytest

from cli.main import run
from pyswarm_core.clock import HOUR
from pyswarm_core.identity.users import Role
from tests.integration.images.registry import Registry, running_registry
from tests.integration.registry.conftest import Rig


class Ran(NamedTuple):
    """A command that has ended."""

    code: int
    out: str
    err: str


class User:
    """Types commands."""

    async def __call__(self, *words: str) -> Ran:
        out, err = io.TextIOWrapper(io.BytesIO()), io.TextIOWrapper(io.BytesIO())
        with redirect_stdout(out), redirect_stderr(err):
            code = await asyncio.to_thread(run, words)
            out.flush()
            err.flush()
        return Ran(code, *(one.buffer.getvalue().decode() for one in (out, err)))

    async def tags(self) -> set[str]:
        """Names of the registry's images, as `images` shows them."""
        ran = await self("images", "--format", "{{.Repository}}:{{.Tag}} {{.Nodes}}")
        assert (ran.code, ran.err) == (0, "")
        assert all(line.endswith(" registry") for line in ran.out.splitlines())
        return {line.split()[0] for line in ran.out.splitlines()}


@pytest.fixture
async def user(rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> User:
    """An operator, whose context is the current one."""
    for name in ("HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, str(tmp_path / "user" / name))
    for name in ("REGISTRY_AUTH_FILE", "XDG_RUNTIME_DIR", "DOCKER_CONFIG", "PYSWARM_HOST"):
        monkeypatch.delenv(name, raising=False)
    material = (await rig.client("ops", Role.OPERATOR)).context.material
    files = {"ca": material.ca, "cert": material.cert, "key": material.key}
    for name, text in files.items():
        (tmp_path / f"{name}.pem").write_text(text)
    given = ",".join(f"{name}={tmp_path / name}.pem" for name in files)
    found = User()
    where = f"host=127.0.0.1:{rig.fleet.port},{given}"
    assert (await found("context", "create", "--docker", where, "rig")).code == 0
    assert (await found("context", "use", "rig")).code == 0
    return found


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Registry]:
    """A registry that requires a login."""
    with running_registry(tmp_path / "other") as found:
        found.stop()
        found.start(login=True)
        yield found


def file_system(path: Path) -> Path:
    with tarfile.open(path, "w") as archive:
        entry = tarfile.TarInfo("web")
        entry.size = 3
        archive.addfile(entry, io.BytesIO(b"web"))
    return path


async def test_an_image_is_imported_tagged_saved_removed_and_loaded(
    user: User, tmp_path: Path
) -> None:
    ran = await user("import", "-c", 'CMD ["/web"]', str(file_system(tmp_path / "fs")), "web:1")
    assert (ran.code, ran.err) == (0, "")
    there = "127.0.0.1:5999/team/web"
    for name in ("web:latest", f"{there}:1", f"{there}:2"):
        assert await user("tag", "web:1", name) == (0, "", "")
    every = {"web:1", "web:latest", f"{there}:1", f"{there}:2"}
    assert await user.tags() == every
    assert (await user("images", "-q")).out.strip() == ran.out[7:19]

    archive = tmp_path / "saved.tar"
    assert await user("save", "-o", str(archive), "web:1", f"{there}:1") == (0, "", "")
    for name in sorted(every):
        gone = await user("rmi", name)
        assert gone == (0, f"registry: Untagged: {name}\n", "")
    assert await user.tags() == set()
    missing = await user("tag", "web:1", "web:2")
    assert missing.err == "Error: An image does not exist in the fleet with the tag: web:1\n"
    loaded = await user("load", "-q", "-i", str(archive))
    assert (loaded.code, loaded.err) == (0, "")
    assert sorted(loaded.out.splitlines()) == sorted(
        ("Loaded image: web:1", f"Loaded image: {there}:1")
    )
    assert await user.tags() == {"web:1", f"{there}:1"}
    found = await user("search", "--format", "{{.Name}}", "web")
    assert sorted(found.out.split()) == sorted(("web", there))
    assert (await user("search", "--filter", "stars=1", "--format", "json", "web")).out == ""


async def test_the_registrys_images_are_filtered_by_time_and_id(user: User, tmp_path: Path) -> None:
    ids = []
    for name in ("one:1", "two:1", "three:1"):
        archive = file_system(tmp_path / name)
        ids.append((await user("import", "-m", name, str(archive), name)).out.strip())

    async def found(*filters: str) -> set[str]:
        words = [word for text in filters for word in ("-f", text)]
        ran = await user("images", "--format", "{{.Repository}}", *words)
        assert (ran.code, ran.err) == (0, "")
        return set(ran.out.split())

    assert await found("since=one:1") == {"two", "three"}
    assert await found("before=two:1") == {"one"}
    assert await found(f"since={ids[0]}", "before=three:1", "reference=t*") == {"two"}
    assert await found(f"id={ids[1][7:20]}") == {"two"}
    assert await found("dangling=false", "until=0s") == {"one", "two", "three"}
    assert (
        await found("until=1h") == await found("label=a") == await found("dangling=true") == set()
    )
    missing = await user("images", "-f", "since=four:1")
    assert (missing.code, "four:1" in missing.err) == (1, True)


async def test_an_image_that_only_the_registry_has_is_inspected(user: User, tmp_path: Path) -> None:
    ran = await user(
        "import", "-m", "made", "-c", "USER web", str(file_system(tmp_path / "fs")), "web:1"
    )
    form = "{{.Id}} {{.RepoTags}} {{.Nodes}} {{.Config.User}}"
    for verb in (("inspect",), ("image", "inspect")):
        found = await user(*verb, "-f", form, "web:1")
        assert found == (0, f"{ran.out.strip()} [web:1] [registry] web\n", "")
    found = await user("history", "--no-trunc", "--format", "{{.ID}} {{.Comment}}", "web:1")
    assert found == (0, f"{ran.out.strip()} made\n", "")
    missing = await user("history", "web:2")
    assert missing == (1, "", 'Error: No such image: "web:2"\n')
    missing = await user("image", "inspect", "web:2")
    assert (missing.code, "No such image: web:2" in missing.err) == (1, True)


async def test_an_image_is_meant_by_its_id(user: User, tmp_path: Path) -> None:
    ran = await user("import", str(file_system(tmp_path / "fs")), "web:1")
    digits = ran.out.strip().removeprefix("sha256:")
    archive = tmp_path / "saved.tar"
    for number, ref in enumerate((digits[:12], digits, f"sha256:{digits}", f"sha256:{digits[:8]}")):
        assert await user("tag", ref, f"web:tagged{number}") == (0, "", "")
        found = await user("image", "inspect", "-f", "{{.Id}}", ref)
        assert found == (0, f"sha256:{digits}\n", "")
        assert (await user("history", "-q", ref)).out == f"{digits[:12]}\n"
        assert await user("save", "-o", str(archive), ref) == (0, "", "")
        with tarfile.open(archive) as saved:
            (entry,) = json.load(saved.extractfile("manifest.json") or io.BytesIO())
        assert (entry["Config"], entry["RepoTags"]) == (f"{digits}.json", None)
    await user("tag", "web:1", "api:1")
    several = await user("rmi", digits[:12])
    assert (several.code, "has names in several repositories" in several.err) == (1, True)
    await user("rmi", "api:1")
    gone = await user("rmi", digits[:12])
    assert (gone.code, gone.err) == (0, "")
    assert "registry: Untagged: web:1" in gone.out.splitlines()
    assert await user.tags() == set()
    missing = await user("tag", f"sha256:{digits}", "web:1")
    assert missing == (1, "", f"Error: No such image: sha256:{digits}\n")


async def test_a_push_needs_a_login_and_two_tags_go_with_it(
    user: User, other: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = f"{other.address}/team/web"
    await user("import", str(file_system(tmp_path / "fs")), f"{there}:1")
    await user("tag", f"{there}:1", f"{there}:2")
    refused = await user("push", f"{there}:1")
    assert refused.code == 1
    assert "could not be pushed" in refused.err
    assert "authentication required" in refused.err or "no basic auth" in refused.err
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"wrong\n")))
    wrong = await user("login", "-u", "ann", "--password-stdin", other.address)
    assert (wrong.code, f"cannot log in to {other.address}: " in wrong.err) == (1, True)
    assert "invalid username/password" in wrong.err
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"right\n")))
    assert (await user("login", "-u", "ann", "--password-stdin", other.address)).out == (
        "Login Succeeded\n"
    )
    pushed = await user("push", "-a", there)
    assert (pushed.code, pushed.err) == (0, "")
    first, one, two = pushed.out.splitlines()
    assert first == f"The push refers to repository [{there}]"
    assert one.startswith("1: digest: sha256:")
    assert one.split()[-1] == two.split()[-1]
    assert (await user("search", f"{other.address}/web")).out.splitlines()[1].split() == [
        "team/web",
        "0",
    ]
    assert (await user("logout", other.address)).code == 0
    denied = await user("search", f"{other.address}/web")
    assert (denied.code, "UNAUTHORIZED: authentication required" in denied.err) == (1, True)


async def test_an_archive_of_other_files_is_refused(user: User, tmp_path: Path) -> None:
    (tmp_path / "no.tar").write_bytes(b"no archive")
    ran = await user("load", "-i", str(tmp_path / "no.tar"))
    assert (ran.code, "no tar archive" in ran.err) == (2, True)
    ran = await user("import", str(tmp_path / "no.tar"), "web")
    assert (ran.code, "no tar archive" in ran.err) == (2, True)
    ran = await user("load", "-i", str(tmp_path / "none"))
    assert (ran.code, "--input" in ran.err) == (2, True)
    assert await user.tags() == set()


async def test_what_is_stored_is_the_file_system(user: User, rig: Rig, tmp_path: Path) -> None:
    await user("import", "-m", "made", "-c", "USER web", str(file_system(tmp_path / "fs")), "web:1")
    archive = tmp_path / "saved.tar"
    assert (await user("save", "-o", str(archive), "web:1")).code == 0
    with tarfile.open(archive) as saved:
        (entry,) = json.load(saved.extractfile("manifest.json") or io.BytesIO())
        assert entry["RepoTags"] == ["web:1"]
        config = json.load(saved.extractfile(entry["Config"]) or io.BytesIO())
        layer = saved.extractfile(entry["Layers"][0])
        assert layer is not None
        with tarfile.open(fileobj=io.BytesIO(layer.read())) as files:
            assert files.getnames() == ["web"]
    assert (config["config"], config["history"][0]["comment"]) == ({"User": "web"}, "made")


async def test_what_no_tag_names_is_shown_and_pruned(user: User, rig: Rig) -> None:
    client = await rig.client("pusher", Role.OPERATOR)
    for _ in range(2):
        await rig.push(client, "web:1", os.urandom(300_000))
    rig.clock.by = 2 * HOUR
    shown = await user("system", "df", "--format", "{{.Type}} {{.TotalCount}} {{.Reclaimable}}")
    assert (shown.code, shown.err) == (0, "")
    assert shown.out.splitlines()[-1].startswith("Registry 1 30")
    would = (await user("system", "prune", "-a", "--dry-run")).out
    assert "  images of the registry: web (30" in would
    pruned = await user("system", "prune", "-af")
    assert (pruned.code, pruned.err) == (0, "")
    assert "Total reclaimed space: 30" in pruned.out
    again = (await user("system", "prune", "-a", "--dry-run")).out
    assert "images of the registry:" not in again
    assert again.endswith("Total reclaimable space: 0B\n")
    assert await user.tags() == {"web:1"}
