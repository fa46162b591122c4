"""Inspection of a container's program: why it cannot be executed, and as which user it runs."""
