"""The keys of Compose files as tables: which forms a value takes, how two files merge. PURE."""
