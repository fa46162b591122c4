"""A playground whose network namespaces do not exist."""

from pathlib import Path

import pytest

from cli.playground import boot
from cli.playground.fleet import Fleet
from cli.playground.wires import WireFailed
from tests.fixtures import leaks


def test_links_in_namespaces_that_do_not_exist_are_refused_and_none_is_created() -> None:
    plan = Fleet(name=f"p{leaks.run_name()}"[:12], nodes=1)
    (host,) = plan.hosts
    for change in (boot.cut, boot.kill):
        with pytest.raises(WireFailed, match="pyswarm playground down"):
            change(plan, host)
    assert not Path("/run/netns", plan.lan).exists()
    assert not host.netns_path.exists()
