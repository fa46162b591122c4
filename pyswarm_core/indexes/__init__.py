"""Indexes that the state maintains: tasks by service, nodes in columns. PURE."""
