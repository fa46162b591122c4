"""Indexes of the state, kept in step with it: tasks by service, nodes in columns. PURE."""
