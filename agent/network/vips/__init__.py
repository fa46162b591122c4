"""Services' virtual addresses inside tasks' network namespaces.

`ruleset.py` says what a namespace should hold, `nftables.py` and `conntrack.py` turn it into bytes,
`programs.py` sends them.
"""
