"""Kept writable layers outlive containers and agents, and power losses as far as a disk does."""

import asyncio
import os
import shutil

import msgspec
import pytest

from agent.runtime import mounts
from agent.runtime.base import ContainerConfig, RuntimeFailed
from tests.fixtures.runtime_contract import Behaviour, has_file, run, stop, write_file
from tests.integration.runtime.conftest import RealWorld
from tests.integration.runtime.test_adoption import run_in_killed_agent


def kept(world: RealWorld, container_id: str, *, volatile: bool = False) -> ContainerConfig:
    config = world.config(container_id, Behaviour.RUNS)
    return msgspec.structs.replace(config, layer="layer", volatile=volatile)


async def written(world: RealWorld) -> None:
    """A file was written to the layer by a container that is gone."""
    await run(world, "a0", Behaviour.RUNS, "layer")
    await write_file(world, "a0")
    await stop(world.runtime, "a0")
    await world.runtime.remove("a0")


async def test_a_killed_agents_container_keeps_its_layer(world: RealWorld) -> None:
    await written(world)
    await asyncio.to_thread(run_in_killed_agent, world, [kept(world, "a1")])
    assert await has_file(world, "a1")
    another = world.another()
    try:
        with pytest.raises(RuntimeFailed, match="in use by container a1"):
            await another.remove_layer("layer")
        await another.remove("a1")
        assert await another.layers() == ("layer",)
    finally:
        another.close()
    await run(world, "a2", Behaviour.RUNS, "layer")
    assert await has_file(world, "a2")


@pytest.mark.parametrize("step", ["bundle", "claimed", "mounted", "unmounted"])
async def test_an_agent_that_died_between_two_steps_leaves_a_layer_that_can_be_used(
    world: RealWorld, step: str
) -> None:
    """Its container is half made, or half removed."""
    await written(world)
    layout, config = world.layout, kept(world, "half")
    bundle = layout.make_bundle(config)
    layer = layout.layer("layer")
    if step != "bundle":
        layout.claim_layer("half", "layer")
    if step in ("mounted", "unmounted"):
        mounts.mount_overlay(world.layers, layer, bundle / "rootfs", volatile=False)
        (bundle / "rootfs" / "half").touch()
    if step == "unmounted":
        mounts.unmount_unused(bundle / "rootfs")
    assert [found.id for found in await world.runtime.found()] == ["half"]
    if step != "bundle":
        with pytest.raises(RuntimeFailed, match="in use by container half"):
            await run(world, "a1", Behaviour.RUNS, "layer")
    await world.runtime.remove("half")
    await run(world, "a1", Behaviour.RUNS, "layer")
    assert await has_file(world, "a1")


async def test_after_a_power_loss_nobody_holds_a_layer(world: RealWorld) -> None:
    """The bundle was in memory, the layer is on disk."""
    await written(world)
    bundle = world.layout.make_bundle(kept(world, "lost"))
    world.layout.claim_layer("lost", "layer")
    shutil.rmtree(bundle)
    await run(world, "a1", Behaviour.RUNS, "layer")
    assert await has_file(world, "a1")


async def test_a_layer_may_be_mounted_volatile_and_durable_in_turn(world: RealWorld) -> None:
    await written(world)
    for number, volatile in enumerate((True, True, False, True), 1):
        await world.runtime.create(kept(world, f"a{number}", volatile=volatile))
        await world.runtime.start(f"a{number}")
        assert await has_file(world, f"a{number}")
        await world.runtime.remove(f"a{number}")


async def test_a_layer_in_use_on_the_host_is_not_taken_from_its_container(world: RealWorld) -> None:
    """A detached mount would go on writing to the layer beside the next container's."""
    await run(world, "a1", Behaviour.RUNS, "layer")
    inside = os.open(world.layout.bundle("a1") / "rootfs", os.O_RDONLY)
    try:
        with pytest.raises(OSError, match="unmount"):
            await world.runtime.remove("a1")
        with pytest.raises(RuntimeFailed, match="in use by container a1"):
            await run(world, "a2", Behaviour.RUNS, "layer")
    finally:
        os.close(inside)
    await world.runtime.remove("a1")
    await run(world, "a2", Behaviour.RUNS, "layer")
