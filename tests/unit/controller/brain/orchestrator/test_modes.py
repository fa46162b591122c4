"""Each mode of a service has its orchestrator."""

from typing import get_args

import pytest
from msgspec.structs import replace

from controller.brain.orchestrator import global_service, replicated_service
from controller.brain.orchestrator.modes import orchestrator_of
from pyswarm_core.specs import SERVICE_MODES, ServiceMode
from tests.fixtures import build


@pytest.mark.parametrize("mode", SERVICE_MODES.values(), ids=SERVICE_MODES)
def test_every_mode_has_an_orchestrator(mode: type[ServiceMode]) -> None:
    service = build.service("web")
    assert orchestrator_of(replace(service, spec=replace(service.spec, mode=mode()))) is not None


def test_the_names_are_of_all_modes() -> None:
    assert set(SERVICE_MODES.values()) == set(get_args(ServiceMode))


def test_replicated_services_and_global_ones_have_their_own() -> None:
    assert orchestrator_of(build.service("web", replicas=2)) is replicated_service
    assert orchestrator_of(build.service("agent", replicas=None)) is global_service
