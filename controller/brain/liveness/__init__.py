"""Which agents are silent, and whether their hosts are alive. PURE."""
