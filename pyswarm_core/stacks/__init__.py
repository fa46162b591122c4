"""Stacks: the services of Compose files, and what they need, as one object. PURE."""
