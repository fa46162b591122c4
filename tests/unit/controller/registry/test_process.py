"""The process of a registry as its controller starts and ends it."""

from pathlib import Path

from controller.registry.process import RegistryProcess


async def _never() -> bool:
    return False


async def test_one_that_is_about_to_end_is_reaped_too(tmp_path: Path) -> None:
    """As of a process that ends, its command line does not name the configuration any more."""
    binary = tmp_path / "ending"
    binary.write_text("#!/bin/sh\nexec sleep 0.3\n")
    binary.chmod(0o755)
    process = RegistryProcess(tmp_path, "one", str(binary), _never)
    process._launch(tmp_path / "one-1.yml")
    child = process._child
    assert child is not None
    assert process.running() is None
    await process.stop()
    assert child.returncode == 0
