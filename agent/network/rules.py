"""The packet filter of a host's networks as one nft ruleset. PURE.

Invariant: every rule names our own devices (by the fleet's prefix) or our own subnets, and the
policy accepts, so that no other forwarding of the host is touched. Networks are kept apart,
internal ones have no way out, nobody outside opens a connection to a task, and what leaves a
network for elsewhere carries the host's address.
"""

from collections.abc import Iterable, Sequence

from agent.network.base import OverlayWanted
from agent.network.names import Names

_RULESET = """\
table inet {table} {{
}}
delete table inet {table}
table inet {table} {{
  set same_network {{
    type ifname . ifname
{same}  }}
  set internal {{
    type ifname
{internal}  }}
  set egress {{
    type ipv4_addr
    flags interval
{egress}  }}
  chain forward {{
    type filter hook forward priority filter; policy accept;
    iifname . oifname @same_network accept
    iifname "{prefix}*" oifname "{prefix}*" drop
    oifname "{prefix}*" ct state != {{ established, related }} drop
    iifname @internal drop
  }}
  chain postrouting {{
    type nat hook postrouting priority srcnat; policy accept;
    oifname != "{prefix}*" ip saddr @egress masquerade
  }}
}}
"""


def ruleset(overlays: Sequence[OverlayWanted], names: Names) -> str:
    """Replaces the fleet's table in one transaction; "" if there is nothing to rule."""
    if not overlays:
        return ""
    ordered = sorted(overlays, key=lambda overlay: overlay.network_id)
    return _RULESET.format(
        table=names.table,
        prefix=names.prefix,
        same=_elements(pair for overlay in ordered for pair in _pairs(overlay, names)),
        internal=_elements(
            f'"{names.bridge(overlay.network_id)}"' for overlay in ordered if overlay.internal
        ),
        egress=_elements(sorted(o.subnet for o in ordered if not o.internal)),
    )


def removal(names: Names) -> str:
    """Removes the fleet's table, there or not."""
    return f"table inet {names.table} {{\n}}\ndelete table inet {names.table}\n"


def _pairs(overlay: OverlayWanted, names: Names) -> Iterable[str]:
    bridge, vxlan = names.bridge(overlay.network_id), names.vxlan(overlay.network_id)
    yield f'"{bridge}" . "{bridge}"'
    if overlay.vni:
        yield f'"{bridge}" . "{vxlan}"'
        yield f'"{vxlan}" . "{bridge}"'


def _elements(items: Iterable[str]) -> str:
    text = ", ".join(items)
    return f"    elements = {{ {text} }}\n" if text else ""
