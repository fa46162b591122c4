"""The real runtime keeps the contract."""

import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from agent.preflight import Preflight
from tests.fixtures.runtime_contract import RuntimeContract
from tests.integration.runtime.conftest import RealWorld


class TestConmonRuntime(RuntimeContract):
    """Runs the contract with crun."""


class TestConmonRuntimeWithRunc(RuntimeContract):
    """Runs the contract with runc, for hosts that have no crun."""

    @pytest.fixture
    async def world(self, host: Preflight, rootfs: Path) -> AsyncIterator[RealWorld]:
        runc = msgspec.structs.replace(host.binaries, oci="/usr/sbin/runc", kind="runc")
        with tempfile.TemporaryDirectory(prefix="pyswarm-runtime") as base:
            made = RealWorld(host, runc, rootfs, Path(base))
            yield made
            await made.close()
