"""Services' virtual addresses inside tasks' network namespaces.

`ruleset.py` says what a namespace should hold, `nftables.py` turns it into bytes, `programs.py`
sends them.
"""
