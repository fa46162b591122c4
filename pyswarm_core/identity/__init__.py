"""What identifies a fleet and its callers: tokens, and what a client trusts. PURE."""
