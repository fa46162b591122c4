"""Which agents are silent, and whether their hosts live. PURE."""
