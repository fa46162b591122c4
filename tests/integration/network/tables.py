"""The tables of virtual addresses in tasks' namespaces, as nft lists them."""

import json
import time
from typing import Any

from tests.integration.network.hosts import sh


def table(netns: str) -> Any:
    """The task's table as nft prints it, in a canonical order, without handles and recorded
    addresses.
    """
    listed = json.loads(sh(f"nsenter --net={netns} nft -j list table inet pyswarm"))["nftables"][1:]
    listed = [item for item in listed if "set" not in item]
    for item in listed:
        for thing in item.values():
            thing.pop("handle", None)
            if "elem" in thing:
                thing["elem"].sort(key=json.dumps)
    return sorted(listed, key=json.dumps)


def assert_same(one: str, other: str) -> None:
    """The namespaces have the same table. The kernel rehashes large maps some time after a change,
    and a listing meanwhile has elements twice or lacks them: tables that differ are listed again.
    """
    for _ in range(20):
        if table(one) == table(other):
            return
        time.sleep(0.1)
    assert table(one) == table(other)
