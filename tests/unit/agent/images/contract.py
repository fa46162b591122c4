"""What every `Images` promises, fake or real. Subclass it and provide the `host` fixture."""

import asyncio
from typing import Protocol

import pytest

from agent.images.base import (
    Credentials,
    ImageConfig,
    ImageInUse,
    ImageNotFound,
    Images,
    PullPhase,
    PullPolicy,
    PullProgress,
    RegistryUnavailable,
    Unauthorized,
)
from pyswarm_core.errors import InvalidArgument

RIGHT = Credentials(username="ann", password="right")
WRONG = Credentials(username="ann", password="wrong")


class Host(Protocol):
    """One host's images, and the registry it pulls from."""

    images: Images

    def name(self, rest: str) -> str:
        """The full reference of `rest` at the registry."""
        ...

    def push(self, rest: str, config: ImageConfig) -> None:
        """Offer an image."""
        ...

    def pulls(self) -> int:
        """How often an image was fetched from the registry."""
        ...

    def requires_login(self) -> None:
        """From now on only RIGHT may pull."""
        ...

    def go_silent(self) -> None:
        """From now on the registry takes connections and never answers."""
        ...


class ImagesContract:
    """The promises."""

    async def test_a_pulled_image_says_how_to_run_it(self, host: Host) -> None:
        config = ImageConfig(
            entrypoint=("/bin/a",), cmd=("b",), env=("C=d",), user="1:2", workdir="/w"
        )
        host.push("web:1", config)
        image = await host.images.resolve(host.name("web:1"))
        assert image.config == config
        assert image.names == (host.name("web:1"),)
        assert image.layers
        assert image.digest.startswith("sha256:")

    async def test_a_local_image_is_not_asked_for_again(self, host: Host) -> None:
        host.push("web:1", ImageConfig())
        first = await host.images.resolve(host.name("web:1"))
        host.go_silent()
        assert await host.images.resolve(host.name("web:1")) == first
        assert host.pulls() == 1

    async def test_concurrent_callers_share_one_pull_and_its_progress(self, host: Host) -> None:
        host.push("web:1", ImageConfig())
        heard: list[list[PullProgress]] = [[] for _ in range(20)]
        async with asyncio.TaskGroup() as group:
            calls = [
                group.create_task(host.images.resolve(host.name("web:1"), None, one.append))
                for one in heard
            ]
        assert len({call.result().id for call in calls}) == 1
        assert host.pulls() == 1
        assert all(one[-1].phase is PullPhase.STORING for one in heard)

    async def test_a_moved_tag_is_seen_by_a_pull_only(self, host: Host) -> None:
        host.push("web:1", ImageConfig(user="1"))
        old = await host.images.resolve(host.name("web:1"))
        host.push("web:1", ImageConfig(user="2"))
        assert await host.images.resolve(host.name("web:1")) == old
        new = await host.images.pull(host.name("web:1"))
        assert new.config.user == "2"
        assert await host.images.resolve(host.name("web:1")) == new
        names = {image.id: image.names for image in (await host.images.stored()).images}
        assert names == {new.id: (host.name("web:1"),), old.id: ()}

    async def test_a_digest_that_is_here_is_never_asked_for(self, host: Host) -> None:
        host.push("web:1", ImageConfig())
        digest = (await host.images.resolve(host.name("web:1"))).digest
        host.go_silent()
        pinned = host.name(f"web:1@{digest}")
        assert (await host.images.resolve(pinned, policy=PullPolicy.ALWAYS)).digest == digest

    async def test_an_image_is_pulled_by_digest(self, host: Host) -> None:
        host.push("web:1", ImageConfig())
        digest = await host.images.resolve_digest(host.name("web:1"))
        image = await host.images.resolve(host.name(f"web@{digest}"))
        assert image.digest == digest
        assert image.names == (host.name(f"web@{digest}"),)

    async def test_a_configuration_is_read_without_a_pull(self, host: Host) -> None:
        given = ImageConfig(exposed_ports=("53/udp", "80/tcp"), user="web")
        host.push("web:1", given)
        assert await host.images.configuration(host.name("web:1")) == given
        assert (await host.images.stored()).images == ()
        await host.images.resolve(host.name("web:1"))
        host.push("web:1", ImageConfig())
        assert await host.images.configuration(host.name("web:1")) == given
        digest = await host.images.resolve_digest(host.name("web:1"))
        there = await host.images.configuration(host.name(f"web@{digest}"))
        assert there.exposed_ports == ()

    async def test_an_unknown_image_is_not_found(self, host: Host) -> None:
        host.push("web:1", ImageConfig())
        for missing in ("web:2", "other:1"):
            with pytest.raises(ImageNotFound, match=missing) as caught:
                await host.images.resolve(host.name(missing))
            assert not caught.value.temporary
        for ask in (host.images.resolve_digest, host.images.configuration):
            with pytest.raises(ImageNotFound):
                await ask(host.name("web:2"))
        assert (await host.images.stored()).images == ()

    async def test_a_registry_that_requires_a_login_refuses_others(self, host: Host) -> None:
        host.push("web:1", ImageConfig())
        host.requires_login()
        for credentials in (None, WRONG):
            with pytest.raises(Unauthorized, match="web:1") as caught:
                await host.images.resolve(host.name("web:1"), credentials)
            assert "wrong" not in str(caught.value)
        digest = await host.images.resolve_digest(host.name("web:1"), RIGHT)
        assert (await host.images.resolve(host.name("web:1"), RIGHT)).digest == digest

    async def test_a_wrong_login_does_not_spoil_anothers_pull(self, host: Host) -> None:
        host.push("web:1", ImageConfig())
        host.requires_login()
        wrong, right = await asyncio.gather(
            host.images.resolve(host.name("web:1"), WRONG),
            host.images.resolve(host.name("web:1"), RIGHT),
            return_exceptions=True,
        )
        assert isinstance(wrong, Unauthorized)
        assert not isinstance(right, BaseException)

    async def test_a_silent_registry_is_a_temporary_error(self, host: Host) -> None:
        host.go_silent()
        with pytest.raises(RegistryUnavailable, match="did not answer") as caught:
            await host.images.resolve(host.name("web:1"))
        assert caught.value.temporary

    async def test_a_caller_that_leaves_does_not_end_the_others_pull(self, host: Host) -> None:
        host.push("web:1", ImageConfig())
        async with asyncio.TaskGroup() as group:
            leaver = group.create_task(host.images.resolve(host.name("web:1")))
            stayer = group.create_task(host.images.resolve(host.name("web:1")))
            await asyncio.sleep(0)
            leaver.cancel()
        assert stayer.result().names == (host.name("web:1"),)
        assert host.pulls() == 1

    @pytest.mark.parametrize(
        "hostile", ["", "../../etc/passwd", "--help", "web;reboot", "docker://web", "web:1\n"]
    )
    async def test_a_malformed_reference_asks_nobody(self, host: Host, hostile: str) -> None:
        images = host.images
        for call in (images.resolve, images.resolve_digest, images.configuration):
            with pytest.raises(InvalidArgument):
                await call(hostile)
        assert host.pulls() == 0

    async def test_a_removed_image_is_pulled_again(self, host: Host) -> None:
        host.push("web:1", ImageConfig())
        image = await host.images.resolve(host.name("web:1"))
        await host.images.delete(image.id, [host.name("web:1")])
        assert (await host.images.stored()).images == ()
        await host.images.resolve(host.name("web:1"))
        assert host.pulls() == 2

    async def test_names_are_deleted_and_with_the_last_one_the_image(self, host: Host) -> None:
        one, two = host.name("web:1"), host.name("web:2")
        host.push("web:1", ImageConfig())
        await host.images.resolve(one)
        host.push("web:2", ImageConfig())
        image = await host.images.resolve(two)
        assert image.names == (one, two)
        removed = await host.images.delete(image.id, [one], [image.id])
        assert (removed.untagged, removed.deleted) == ((one,), False)
        (left,) = (await host.images.stored()).images
        assert left.names == (two,)
        for names in ([two], ()):
            with pytest.raises(ImageInUse, match="web:2"):
                await host.images.delete(image.id, names, [image.id])
        assert (await host.images.stored()).images == (left,)
        removed = await host.images.delete(image.id)
        assert (removed.untagged, removed.deleted) == ((two,), True)
        assert (await host.images.stored()).images == ()
        with pytest.raises(ImageNotFound):
            await host.images.delete(image.id)

    async def test_an_image_without_a_name_is_deleted(self, host: Host) -> None:
        host.push("web:1", ImageConfig(user="1"))
        old = await host.images.resolve(host.name("web:1"))
        host.push("web:1", ImageConfig(user="2"))
        new = await host.images.pull(host.name("web:1"))
        with pytest.raises(ImageInUse):
            await host.images.delete(old.id, (), [old.id])
        assert (await host.images.delete(old.id)).deleted
        assert [one.id for one in (await host.images.stored()).images] == [new.id]

    async def test_a_configuration_blob_is_that_of_the_image(self, host: Host) -> None:
        host.push("web:1", ImageConfig(user="web"))
        image = await host.images.resolve(host.name("web:1"))
        blob = await host.images.blob(image.id)
        assert b'"web"' in blob.config
        assert len(blob.layer_sizes) == len(image.layers)
        with pytest.raises(ImageNotFound):
            await host.images.blob("0" * 64)
