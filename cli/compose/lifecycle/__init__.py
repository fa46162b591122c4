"""The verbs of `compose` that start, stop and remove services."""
