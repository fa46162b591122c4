"""Changes by users and agents: state and request in, writes out. PURE."""
