"""The fleet's registry: its processes, and what callers may do with it."""
