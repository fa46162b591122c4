"""The settings of the fleet among a controller's flags."""

from controller.config import ClusterOptions
from pyswarm_core.clock import SECOND
from pyswarm_core.specs import ClusterSpec


def test_flags_that_a_former_start_had_undo_no_update() -> None:
    options = ClusterOptions(agent_grace=30 * SECOND, default_address_pool=("10.0.0.0/8",))
    first = options.applied_to(ClusterSpec())
    assert (first.agent_grace, first.default_address_pool) == (30 * SECOND, ("10.0.0.0/8",))
    updated = ClusterSpec(agent_grace=60 * SECOND)
    assert options.applied_to(updated, options.named) == updated
    other = ClusterOptions(agent_grace=45 * SECOND)
    assert other.applied_to(updated, options.named).agent_grace == 45 * SECOND
    assert options.named == (
        "agent_grace=30000000000",
        "default_address_pool=('10.0.0.0/8',)",
    )
